"""The identity of classes that are values, by their statements or by what they hold."""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import re
import sys
import types
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from curidask.core.code.canonical_source import Function, canonical, parse
from curidask.core.code.identity import (
    computed_defaults,
    first_line,
    function_text,
    is_found,
    is_installed,
    is_installed_file,
    is_installed_module,
    is_made_for_project,
    parsed,
    public_name,
)
from curidask.core.code.scopes import MAIN, LoadedSources, read_loaded
from curidask.core.hash_fields import declared_fields, is_pydantic

# --- the identity of a class that is a value -------------------------------------------------------------------------
# Its statement where it has one of its own, else what it is made of.

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_LOCAL, _INSTALLED, _BY_NAME = "local", "installed", "by name"

_kinds: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def is_local_class(cls: type) -> bool:
    """Whether a class of a project is not sure to be what whoever imports its module finds under its name.

    It was defined in a function, made by a call, in a loop, or there is another one of its name.
    """
    kind = _kinds.get(cls)
    if kind is None:
        kind = _kinds[cls] = _kind_of(cls)
    return kind == _LOCAL or (kind == _BY_NAME and not is_found(cls))


def _kind_of(cls: type) -> str:
    if is_installed_module(cls.__module__):
        return _LOCAL if is_made_for_project(cls) else _INSTALLED
    return _LOCAL if "<locals>" in cls.__qualname__ or _is_repeated(cls) or _is_unwritten(cls) else _BY_NAME


def _is_unwritten(cls: type) -> bool:
    """Whether it is of a script that has no source, such as that of ``python -c``."""
    module = LoadedSources().module(cls.__module__) if cls.__module__ in MAIN else None
    return module is not None and not any(module.texts) and not _source(_file_of(cls))


def _is_repeated(cls: type) -> bool:
    """Whether its module may make several classes of its name."""
    source = _source(_file_of(cls))
    for depth, name in enumerate(cls.__qualname__.split(".")):
        found = re.findall(rf"^([ \t]*)class[ \t]+{re.escape(name)}\b", source, re.MULTILINE)
        if len(found) > 1 or (found and found[0] and not depth):
            nodes = _statements(source, cls.__qualname__)
            return len(nodes) > 1 or any(is_in_loop for _, is_in_loop in nodes)
    return False


# --- the statement of a class ----------------------------------------------------------------------------------------
def statement_of(cls: type) -> ast.ClassDef | None:
    """The one class statement that a class may be of; None where there is none, or several."""
    if cls not in _known:
        nodes = _statements(_source(_file_of(cls)), cls.__qualname__)
        _known[cls] = nodes[0][0] if len(nodes) == 1 else None
    return _known[cls]


_known: WeakKeyDictionary[type, ast.ClassDef | None] = WeakKeyDictionary()


def is_in_statement(cls: type, name: str, function: types.FunctionType) -> bool:
    """Whether the statement of a class says which function is behind an attribute."""
    node, code = statement_of(cls), function.__code__
    if node is None or code.co_filename != _file_of(cls):
        return False
    bound = [part for part in node.body if name in _bound_by(part)]
    return bool(bound) and any(_is_of(part, code) for part in node.body)


def is_written_base(cls: type, name: str) -> bool:
    """Whether the statement of a class names a base or metaclass."""
    node = statement_of(cls)
    parts = [] if node is None else [*node.bases, *(keyword.value for keyword in node.keywords)]
    parts = [part.value if isinstance(part, ast.Subscript) else part for part in parts]
    return any(name == getattr(part, "attr", getattr(part, "id", None)) for part in parts)


def _bound_by(statement: ast.stmt) -> set[str]:
    if isinstance(statement, Function):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _is_of(statement: ast.stmt, code: types.CodeType) -> bool:
    """Whether a statement in the body of a class is sure to make a function of this code."""
    if isinstance(statement, Function):
        return statement.name == code.co_name and first_line(statement) == code.co_firstlineno
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return False
    functions = [part for part in ast.walk(statement) if isinstance(part, ast.Lambda)]
    return len(functions) == 1 and code.co_name == "<lambda>" and functions[0].lineno == code.co_firstlineno


def _file_of(cls: type) -> str:
    """The file that the methods of a class say they are from, or that of its module."""
    code = [f.__code__ for f in vars(cls).values() if isinstance(f, types.FunctionType)]
    own = (c.co_filename for c in code if c.co_qualname == f"{cls.__qualname__}.{c.co_name}")
    return next(own, None) or getattr(sys.modules.get(cls.__module__), "__file__", None) or ""


def _source(file: str) -> str:
    return (read_loaded(file) if file else None) or ""


def _statements(source: str, qualname: str) -> list[tuple[ast.ClassDef, bool]]:
    """The class statements of a name in a source, and whether each is in a loop outside of functions."""
    try:
        tree = parsed(source)
    except (SyntaxError, ValueError):
        return []
    return list(_found_in(tree.body, qualname.replace(".<locals>", "").split(".")))


def _found_in(body: list[Any], way: list[str], is_in_loop: bool = False) -> Iterator[tuple[ast.ClassDef, bool]]:
    for node in body:
        if not isinstance(node, Function | ast.ClassDef):
            parts = [part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.expr)]
            yield from _found_in(parts, way, is_in_loop or isinstance(node, _LOOPS))
        elif node.name == way[0] and len(way) > 1:
            yield from _found_in(node.body, way[1:], is_in_loop)
        elif node.name == way[0] and isinstance(node, ast.ClassDef):
            yield node, is_in_loop


