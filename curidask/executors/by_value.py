"""What of a run's code travels by value: only what has no file, since the rest is named and imported there.

That is what a script or a notebook defines, which becomes the worker's ``__main__``, and functions that no name leads
to, such as lambdas among the parameters. Those have the namespace of their module there, as here.
"""

from __future__ import annotations

import importlib
import io
import marshal
import pickle
import sys
import types
from collections.abc import Iterable
from typing import Any

import cloudpickle

from curidask.executors import project_imports
from curidask.executors.project_files import moved_code
from curidask.stage_spec import StageSpec


def pickled(pickler: type[Any], value: Any, **attributes: Any) -> bytes:
    """The bytes that a pickler with these attributes makes of a value."""
    buffer = io.BytesIO()
    dumper = pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL)
    for name, held in attributes.items():
        setattr(dumper, name, held)
    dumper.dump(value)
    return buffer.getvalue()


class CodePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles by reference what has a name in a module with a file, and by value what has none."""

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`."""
        if isinstance(obj, StageSpec):
            name = _name_of_stage(obj)
            return NotImplemented if name is None else (_named_stage, name)
        if isinstance(obj, types.FunctionType):
            return NotImplemented if _is_named(obj) else _reduced_function(obj)
        return super().reducer_override(obj)


# --- what has a name -------------------------------------------------------------------------------------------------
def _name_of_stage(spec: StageSpec) -> tuple[str, str] | None:
    """Module and qualified name under which a worker that imports the module finds the stage."""
    module, qualname = getattr(spec.function, "__module__", ""), getattr(spec.function, "__qualname__", "")
    found = _look_up(module, qualname)
    return (module, qualname) if getattr(found, "spec", None) is spec else None


def _is_named(function: types.FunctionType) -> bool:
    return _look_up(function.__module__, function.__qualname__) is function


def _look_up(module: str | None, qualname: str) -> Any:
    found: Any = sys.modules.get(module or "")
    if found is None or module == "__main__" or getattr(found, "__file__", None) is None:
        return None
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _named_stage(module: str, qualname: str) -> StageSpec:
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    spec: StageSpec = found.spec
    return spec


# --- functions by value ----------------------------------------------------------------------------------------------
def _reduced_function(function: types.FunctionType) -> tuple[Any, ...]:
    """A function by its code, with the namespace of the module that it was made in.

    What it refers to is filled in afterwards, since that may be the function itself.
    """
    module = str(function.__globals__.get("__name__", "__main__"))
    if getattr(sys.modules.get(module), "__dict__", None) is not function.__globals__:
        module = "__main__"  # made by exec() in a namespace of its own: the names it uses are those of the script
    cells = function.__closure__ or ()
    made = (marshal.dumps(function.__code__), module, function.__name__, len(cells))
    filled = {
        "cells": [_cell_contents(cell) for cell in cells],
        "__qualname__": function.__qualname__,
        "__module__": function.__module__,
        "__doc__": function.__doc__,
        "__defaults__": function.__defaults__,
        "__kwdefaults__": function.__kwdefaults__,
        "__annotations__": function.__annotations__,
        "__dict__": dict(function.__dict__),
    }
    return _made_function, made, filled, None, None, _fill_function


def _cell_contents(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not filled yet
        return ()


def _made_function(code: bytes, module: str, name: str, n_cells: int) -> types.FunctionType:
    namespace = vars(importlib.import_module(module))
    cells = tuple(types.CellType() for _ in range(n_cells))
    made = marshal.loads(code)
    if (project := project_imports.entered()) is not None:
        made = moved_code(made, project.origin, str(project.root))
    return types.FunctionType(made, namespace, name, None, cells)


def _fill_function(function: types.FunctionType, filled: dict[str, Any]) -> None:
    for cell, contents in zip(function.__closure__ or (), filled.pop("cells"), strict=True):
        if contents:
            cell.cell_contents = contents[0]
    function.__dict__.update(filled.pop("__dict__"))
    for name, value in filled.items():
        setattr(function, name, value)


# --- scripts and notebooks -------------------------------------------------------------------------------------------
def main_contents(specs: Iterable[StageSpec]) -> dict[str, Any]:
    """What of ``__main__`` stages may need: its functions and classes, and what those name.

    What cannot travel, such as an open file or a lock, is left out.
    """
    held = vars(sys.modules["__main__"])
    defined = {n: v for n, v in held.items() if getattr(v, "__module__", None) == "__main__" and _is_code(v)}
    pending = [*defined.values(), *(spec.function for spec in specs)]
    found: dict[str, Any] = dict(defined)
    seen: set[int] = set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        for name in _names_in(value):
            if name in held and name not in found and not name.startswith("__"):
                found[name] = held[name]
                pending.append(held[name])
    return {name: value for name, value in found.items() if _travels(value)}


def _is_code(value: Any) -> bool:
    return isinstance(value, types.FunctionType | type)


def _names_in(value: Any) -> set[str]:
    """The global names in the code of a function or of a class's functions, and of what they wrap."""
    if isinstance(value, type):
        members = [m.__func__ if isinstance(m, classmethod | staticmethod) else m for m in vars(value).values()]
        members = [getattr(m, "fget", m) for m in members]
        return {name for member in members if isinstance(member, types.FunctionType) for name in _names_in(member)}
    wrapped = getattr(value, "__wrapped__", None)
    names = _names_in(wrapped) if wrapped is not None else set()
    code = getattr(value, "__code__", None)
    return names | _names_of(code) if isinstance(code, types.CodeType) else names


def _names_of(code: types.CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names_of, inner))


def _travels(value: Any) -> bool:
    try:
        pickled(CodePickler, value)
    except Exception:
        return False
    return True
