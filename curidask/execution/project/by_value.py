"""What of a run's code travels by value: only what has no file, since the rest is named and imported there.

That is what a script or a notebook defines, which becomes the worker's ``__main__``, and functions that stand in no
module, such as lambdas among the parameters. Those have the namespace of their module there, as here.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import importlib
import io
import marshal
import pickle
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import cloudpickle

from curidask.caching.code_pickler import CLASS_PARTS, StandingPickler
from curidask.core.code.code_locations import SCRIPTS, is_named, look_up
from curidask.core.spec import StageSpec
from curidask.execution.project import importer
from curidask.execution.project.project_files import moved_code

MAIN = SCRIPTS
_, SPAWNED = SCRIPTS


def namespace_of_script(main: types.ModuleType) -> dict[str, Any]:
    """What the script's functions look names up in: where it was spawned, the module has only a copy of it."""
    if main.__name__ != SPAWNED:
        return vars(main)
    functions = (value for value in vars(main).values() if isinstance(value, types.FunctionType))
    return next((f.__globals__ for f in functions if f.__globals__.get("__name__") == SPAWNED), vars(main))


def pickled(pickler: type[Any], value: Any, **attributes: Any) -> bytes:
    """The bytes that a pickler with these attributes makes of a value."""
    buffer = io.BytesIO()
    dumper = pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL)
    for name, held in attributes.items():
        setattr(dumper, name, held)
    dumper.dump(value)
    return buffer.getvalue()


class CodePickler(StandingPickler):
    """Pickles by reference what has a name or stands in a module with a file, and by value what does not."""

    names: set[str] | None = None
    """Gets what the script's functions name that go by value."""

    def by_value(self, obj: Any) -> Any:
        """See `StandingPickler.by_value`."""
        if isinstance(obj, StageSpec):
            name = _name_of_stage(obj)
            return NotImplemented if name is None else (_named_stage, name)
        if isinstance(obj, types.FunctionType):
            return NotImplemented if is_named(obj) else self._reduced_function(obj)
        if isinstance(obj, type):
            if obj.__module__ == SPAWNED:
                cloudpickle.register_pickle_by_value(sys.modules[SPAWNED])  # as it does with __main__
            return _reduced_class(obj, super().by_value(obj))
        reduce = _KINDS.get(type(obj))
        if reduce is not None and not is_named(obj):
            return reduce(obj)
        _check_reference(obj, self.dispatch_table)
        return NotImplemented

    def _reduced_function(self, function: types.FunctionType) -> Any:
        if hasattr(function, "registry") and function.__globals__ is vars(functools):
            return _reduced_dispatcher(function)
        module = _namespace_of(function)
        if module == MAIN[0] and self.names is not None:
            self.names |= names_of(function.__code__)
        return super().by_value(function) if module is None else _reduced_function(function, module)


