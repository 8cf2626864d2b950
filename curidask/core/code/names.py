"""What names from around it a piece of code uses, changes and calls, by its syntax alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from curidask.core.code.canonical_source import Function, is_for_types


@dataclass(frozen=True, slots=True)
class Import:
    """What an import gives to a name.

    Attributes
    ----------
    level : int
        How many dots stand before it.
    name : str
        What is taken from it; empty for the module itself.
    """

    module: str
    level: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """A name from around the code, with the attributes that are asked of it one after another.

    Attributes
    ----------
    root : str or tuple of Import
        The name, or what was imported under it within the code.
    steps : tuple of str
        The attributes.
    label : str
        All of it as it is written.
    is_sure : bool
        Whether it can be no name of the class whose body it is in.
    """

    root: str | tuple[Import, ...]
    steps: tuple[str, ...]
    label: str
    is_sure: bool = True


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something that cannot be followed.

    Attributes
    ----------
    of : Use or None
        Only where this is a module.
    """

    what: str
    line: int
    of: Use | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """What a piece of code does with names from around it.

    Attributes
    ----------
    uses : tuple of Use
        In the order of their labels.
    changes : tuple of Use
        What it assigns to, in part, or calls a method of that changes it.
    """

    uses: tuple[Use, ...] = ()
    changes: tuple[Use, ...] = ()
    calls: tuple[Use, ...] = ()
    unseen: tuple[Unseen, ...] = ()

    def __add__(self, other: Names) -> Names:
        return Names(
            _ordered(dict.fromkeys((*self.uses, *other.uses))),
            self.changes + other.changes,
            self.calls + other.calls,
            self.unseen + other.unseen,
        )


def _ordered(uses: Iterable[Use]) -> tuple[Use, ...]:
    return tuple(sorted(uses, key=lambda use: use.label))