# --- its text --------------------------------------------------------------------------------------------------------
def of_class(cls: type) -> str:
    """The normalised source of a class, or that of its functions where it has none of its own; empty if installed."""
    return "" if is_installed(cls) else _class_text(cls)


@functools.lru_cache(maxsize=1024)
def _class_text(cls: type) -> str:
    try:
        if is_local_class(cls) and "<locals>" not in cls.__qualname__ and statement_of(cls) is None:
            raise OSError
        tree = parse(_dedented(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        functions = [(n, f.__code__) for n, f in sorted(vars(cls).items()) if isinstance(f, types.FunctionType)]
        return "\n".join(f"{name}:{function_text(code)}" for name, code in functions)
    return canonical(tree.body[0])


def _dedented(source: str) -> str:
    return inspect.cleandoc("\n" + source) if source[:1].isspace() else source


# --- what a class that is not found by its name holds beside its source ----------------------------------------------
# Variables, defaults, attributes, bases.

_GENERATED = "<attrs generated"


def held_by(cls: type) -> dict[str, Any]:
    """The values that objects of a class get from it, and that another class of the same source may hold otherwise.

    Parameters
    ----------
    cls : type
        For one that can be found by its name there is nothing: its module says what it is.

    Returns
    -------
    dict of str to object
        By where they are: ``Local.n`` is an attribute of the class, ``Local.get.k`` a variable or default of a method.
    """
    found: dict[str, Any] = {}
    for kind in reversed(cls.__mro__):
        for name, value in _held(kind) if is_local_class(kind) else ():
            place = f"{kind.__name__}.{name}"
            while place in found:  # of a base of the same name
                place += "'"
            found[place] = value
    return found


def _held(cls: type) -> Iterator[tuple[str, Any]]:
    fields = frozenset(declared_fields(cls)) if statement_of(cls) is not None else frozenset()
    for name, value in sorted(vars(cls).items()):
        functions = list(_functions(value))
        for function in functions:
            yield from ((f"{name}.{part}", held) for part, held in _around(function))
            if not is_in_statement(cls, name, function) and not _is_generated(function):
                yield f"{name}()", function
        if not functions and name not in fields and _is_data(cls, name, value):
            yield name, value
    given = [base for base in _bases(cls) if not is_written_base(cls, base.__name__)]
    if given:
        yield "bases", tuple(map(public_name, given))
    if statement_of(cls) is None:
        yield from _declared(cls)


def _bases(cls: type) -> Iterator[Any]:
    """Its bases as they were given to it, and its metaclass where no base brings it."""
    bases = vars(cls).get("__orig_bases__", cls.__bases__)
    yield from (getattr(base, "__origin__", base) for base in bases if base is not object)
    kind = type(cls)
    if kind is not type and not any(issubclass(type(base), kind) for base in cls.__bases__):
        yield kind


def _declared(cls: type) -> Iterator[tuple[str, Any]]:
    """The members of an enum and the fields of a dataclass and the like, which a statement would tell."""
    if issubclass(cls, enum.Enum):
        yield "members", {name: member.value for name, member in cls.__members__.items()}
    fields: list[Any] = [
        (f.name, f.default, f.default_factory) for f in vars(cls).get("__dataclass_fields__", {}).values()
    ]
    fields += [(attribute.name, attribute.default) for attribute in vars(cls).get("__attrs_attrs__", ())]
    models = vars(cls).get("__pydantic_fields__", {}).items()
    fields += [(name, field.annotation, field.default, field.default_factory) for name, field in models]
    if fields:
        yield "fields", fields


def _is_data(cls: type, name: str, value: Any) -> bool:
    if name.startswith("__") or name == "_abc_impl" or isinstance(value, types.BuiltinFunctionType):
        return False
    if hasattr(type(value), "__get__") and is_installed(type(value)):  # what a package sees to
        return False
    if issubclass(cls, enum.Enum) or (is_pydantic(cls) and name.startswith("model_")):
        return False
    return not (
        isinstance(value, type) and is_local_class(value) and value.__qualname__ == f"{cls.__qualname__}.{name}"
    )


def _functions(value: Any) -> Iterator[types.FunctionType]:
    """The functions that an attribute of a class is made of."""
    if isinstance(value, types.FunctionType):
        yield value
    elif isinstance(value, property):
        yield from (part for part in (value.fget, value.fset, value.fdel) if isinstance(part, types.FunctionType))
    elif isinstance(value, staticmethod | classmethod):
        yield from _functions(value.__func__)
    elif isinstance(value, functools.cached_property | functools.partialmethod):
        yield from _functions(value.func)
    elif not isinstance(value, type):
        inner = getattr(value, "__dict__", {}).get("__wrapped__")
        yield from _functions(inner) if inner is not None else ()


def _around(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """The variables and defaults of a method; not what a package has written for the class."""
    if _is_generated(function):
        inner = vars(function).get("__wrapped__")
        yield from _around(inner) if isinstance(inner, types.FunctionType) else ()
        return
    yield from computed_defaults(function).items()
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__":
            yield name, _content(cell)


def _is_generated(function: types.FunctionType) -> bool:
    """Whether a package has written a function."""
    code = function.__code__
    if is_installed_file(code.co_filename) or code.co_filename.startswith(_GENERATED):
        return True
    of_tuple = str(function.__globals__.get("__name__")).startswith("namedtuple_")
    return of_tuple or code.co_qualname.startswith("__create_fn__")  # of dataclasses


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
