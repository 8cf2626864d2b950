"""What a class that is not found by its name holds beside its source: variables, defaults, attributes, bases."""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Iterator
from typing import Any

from curidask.core.code.class_identity import is_in_statement, is_local_class, is_written_base, statement_of
from curidask.core.code.code_identity import computed_defaults, is_installed, is_installed_file, public_name
from curidask.core.hash_fields import declared_fields, is_pydantic

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