def names_of(code: types.CodeType) -> set[str]:
    """The names that code looks up, and those in it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    said = {c for c in code.co_consts if c == MAIN[0]} if MAIN[0] in code.co_consts else set()
    return set(code.co_names).union(said, *map(names_of, inner))


# --- what has a name -------------------------------------------------------------------------------------------------
def _name_of_stage(spec: StageSpec) -> tuple[str, str] | None:
    """Module and qualified name under which a worker that imports the module finds the stage."""
    module, qualname = getattr(spec.function, "__module__", ""), getattr(spec.function, "__qualname__", "")
    found = look_up(module, qualname)
    return (module, qualname) if getattr(found, "spec", None) is spec else None


def _named_stage(module: str, qualname: str) -> StageSpec:
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    spec: StageSpec = found.spec
    return spec


# --- functions by value ----------------------------------------------------------------------------------------------
def _namespace_of(function: types.FunctionType) -> str | None:
    """The module that a function's global names are looked up in; None where they have a namespace of their own.

    The methods of named tuples and of attrs' classes have, for some.
    """
    module = str(function.__globals__.get("__name__", ""))
    if module == SPAWNED and function.__globals__ is namespace_of_script(sys.modules[SPAWNED]):
        return "__main__"
    return module if getattr(sys.modules.get(module), "__dict__", None) is function.__globals__ else None


def _reduced_function(function: types.FunctionType, module: str) -> tuple[Any, ...]:
    """A function by its code, with the namespace of the module that it was made in.

    What it refers to is filled in afterwards, since that may be the function itself.
    """
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
    if (project := importer.entered()) is not None:
        made = moved_code(made, project.origin, str(project.root))
    return types.FunctionType(made, namespace, name, None, cells)


def _fill_function(function: types.FunctionType, filled: dict[str, Any]) -> None:
    for cell, contents in zip(function.__closure__ or (), filled.pop("cells"), strict=True):
        if contents:
            cell.cell_contents = contents[0]
    function.__dict__.update(filled.pop("__dict__"))
    for name, value in filled.items():
        setattr(function, name, value)


# --- classes by value ------------------------------------------------------------------------------------------------
HOOKS = ("__init_subclass__", "__new__", "__init__", "__prepare__")


def _reduced_class(cls: type[Any], reduced: Any) -> Any:
    """What cloudpickle makes of a class, with its slots, and without what making it does: that was done here."""
    if reduced is NotImplemented or len(reduced) < CLASS_PARTS or issubclass(cls, enum.Enum):  # named, or None's
        return reduced
    make, (kind, name, bases, contents, *more), (state, slot_state), *rest = reduced
    if "__slots__" in vars(cls):
        contents = contents | {"__slots__": cls.__slots__}
        state = {n: v for n, v in state.items() if not isinstance(v, types.MemberDescriptorType)}
    made_from = tuple(tuple if base is typing.NamedTuple else base for base in bases)  # whose fields are made already
    return (_made_class, (make, kind, name, made_from, contents, *more), (state, slot_state), *rest)


def _made_class(make: Callable[..., type[Any]], kind: type[Any], name: str, bases: Any, *more: Any) -> type[Any]:
    around = {parent for base in types.resolve_bases(bases) for parent in base.__mro__}
    with _without(around, HOOKS[:1]), _without(kind.__mro__, HOOKS[1:]):
        return make(kind, name, bases, *more)


@contextlib.contextmanager
def _without(classes: Iterable[type[Any]], names: Iterable[str]) -> Iterator[None]:
    """Take these attributes off the script's own classes while the block runs."""
    own = [cls for cls in classes if cls.__module__ in MAIN]
    held = [(cls, name, vars(cls)[name]) for cls in own for name in names if name in vars(cls)]
    for cls, name, _ in held:
        delattr(cls, name)
    try:
        yield
    finally:
        for cls, name, value in held:
            setattr(cls, name, value)


# --- other things that are defined -----------------------------------------------------------------------------------
def _reduced_dispatcher(function: Any) -> tuple[Any, ...]:
    functions = dict(function.registry)
    return _made_dispatcher, (functions.pop(object), functions)


def _made_dispatcher(function: Any, functions: Mapping[type[Any], Any]) -> Any:
    made = functools.singledispatch(function)
    for kind, each in functions.items():
        made.register(kind, each)
    return made


def _made_cached(function: Any, parameters: Mapping[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _made_cached_property(function: Any, name: str | None) -> Any:
    made: functools.cached_property[Any] = functools.cached_property(function)
    made.attrname = name
    return made


def _made_new_type(name: str, of: Any, module: str) -> Any:
    make: Any = typing.NewType  # which a type checker takes for a declaration
    made = make(name, of)
    made.__module__ = module
    return made


_KINDS: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {
    functools._lru_cache_wrapper: lambda f: (_made_cached, (f.__wrapped__, f.cache_parameters())),
    functools.cached_property: lambda p: (_made_cached_property, (p.func, p.attrname)),
    typing.NewType: lambda t: (_made_new_type, (t.__qualname__, t.__supertype__, t.__module__)),
    typing.ParamSpec: lambda p: (typing.ParamSpec, (p.__name__,)),
}
"""How others than functions and classes are made again that pickle would look up by their names."""


def _check_reference(obj: Any, reducers: Mapping[type[Any], Any]) -> None:
    """Refuse what pickle would only name, when the script is where it would be found.

    Raises
    ------
    pickle.PicklingError
    """
    if getattr(obj, "__module__", None) not in MAIN or type(obj) in reducers:
        return
    if isinstance(name := obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL), str):
        raise pickle.PicklingError(f"{name!r} is known by its name in the script only")