CHANGING = (
    frozenset(("append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "register"))
    | frozenset(("update", "setdefault", "popitem", "move_to_end", "add", "discard", "difference_update"))
    | frozenset(("intersection_update", "symmetric_difference_update", "appendleft", "extendleft", "popleft", "rotate"))
)
"""Methods that change what they are called on."""

_TOLD_ABOUT = frozenset(("__subclasses__", "__doc__", "__annotations__"))
"""What gives code, or what of code does not count."""

WHOLE = "*"
"""Stands for all of the module that the code is in."""

Binding: TypeAlias = Import | str | None
"""What an import gives to a name, "global" or "nonlocal" where it is declared as such, or None for all else."""

Scope: TypeAlias = Mapping[str, tuple[Import, ...] | str]
"""What is bound in a function, by name: "global", or what imports give, if it is imported."""


class _Body(dict[str, "tuple[Import, ...] | str"]):
    """What is bound in the body of a class, which functions within it do not see."""


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def names_of(*nodes: ast.AST) -> Names:
    """What these pieces of code use. Of a definition the decorators are left out."""
    reader = _Reader()
    for node in nodes:
        if isinstance(node, Function | ast.ClassDef):
            reader.pending += reader.of_definition(node, ())
        else:
            reader.pending.append((node, ()))
    reader.read()
    return Names(
        _ordered(reader.uses),
        tuple(reader.changes),
        tuple(reader.calls),
        tuple(reader.unseen),
    )


@dataclass(slots=True)
class _Reader:
    """One pass; a stack, since code may be nested more deeply than Python calls."""

    uses: dict[Use, None] = field(default_factory=dict)
    changes: dict[Use, None] = field(default_factory=dict)
    calls: dict[Use, None] = field(default_factory=dict)
    unseen: list[Unseen] = field(default_factory=list)
    pending: list[tuple[ast.AST, tuple[Scope, ...]]] = field(default_factory=list)

    def read(self) -> None:
        while self.pending:
            node, scopes = self.pending.pop()
            handle = _HANDLERS.get(type(node))
            inner = ast.iter_child_nodes(node) if handle is None else handle(self, node, scopes)
            self.pending += [part if isinstance(part, tuple) else (part, scopes) for part in inner]

    # --- definitions: what is evaluated around them, and what in them ------------------------------------------------
    def of_definition(self, node: Any, scopes: tuple[Scope, ...]) -> Iterator[Any]:
        if isinstance(node, ast.ClassDef):
            body = _Body((name, "class") for name, _ in bound_by(node.body))
            around = (*scopes, {parameter.name: () for parameter in getattr(node, "type_params", ())})
            yield from ((part, around) for part in (*node.bases, *node.keywords))
            yield from ((part, (*around, body)) for part in node.body)
            return
        arguments = node.args
        yield from ((part, scopes) for part in (*arguments.defaults, *filter(None, arguments.kw_defaults)))
        inside = (*_seen_within(scopes), bound_in(node))
        if isinstance(node, ast.Lambda):
            yield node.body, inside
            return
        for decorator in node.decorator_list:  # functools.singledispatch reads the type of the first argument
            if isinstance(decorator, ast.Attribute) and decorator.attr == "register":
                yield from ((arg.annotation, scopes) for arg in arguments.args[:1] if arg.annotation)
        yield from ((part, inside) for part in node.body)

    def nested(self, node: Any, scopes: tuple[Scope, ...]) -> Iterator[Any]:
        yield from node.decorator_list
        yield from self.of_definition(node, scopes)

    def comprehension(self, node: Any, scopes: tuple[Scope, ...]) -> Iterator[Any]:
        inside = (*_seen_within(scopes), bound_in(node))
        first, *others = node.generators
        yield first.iter, scopes
        yield from ((part, inside) for part in (first.target, *first.ifs, *others))
        results = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        yield from ((part, inside) for part in results)

    # --- what stands for something else ------------------------------------------------------------------------------
    def conditional(self, node: ast.If, scopes: tuple[Scope, ...]) -> Iterator[ast.AST]:
        yield from node.orelse if is_for_types(node.test) else ast.iter_child_nodes(node)

    def annotated(self, node: ast.AnnAssign, scopes: tuple[Scope, ...]) -> Iterator[ast.AST]:
        self._changed(node.target, scopes)
        yield node.target
        yield from [node.value] if node.value is not None else []
        yield from (part for part in ast.walk(node.annotation) if isinstance(part, ast.Call))

    def assignment(self, node: Any, scopes: tuple[Scope, ...]) -> Iterator[ast.AST]:
        for target in node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]:
            for part in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
                self._changed(part, scopes)
        is_import = isinstance(node, ast.Assign) and import_by_call(node) is not None  # under the name that it gets
        yield from node.targets if is_import else ast.iter_child_nodes(node)

    def _changed(self, target: ast.expr, scopes: tuple[Scope, ...]) -> None:
        if not isinstance(target, ast.Name) or self._is_global(target, scopes):
            self._note(self.changes, _assigned(target), scopes)

    def _is_global(self, node: ast.Name, scopes: tuple[Scope, ...]) -> bool:
        """Whether a function assigns to a name of its module."""
        return bool(scopes) and self._look_up(node.id, scopes) == "global"

    # --- names -------------------------------------------------------------------------------------------------------
    def chain(self, node: Any, scopes: tuple[Scope, ...]) -> Iterator[ast.AST]:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) and not self._is_global(node, scopes):
            return  # its own
        if isinstance(node, ast.Attribute) and node.attr in CHANGING:  # which may be called elsewhere
            self._note(self.changes, _assigned(node.value), scopes)
        if self._note(self.uses, node, scopes) is None and isinstance(node, ast.Attribute):
            yield node.value

    def subscript(self, node: ast.Subscript, scopes: tuple[Scope, ...]) -> Iterator[ast.AST]:
        """A name that is asked of ``globals()``, or what has elements."""
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if self._is_builtin(called, "globals", scopes) and isinstance(node.slice, ast.Constant):
            yield ast.Name(str(node.slice.value), ast.Load())
        else:
            of = node.value
            if isinstance(of, ast.Attribute) and of.attr == "modules" and getattr(of.value, "id", "") == "sys":
                self.unseen.append(Unseen("sys.modules", node.lineno))
            yield from ast.iter_child_nodes(node)

    def call(self, node: ast.Call, scopes: tuple[Scope, ...]) -> Iterator[ast.AST]:
        if self._note(self.uses, node, scopes) is not None:  # `getattr` and `import_module` by a name that is written
            yield from node.args[2:]
            return
        self._dynamic(node, scopes)
        if self._is_builtin(node.func, "setattr", scopes) and node.args:
            self._note(self.changes, node.args[0], scopes)
        self._note(self.calls, node.func, scopes)
        yield from ast.iter_child_nodes(node)

    def _dynamic(self, node: ast.Call, scopes: tuple[Scope, ...]) -> None:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name == "import_module" or self._is_builtin(node.func, "__import__", scopes):
            self.unseen.append(Unseen(name, node.lineno))
        if name in ("eval", "exec", "globals") and self._is_builtin(node.func, name, scopes):
            self.unseen.append(Unseen(name, node.lineno))
            if name == "globals":
                self.uses[Use(WHOLE, (), WHOLE)] = None
        if self._is_builtin(node.func, "getattr", scopes) and len(node.args) > 1:
            of = self._use(node.args[0], scopes)
            self.unseen += [Unseen("getattr by a computed name", node.lineno, of)] if of and of.root else []

    def _is_builtin(self, node: Any, name: str, scopes: tuple[Scope, ...]) -> bool:
        return isinstance(node, ast.Name) and node.id == name and self._look_up(name, scopes) == "global"

    def _note(self, noted: dict[Use, None], node: ast.AST, scopes: tuple[Scope, ...]) -> Use | None:
        use = self._use(node, scopes)
        if use is not None and noted is self.uses:
            told = [name for name in (use.root, *use.steps) if name in _TOLD_ABOUT]
            self.unseen += [Unseen(str(name), getattr(node, "lineno", 0)) for name in told]
        if use is not None and use.root:
            noted[use] = None
        return use

    def _use(self, node: Any, scopes: tuple[Scope, ...]) -> Use | None:
        """The chain of attributes that a node is; with an empty root where it begins with a name of the code's own."""
        steps: list[str] = []
        while True:
            if isinstance(node, ast.Attribute):
                steps.append(node.attr)
                node = node.value
            elif (step := self._asked_of(node, scopes)) is not None:
                steps.append(step)
                node = node.args[0]
            else:
                break
        imported = import_of_call(node)
        if imported is None and not isinstance(node, ast.Name):
            return None
        name = node.id if imported is None else f"import_module({imported.module})"
        found = self._look_up(name, scopes) if imported is None else (imported,)
        steps.reverse()
        root = name if found in ("global", "class") else found
        return Use(root, tuple(steps), ".".join((name, *steps)), is_sure=found != "class")

    def _asked_of(self, node: Any, scopes: tuple[Scope, ...]) -> str | None:
        """The attribute of ``getattr`` by a name that is written."""
        if not isinstance(node, ast.Call) or not self._is_builtin(node.func, "getattr", scopes) or len(node.args) < 2:
            return None
        name = node.args[1]
        return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None

    def _look_up(self, name: str, scopes: tuple[Scope, ...]) -> tuple[Import, ...] | str:
        in_class = False
        for scope in reversed(scopes):
            if name in scope and not isinstance(scope, _Body):
                return scope[name]
            in_class = in_class or name in scope
        return "class" if in_class else "global"


