"""Pickles by value what has no name that leads to it, unless it stands in a module under another one."""

from __future__ import annotations

import contextlib
import enum
import io
import pickle
import types
from collections.abc import Mapping
from typing import Any

import cloudpickle

from curidask.core.code.code_locations import SCRIPTS, Code, Standings, in_installed, is_named, of_own_modules, reduced

CLASS_PARTS = 6
"""What cloudpickle makes of a class has as many parts, unless it is one such as that of None."""


class StandingPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Names functions and classes by where they stand in a module, when they do not under their own name."""

    script: Mapping[str, Any] | None = None
    """What the script defines, for readers that have it."""

    _of_modules: Standings | None = None
    _of_script: Standings | None = None
    _is_by_value = False

    def by_value(self, obj: Any) -> Any:
        """How an object goes by value; `NotImplemented` for what pickle may name or take apart itself."""
        found = super().reducer_override(obj)
        return with_qualname(obj, found) if isinstance(obj, type) else found

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`."""
        if type(obj) is memoryview:
            return _reduced_view(obj)
        found = self.by_value(obj)
        if self._is_by_value or not isinstance(obj, Code) or _is_enough(obj, found):
            return found
        return self._standing(obj) or found

    def _standing(self, obj: Any) -> tuple[Any, ...] | None:
        place = None
        if getattr(obj, "__module__", None) not in SCRIPTS:
            self._of_modules = self._of_modules or of_own_modules()
            place = self._of_modules.find(obj) or in_installed(obj)
        if place is None and self.script is not None:
            self._of_script = self._of_script or Standings({SCRIPTS[0]: self.script})
            place = self._of_script.find(obj)
        return None if place is None else reduced(obj, place, self._alone(obj))

    def _alone(self, obj: Any) -> bytes | None:
        """The object, and what it leads to, by value; None where it does not travel."""
        buffer = io.BytesIO()
        pickler = type(self)(buffer, protocol=pickle.HIGHEST_PROTOCOL)
        for name in vars(self).keys() - vars(pickler).keys():
            setattr(pickler, name, vars(self)[name])
        pickler._is_by_value = True
        with contextlib.suppress(Exception):
            pickler.dump(obj)
            return buffer.getvalue()
        return None


def _is_enough(obj: Any, found: Any) -> bool:
    """Whether pickle finds some code without its place in a module."""
    if isinstance(obj, type):
        return found is NotImplemented or len(found) < CLASS_PARTS
    return found is NotImplemented if isinstance(obj, types.FunctionType) else is_named(obj)


def with_qualname(cls: type[Any], found: Any) -> Any:
    """What cloudpickle makes of a class, with its qualified name, which counts in hashes."""
    if found is NotImplemented or len(found) < CLASS_PARTS or issubclass(cls, enum.Enum):  # which has it
        return found
    make, (kind, name, bases, contents, *more), *rest = found
    return make, (kind, name, bases, contents | {"__qualname__": cls.__qualname__}, *more), *rest


def _reduced_view(view: memoryview) -> Any:
    """As a view, which counts otherwise in hashes than bytes do."""
    made = view.tobytes() if view.readonly else bytearray(view.tobytes()), view.format, tuple(view.shape or ())
    try:
        _made_view(*made)
    except (ValueError, TypeError):  # of elements that nothing but numpy knows
        return NotImplemented
    return _made_view, made


def _made_view(data: bytes | bytearray, format: str, shape: tuple[int, ...]) -> memoryview:
    view = memoryview(data)
    return view if (format, shape) == (view.format, view.shape) else view.cast(format, shape)  # type: ignore[call-overload]
