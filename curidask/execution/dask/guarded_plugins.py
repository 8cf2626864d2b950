"""Things that travel to workers which may lack this package: what comes out there then does nothing.

dask hands the plugins of a run to each worker that joins later, also after the run. One that cannot unpickle them does
not come up at all, so nobody could say what it lacks.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import cloudpickle


def build(kind: str, base: str, values: dict[str, Any]) -> Any:
    """Make a plugin, where this travels to; it must name nothing of this package but inside of the attempt.

    Parameters
    ----------
    kind : str
        A class of `curidask.execution.dask.plugins`.
    base : str
        The class of dask's that does nothing.
    values : dict of str to object
        Its attributes.
    """
    try:
        made = object.__new__(getattr(importlib.import_module("curidask.execution.dask.plugins"), kind))
        made.__dict__.update(values)
    except Exception:
        return getattr(importlib.import_module("distributed"), base)()
    return made


class _Call:
    """Pickles as a call, which is carried out when it is unpickled."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return build, self._arguments


class Guarded:
    """A plugin that becomes one which does nothing where it cannot be made.

    Attributes
    ----------
    base : str
        The class of dask's that it derives from.
    """

    base: str

    def __reduce__(self) -> tuple[Any, ...]:
        module = sys.modules[__name__]
        cloudpickle.register_pickle_by_value(module)
        try:
            return cloudpickle.loads, (cloudpickle.dumps(_Call(type(self).__name__, self.base, self.__dict__)),)
        finally:
            cloudpickle.unregister_pickle_by_value(module)
