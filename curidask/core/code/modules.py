"""A module's source as a table: which of its statements bind a name, and which change what it is bound to."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from curidask.core.code.canonical_source import Function, acting, canonical, parse
from curidask.core.code.names import Import, Names, Use, bound_by, bound_in, import_of_call, imported, names_of

Definition = Function | ast.ClassDef

HOOKS = ("__init_subclass__",)
STAGES = ("stage", "aggregate")

QUIET = frozenset(("print", "logging", "warnings"))
"""What is called for what it tells."""

TELLING = frozenset(("debug", "info", "warning", "error", "exception", "critical", "log", "setLevel", "addHandler"))
"""Methods of a logger."""


@dataclass(eq=False)
class Statement:
    """A statement that stands on its own in a module, in a cell or in the function that a stage was made in.

    Attributes
    ----------
    lines : sequence of str
        The source that it is in.
    is_cell : bool
        Whether that is a cell of a notebook or a line of a session.
    """

    node: Any
    lines: list[str]
    is_cell: bool = False
    _texts: dict[Any, str] = field(default_factory=dict, repr=False)

    @functools.cached_property
    def is_import(self) -> bool:
        """Whether it does nothing but import."""
        return isinstance(self.node, ast.Import | ast.ImportFrom)

    @functools.cached_property
    def bound(self) -> dict[str, tuple[Import, ...]]:
        """The names that it binds, with what imports give them."""
        found: dict[str, tuple[Import, ...]] = {}
        for name, what in bound_by([self.node]):
            found[name] = found.get(name, ()) + ((what,) if isinstance(what, Import) else ())
        return found

    @functools.cached_property
    def names(self) -> Names:
        """The names that it uses, without those of its decorators."""
        return names_of(self.node)

    @functools.cached_property
    def decorators(self) -> list[tuple[ast.expr, Names]]:
        """The decorators of a definition, each with the names that it uses."""
        return [(decorator, names_of(decorator)) for decorator in getattr(self.node, "decorator_list", [])]

    @functools.cached_property
    def changes(self) -> tuple[Use, ...]:
        """What it changes of names that it does not bind, when it is run."""
        if is_main_guard(self.node):
            return ()
        if isinstance(self.node, Definition):
            return tuple(_owner(use) for decorator, _ in self.decorators for use in chain_of(decorator) if use.steps)
        called = self.node.value if isinstance(self.node, ast.Expr) and not self.is_cell else None
        owners = [_owner(use) for use in chain_of(called) if use.steps] if isinstance(called, ast.Call) else []
        is_telling = any(use.steps and use.steps[-1] in TELLING for use in chain_of(called)) if called else False
        return (*self.names.changes, *(use for use in owners if use.root not in QUIET and not is_telling))

    @functools.cached_property
    def filled(self) -> tuple[Use, ...]:
        """What it gives to a function that it calls for its effect."""
        called = self.node.value if isinstance(self.node, ast.Expr) else None
        if self.is_cell or not isinstance(called, ast.Call) or getattr(called.func, "id", "") in QUIET:
            return ()
        given = [*called.args, *(keyword.value for keyword in called.keywords)]
        return tuple(use for part in given if isinstance(part, ast.Name) for use in names_of(part).uses)

    @functools.cached_property
    def calls(self) -> tuple[Use, ...]:
        """What it calls for its effects: what it decorates with, and the bases that a class is made known to."""
        if isinstance(self.node, Definition):
            parts = [*self.node.decorator_list, *self.bases]
            return tuple(use for part in parts for use in chain_of(part))
        is_quiet = self.is_cell or isinstance(self.node, ast.Assign | ast.AnnAssign) or is_main_guard(self.node)
        return () if is_quiet else self.names.calls

    @functools.cached_property
    def settings(self) -> list[tuple[Use, Statement]]:
        """What it may set for the whole process, each with the statement in it that does: no loop, no function."""
        found: list[tuple[Use, Statement]] = []
        pending: list[Any] = [] if self.is_cell or is_main_guard(self.node) else [self.node]
        while pending:
            node = pending.pop()
            if isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
                pending += [
                    part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt | ast.excepthandler)
                ]
                continue
            inner = self if node is self.node else Statement(node, self.lines)
            called = node.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
            is_set = isinstance(node, ast.Assign | ast.AugAssign | ast.Delete)
            uses = chain_of(called) if called else inner.names.changes if is_set else ()
            found += [(use, inner) for use in uses if use.root not in QUIET and (use.steps or ("",))[-1] not in TELLING]
        return found

    @property
    def bases(self) -> list[ast.expr]:
        """Those of a class, with its metaclass."""
        node = self.node
        parts = [*node.bases, *(k.value for k in node.keywords)] if isinstance(node, ast.ClassDef) else []
        return [part.value if isinstance(part, ast.Subscript) else part for part in parts]

    @functools.cached_property
    def hints(self) -> list[ast.expr]:
        """The type hints in it."""
        parts = ast.walk(self.node)
        found = (getattr(part, name, None) for part in parts for name in ("annotation", "returns"))
        return [hint for hint in found if hint is not None]

    @functools.cached_property
    def sees_subclasses(self) -> bool:
        """Whether it is a class that does something when another is derived from it."""
        hooks = ("__init_subclass__", "__new__", "__init__", "__prepare__") if self._is_metaclass() else HOOKS
        body = self.node.body if isinstance(self.node, ast.ClassDef) else []
        return any(getattr(part, "name", "") in hooks for part in body)

    @property
    def is_stage(self) -> bool:
        """Whether it looks like a stage, which does nothing where it is called but to be noted."""
        names = (use.label.rpartition(".")[2] for decorator, _ in self.decorators for use in chain_of(decorator))
        return any(name in STAGES for name in names)

    def _is_metaclass(self) -> bool:
        return any(getattr(base, "id", "") == "type" for base in self.bases)

    @functools.cached_property
    def imports(self) -> tuple[Import, ...]:
        """All that is imported anywhere in it; a module that is imported by its full name comes as that, too."""
        found: dict[Import, None] = {}
        for part in ast.walk(self.node) if self.is_import or "import" in self.source else ():
            if isinstance(part, ast.Import | ast.ImportFrom):
                found |= {Import(alias.name): None for alias in part.names if isinstance(part, ast.Import)}
                found |= {what: None for _, what in imported(part)}
            elif (what := import_of_call(part)) is not None:
                found[what] = None
        return tuple(found)

    @functools.cached_property
    def renewed(self) -> frozenset[str]:
        """The names that it binds whatever they were before."""
        if isinstance(self.node, Definition) or self.is_import:
            return frozenset(self.bound)
        value = self.node.value if isinstance(self.node, ast.Assign | ast.AnnAssign) else None
        used = {use.root for use in names_of(value).uses} if value is not None else self.bound.keys()
        return frozenset(name for name in self.bound if name not in used)

    @property
    def source(self) -> str:
        """Its source as it stands."""
        first = min([self.node.lineno, *(d.lineno for d in getattr(self.node, "decorator_list", []))])
        return "".join(self.lines[first - 1 : self.node.end_lineno])

    def canonical(self, without: tuple[ast.expr, ...], is_local: Callable[[str], bool]) -> str:
        """Its text, see `curidask.core.code.canonical_source.canonical`."""
        own = frozenset(what.module for what in self.imports if not what.level and is_local(what.module))
        key = (without, own)
        if key not in self._texts:
            self._texts[key] = canonical(self.node, without, own.__contains__)
        return self._texts[key]


def _owner(use: Use) -> Use:
    return Use(use.root, use.steps[:-1], use.label.rpartition(".")[0])


def chain_of(called: ast.expr) -> tuple[Use, ...]:
    """What an expression calls, or is, where this is a name with attributes."""
    of = called.func if isinstance(called, ast.Call) else called
    inner: ast.expr = of
    while isinstance(inner, ast.Attribute):
        inner = inner.value
    return names_of(of).uses if isinstance(inner, ast.Name) else ()


def _bindings(node: ast.AST) -> Iterator[tuple[list[str], list[str]]]:
    """Names that code binds, and the names of what they stand for then, or of what that is a part of."""
    for part in ast.walk(node):
        if isinstance(part, ast.Assign | ast.AnnAssign | ast.NamedExpr) and part.value is not None:
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            root = part.value
            while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
                root = root.func if isinstance(root, ast.Call) else root.value
            is_made = isinstance(part.value, ast.Call) and not isinstance(part.value.func, ast.Attribute)
            yield _names(targets), [] if is_made else _names([root])
        elif isinstance(part, ast.For | ast.AsyncFor):
            yield _names([part.target]), _names([part.iter])


def _names(parts: Iterable[ast.AST]) -> list[str]:
    return [each.id for part in parts for each in ast.walk(part) if isinstance(each, ast.Name)]


def _with_aliases(names: set[str], aliases: Mapping[str, set[str]]) -> set[str]:
    pending, found = list(names), set(names)
    while pending:
        new = aliases.get(pending.pop(), set()) - found
        found |= new
        pending += new
    return found


def is_main_guard(node: ast.AST) -> bool:
    """Whether it is ``if __name__ == "__main__":``, which does nothing when the module is imported."""
    return isinstance(node, ast.If) and any(getattr(part, "id", "") == "__name__" for part in ast.walk(node.test))


# --- tables ----------------------------------------------------------------------------------------------------------
@dataclass(eq=False)
class Table:
    """The names of a module, or of a function's body.

    Attributes
    ----------
    parameters : frozenset of str
        Of a function.
    is_cells : bool
        Whether the last statement that binds a name is the one that counts.
    entries : dict of str to list of Statement
        Those that bind a name, in order, and between them those that change it.
    scopes : dict
        What was made of the table and is kept with it.
    """

    statements: list[Statement]
    parameters: frozenset[str] = frozenset()
    is_cells: bool = False
    entries: dict[str, list[Statement]] = field(default_factory=dict)
    scopes: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for statement in self.statements:
            for name in statement.bound:
                self.entries.setdefault(name, []).append(statement)
        bound = {name: set(map(id, statements)) for name, statements in self.entries.items()}
        for name, statements in self._changing().items():
            known = [s for s in statements if id(s) not in bound[name]]
            if known:
                order = {id(statement): place for place, statement in enumerate(self.statements)}
                self.entries[name] = sorted([*self.entries[name], *known], key=lambda s: order[id(s)])
        if self.is_cells:
            self.entries = {name: _last(name, statements) for name, statements in self.entries.items()}

    def _changing(self) -> dict[str, list[Statement]]:
        found: dict[str, list[Statement]] = {}
        aliases = self._aliases()
        for statement in self.statements:
            roots = {use.root for use in statement.changes if isinstance(use.root, str)}
            roots |= {use.root for use in statement.filled if isinstance(use.root, str) and self.is_constant(use.root)}
            called = statement.node.value if isinstance(statement.node, ast.Expr) else None
            if isinstance(called, ast.Call) and isinstance(called.func, ast.Name) and called.func.id in aliases:
                roots.add(called.func.id)
            for root in _with_aliases(roots, aliases) & self.entries.keys():
                if not (isinstance(statement.node, Definition) and not self.is_changeable(root)):
                    found.setdefault(root, []).append(statement)
        return found

    def _aliases(self) -> dict[str, set[str]]:
        """The constants that a name may stand for, or for a part of them, by what binds it."""
        found: dict[str, set[str]] = {}
        for statement in self.statements:
            if isinstance(statement.node, Definition) or statement.is_import:
                continue
            for target, value in _bindings(statement.node):
                roots = {name for name in value if self.is_constant(name)}
                for name in target:
                    found.setdefault(name, set()).update(roots - {name})
        return {name: roots for name, roots in found.items() if roots}

    def is_constant(self, name: str) -> bool:
        """Whether a name is neither a definition nor imported."""
        bound = [statement for statement in self.entries.get(name, ()) if name in statement.bound]
        return bool(bound) and not any(s.bound[name] or isinstance(s.node, Definition) for s in bound)

    def is_contested(self, name: str) -> bool:
        """Whether several statements bind a name, an import among them: which is the last one decides."""
        bound = [statement for statement in self.entries.get(name, ()) if name in statement.bound]
        return len(bound) > 1 and any(statement.is_import for statement in bound)

    def is_repeated(self, name: str) -> bool:
        """Whether a name is bound several times, or in a loop, or what it is bound to is changed in place."""
        statements = self.entries.get(name, ())
        nodes = [statement.node for statement in statements if name in statement.bound]
        bound = [what for other, what in bound_by(nodes) if other == name]
        loops = (ast.For, ast.While, ast.AsyncFor)
        is_in_loop = any(
            isinstance(part, loops) for n in nodes if not isinstance(n, Definition) for part in ast.walk(n)
        )
        is_changed = len(statements) > len(nodes)
        return not any(bound) and (len(bound) > 1 or is_in_loop or is_changed)

    def is_changeable(self, name: str) -> bool:
        """Whether a decorator that is asked of a name may change it: not where it is imported."""
        return not any(statement.bound.get(name) for statement in self.entries.get(name, ()))

    @functools.cached_property
    def stars(self) -> tuple[Import, ...]:
        """The modules that all is imported from, the last first."""
        return tuple(reversed([what for s in self.statements for what in s.bound.get("*", ())]))

    @functools.cached_property
    def exported(self) -> frozenset[str] | None:
        """The names in ``__all__``; None where it is not there or is not written out."""
        found: list[str] = []
        for statement in self.entries.get("__all__", ()):
            value = getattr(statement.node, "value", None)
            if not isinstance(value, ast.List | ast.Tuple):
                return None
            found += [str(part.value) for part in value.elts if isinstance(part, ast.Constant)]
        return frozenset(found) if "__all__" in self.entries else None

    @functools.cached_property
    def imports(self) -> tuple[Import, ...]:
        """All that is imported, within functions too."""
        return tuple(dict.fromkeys(what for statement in self.statements for what in statement.imports))


def _last(name: str, statements: list[Statement]) -> list[Statement]:
    """What a name is in cells that were run in this order: what bound it last, and changed it since, each once."""
    start = 0
    for index, statement in enumerate(statements):
        if name in statement.renewed:
            start = index
    if start == len(statements) - 1:
        return statements[start:]
    kept: dict[str, Statement] = {}
    for statement in statements[start:]:
        kept.setdefault(statement.canonical((), lambda module: False), statement)
    return list(kept.values())


# --- texts -----------------------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=4096)
def statements_of(text: str, is_cell: bool = False) -> tuple[Statement, ...] | None:
    """The statements of a source; None where it is none."""
    try:
        tree = parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    lines = [f"{line}\n" for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return tuple(Statement(node, lines, is_cell) for node in acting(tree.body))


@functools.lru_cache(maxsize=4096)
def table_of(texts: tuple[str, ...]) -> Table | None:
    """The table of a module's source; None where the source is none."""
    parts = [statements_of(text) for text in texts]
    return None if None in parts else Table([statement for part in parts if part for statement in part])


@functools.lru_cache(maxsize=4)
def table_of_cells(texts: tuple[str, ...]) -> Table:
    """The table of all cells, without those whose source is none."""
    parts = [statements_of(text, is_cell=True) for text in texts]
    return Table([statement for part in parts if part for statement in part], is_cells=True)


def table_of_function(node: Any, lines: list[str]) -> Table:
    """The table of a function's body, for what is defined in it."""
    scope = bound_in(node)
    statements = [Statement(part, lines) for part in acting(node.body)]
    assigned = {name for statement in statements for name in statement.bound}
    own = {name for name in scope if name not in assigned}
    return Table(statements, frozenset(own))


def digest(*texts: str) -> str:
    """The digest of texts one after another, each with its length."""
    made = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        made.update(b"%d:" % len(data) + data)
    return made.hexdigest()
