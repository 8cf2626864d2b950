"""What a class that was defined in a function holds beside its source: variables, defaults and attributes."""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Iterator
from typing import Any

from curidask.code_identity import computed_defaults, is_installed, is_installed_file, is_local_class
from curidask.hash_fields import declared_fields, is_pydantic

_GENERATED = ("<string", "<attrs generated")


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
    return {
        f"{kind.__name__}.{name}": value
        for kind in reversed(cls.__mro__)
        if is_local_class(kind)
        for name, value in _held(kind)
    }


def _held(cls: type) -> Iterator[tuple[str, Any]]:
    fields = frozenset(declared_fields(cls))
    for name, value in sorted(vars(cls).items()):
        functions = list(_functions(value))
        for function in functions:
            yield from ((f"{name}.{part}", held) for part, held in _around(function))
        if not functions and name not in fields and _is_data(cls, name, value):
            yield name, value


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
    file = function.__code__.co_filename
    if file.startswith(_GENERATED) or is_installed_file(file):
        inner = vars(function).get("__wrapped__")
        yield from _around(inner) if isinstance(inner, types.FunctionType) else ()
        return
    yield from computed_defaults(function).items()
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__":
            yield name, _content(cell)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