def _seen_within(scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    return tuple(scope for scope in scopes if not isinstance(scope, _Body))


_HANDLERS: dict[type, Any] = {
    ast.FunctionDef: _Reader.nested,
    ast.AsyncFunctionDef: _Reader.nested,
    ast.ClassDef: _Reader.nested,
    ast.Lambda: _Reader.of_definition,
    **dict.fromkeys(_COMPREHENSIONS, _Reader.comprehension),
    ast.If: _Reader.conditional,
    ast.AnnAssign: _Reader.annotated,
    ast.Assign: _Reader.assignment,
    ast.AugAssign: _Reader.assignment,
    ast.Delete: _Reader.assignment,
    ast.Name: _Reader.chain,
    ast.Attribute: _Reader.chain,
    ast.Subscript: _Reader.subscript,
    ast.Call: _Reader.call,
    ast.Constant: lambda reader, node, scopes: (),
    ast.Import: lambda reader, node, scopes: (),
    ast.ImportFrom: lambda reader, node, scopes: (),
}


def _assigned(node: Any) -> Any:
    """What is changed when a part of it is assigned to, or a method is called on a part of it."""
    whole = node
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Subscript | ast.Call | ast.Starred):
            whole = node.func if isinstance(node, ast.Call) else node.value
        elif not isinstance(node, ast.Attribute):
            return whole
        node = node.func if isinstance(node, ast.Call) else node.value
    return whole


