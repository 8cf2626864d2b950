"""The source of code as a tree, and as one text whatever its layout and whatever version of Python reads it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby
from typing import Any, TypeAlias, TypeVar

# --- python source as a tree, past a fault of CPython ----------------------------------------------------------------
# CPython 3.11 counts the depth of a tree that it makes in one place for all threads and for calls within calls (a
# finalizer that formats a traceback is one). When two meet, the one that ends second raises a SystemError about
# "recursion depth mismatch", though its tree is right. The next attempt succeeds.

T = TypeVar("T")

ATTEMPTS = 10


def parse(source: str | bytes) -> ast.Module:
    """The tree of a module's source; see `ast.parse`."""
    return counted_again(lambda: ast.parse(source))


def counted_again(make: Callable[[], T]) -> T:
    """What a function gives that makes such trees, called again after a wrong count."""
    for _ in range(ATTEMPTS):
        try:
            return make()
        except SystemError as error:
            if "recursion depth mismatch" not in str(error):
                raise
    return make()


# --- one text for one piece of code, whatever its layout and whatever version of Python reads it ---------------------
# Comments, docstrings, type hints, the order of imports and how a formatted string is cut up do not count. The text is
# made of the syntax tree, field by field: not by ``ast.dump`` or ``ast.unparse``, which differ between versions.

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_NO_CODE = frozenset(("ctx", "kind", "type_comment", "type_ignores", "type_params", "returns", "simple"))
"""Fields of a syntax tree that follow from others, are type hints, or do nothing."""

_FIELD_KINDS = frozenset(("ClassVar", "InitVar", "KW_ONLY"))
"""Type hints in a class by which a dataclass takes a name for something else than a field."""


def canonical(
    node: ast.AST, without: Collection[ast.AST] = (), is_local: Callable[[str], bool] = lambda module: False
) -> str:
    """The text of a piece of code.

    Parameters
    ----------
    without : collection of ast.AST
        Decorators that are left out.
    is_local : callable
        Whether a module that is imported within the code is the project's, so that its name does not count. That of
        a relative import never does.
    """
    out: list[str] = []
    # A stack, since what is nested deeply (a chain of methods, of `elif`) would end in Python's own limit.
    pending: list[tuple[Any, bool]] = [(node, False)]
    while pending:
        part, in_class = pending.pop()
        if isinstance(part, str):
            out.append(part)
            continue
        if isinstance(part, list):
            pieces = _listed(part)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            pieces = [",".join(sorted(_import_texts(part, is_local)))]
        else:
            in_class = isinstance(part, ast.ClassDef) or (in_class and not isinstance(part, Function | ast.Lambda))
            pieces = _of_node(part, in_class, without, is_local)
        pending += [(piece, in_class) for piece in reversed(pieces)]
    return "".join(out)


def _listed(parts: list[Any]) -> list[Any]:
    pieces: list[Any] = ["["]
    for part in parts:
        pieces += [part if isinstance(part, ast.AST | str) else literal(part), ","]
    return [*pieces[:-1], "]"]


def _of_node(node: ast.AST, in_class: bool, without: Collection[ast.AST], is_local: Callable[[str], bool]) -> list[Any]:
    kind, fields = _fields(node, in_class)
    pieces: list[Any] = [f"{kind}("]
    for name in sorted(fields):
        value = fields[name]
        if isinstance(value, list):
            value = list(_counting(value, in_class, without, is_local)) or (["Pass()"] if name == "body" else [])
        if value is not None and value != []:
            pieces += [f"{name}=", value if isinstance(value, list | ast.AST) else literal(value), ","]
    return [*pieces[:-1], ")"] if len(pieces) > 1 else [*pieces, ")"]


class _Format(ast.JoinedStr):
    """How a value is formatted, which is written as a formatted string that it is not."""