def import_by_call(node: ast.Assign) -> Import | None:
    """What ``import_module`` gives to the one name that is assigned to."""
    return import_of_call(node.value) if len(node.targets) == 1 and isinstance(node.targets[0], ast.Name) else None


def import_of_call(node: Any) -> Import | None:
    """What ``import_module`` gives by a name that is written."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return None
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    module = node.args[0].value
    if called not in ("import_module", "__import__") or not isinstance(module, str):
        return None
    named = module.lstrip(".")
    return Import(named.partition(".")[0] if called == "__import__" else named, len(module) - len(named))


# --- what is bound ---------------------------------------------------------------------------------------------------
def bound_in(node: Any) -> Scope:
    """The names of a function, lambda or comprehension."""
    if isinstance(node, _COMPREHENSIONS):
        return {name: () for name, _ in bound_by(generator.target for generator in node.generators)}
    arguments = node.args
    own = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    given: dict[str, list[Binding]] = {arg.arg: [] for arg in own if arg is not None}
    given |= {parameter.name: [] for parameter in getattr(node, "type_params", ())}
    for name, what in bound_by(node.body if isinstance(node.body, list) else [node.body]):
        given.setdefault(name, []).append(what)
    return {
        name: "global" if "global" in found else tuple(what for what in found if isinstance(what, Import))
        for name, found in given.items()
        if "nonlocal" not in found
    }


def bound_by(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, Binding]]:
    """The names that code binds where it stands, as assigned to, imported, or declared as of elsewhere."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        yield from _bound_at(node)
        if isinstance(node, Function | ast.ClassDef):
            pending += node.decorator_list
        elif isinstance(node, _COMPREHENSIONS):
            yield from ((part.target.id, None) for part in ast.walk(node) if isinstance(part, ast.NamedExpr))
        elif not isinstance(node, ast.Lambda):
            pending += ast.iter_child_nodes(node)


def _bound_at(node: ast.AST) -> Iterator[tuple[str, Binding]]:
    """What one node binds, without what is in it."""
    match node:
        case ast.Import() | ast.ImportFrom():
            yield from imported(node)
        case ast.Global() | ast.Nonlocal():
            yield from ((name, type(node).__name__.lower()) for name in node.names)
        case ast.Assign(targets=[ast.Name(name)]) if found := import_by_call(node):
            yield name, found
        case ast.Name(name, ast.Store() | ast.Del()) | ast.Subscript(
            ast.Call(ast.Name("globals")), ast.Constant(str(name)), ast.Store()
        ):
            yield name, None
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
            yield name, None
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name, None
        case ast.MatchMapping(rest=str(name)):
            yield name, None


def imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Import]]:
    """The names that an import binds; a star for all of a module."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, Import(node.module or "", node.level, alias.name)
        elif alias.asname:
            yield alias.asname, Import(alias.name)
        else:
            top = alias.name.partition(".")[0]
            yield top, Import(top)