# --- what of a tree counts -------------------------------------------------------------------------------------------
def _fields(node: ast.AST, in_class: bool) -> tuple[str, dict[str, Any]]:
    """The kind and the fields of a node."""
    kind = type(node).__name__
    fields = {name: getattr(node, name, None) for name in node._fields if name not in _NO_CODE}
    match node:
        case ast.JoinedStr():
            values = list(_joined(node.values))
            if not isinstance(node, _Format) and all(isinstance(value, str) for value in values):
                return "Constant", {"value": "".join(values)}
            return "JoinedStr", {"values": values}
        case ast.FormattedValue(format_spec=ast.JoinedStr() as spec):
            fields["format_spec"] = _Format(spec.values)
        case ast.AnnAssign() if in_class:
            fields["annotation"] = sorted(_field_kinds(node.annotation)) or None
        case ast.AnnAssign():
            return "Assign", {"targets": [node.target], "value": node.value}
        case ast.arg():
            del fields["annotation"]
        case ast.FunctionDef() | ast.AsyncFunctionDef() if any(map(_chooses_by_type, node.decorator_list)):
            fields["chosen_for"] = next((arg.annotation for arg in node.args.args), None)
    return kind, fields


def _joined(values: Iterable[ast.expr]) -> Iterator[Any]:
    """The parts of a formatted string; how its fixed text is cut up differs between versions."""
    parts: list[Any] = [value.value if isinstance(value, ast.Constant) else value for value in values]
    for is_text, group in groupby(parts, lambda part: isinstance(part, str)):
        if is_text:
            text = "".join(group)
            yield from [text] if text else []
        else:
            yield from group


def _field_kinds(annotation: ast.expr) -> Iterator[str]:
    """What of the type hint of a class's name makes a difference: `ClassVar` and the like, and what it calls."""
    outer = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    if isinstance(outer, ast.Constant) and isinstance(outer.value, str):  # written as a text
        yield from _FIELD_KINDS.intersection([outer.value.partition("[")[0].rpartition(".")[2].strip()])
        return
    yield from _FIELD_KINDS.intersection([getattr(outer, "attr", getattr(outer, "id", ""))])
    yield from (canonical(part) for part in ast.walk(annotation) if isinstance(part, ast.Call))


def _chooses_by_type(decorator: ast.expr) -> bool:
    """Whether it is `functools.singledispatch`'s ``register``, which reads the type hint of the first argument."""
    return isinstance(decorator, ast.Attribute) and decorator.attr == "register"


def _counting(
    parts: list[Any], in_class: bool, without: Collection[ast.AST], is_local: Callable[[str], bool]
) -> Iterator[Any]:
    """The parts of a list that count: of statements those that do something, with imports side by side in one order."""
    if not parts or not isinstance(parts[0], ast.stmt):
        yield from (part if isinstance(part, ast.AST) else literal(part) for part in parts if part not in without)
        return
    for is_import, group in groupby(acting(parts, in_class), lambda s: isinstance(s, ast.Import | ast.ImportFrom)):
        if is_import:
            yield from sorted({text for statement in group for text in _import_texts(statement, is_local)})
        else:
            yield from group


def acting(statements: Iterable[ast.stmt], in_class: bool = False) -> Iterator[ast.stmt]:
    """The statements that do something: no docstrings, no ``pass``, no type hints, nothing for type checkers alone."""
    for statement in statements:
        match statement:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                continue
            case ast.AnnAssign(value=None) if not in_class:
                continue
            case ast.If() if is_for_types(statement.test):
                yield from acting(statement.orelse, in_class)
            case _:
                yield statement


def is_for_types(test: ast.expr) -> bool:
    """Whether a condition holds for type checkers only."""
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def _import_texts(node: ast.AST, is_local: Callable[[str], bool]) -> Iterator[str]:
    """An import as one text for each name."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            bound = ast.alias(alias.name if not (alias.asname and is_local(alias.name)) else "", alias.asname)
            yield f"Import(names=[{canonical(bound)}])"
    elif isinstance(node, ast.ImportFrom):
        is_own = bool(node.level) or is_local(node.module or "")
        module = "" if is_own else f"level={literal(0)},module={literal(node.module)},"
        yield from (f"ImportFrom({module}names=[{canonical(alias)}])" for alias in node.names)


# --- constants -------------------------------------------------------------------------------------------------------
def literal(value: Any) -> str:
    """A constant as text: not `repr`, whose order of sets and escaped characters differ."""
    kind = type(value).__name__
    if isinstance(value, frozenset):
        return f"{kind}({','.join(sorted(map(literal, value)))})"
    if isinstance(value, tuple):
        return f"{kind}({','.join(map(literal, value))})"
    return f"{kind}:{value:x}" if isinstance(value, int) else f"{kind}:{value!a}"
