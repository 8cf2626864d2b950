"""The state of packages that stages use, as far as they are loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

Restore = Callable[[], None]

NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
"""How numpy begins."""


def loaded(name: str) -> ModuleType | None:
    """The module, when it is there and whole: another thread may just import it."""
    module = sys.modules.get(name)
    return None if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def numpy_errors() -> Restore:
    """What numpy does about floating-point errors."""
    numpy = loaded("numpy")
    errors, call = (numpy.geterr(), numpy.geterrcall()) if numpy is not None else (NUMPY_ERRORS, None)

    def restore() -> None:
        numpy = loaded("numpy")
        if numpy is not None and (numpy.geterr() != errors or numpy.geterrcall() is not call):
            numpy.seterr(**errors)
            numpy.seterrcall(call)

    return restore


def numpy_printing() -> Restore:
    """How numpy prints arrays."""
    before = loaded("numpy")
    options = before.get_printoptions() if before is not None else None

    def restore() -> None:
        numpy = loaded("numpy")
        if numpy is not None and options is not None and numpy.get_printoptions() != options:
            numpy.set_printoptions(**options)

    return restore


def own_decimal_context() -> None:
    """Let the context variables of this place have a decimal context of their own: a copy of them shares it."""
    decimal = loaded("decimal")
    if decimal is not None:
        decimal.setcontext(decimal.getcontext().copy())


_known: dict[str, Any] = {}
"""A copy of matplotlib's parameters, since to compare them with it takes a tenth of the time of a new one."""


def rc_parameters() -> Restore:
    """Matplotlib's parameters except its backend, which it cannot change back."""
    saved = _parameters()

    def restore() -> None:
        matplotlib = loaded("matplotlib")
        if matplotlib is None:
            return
        wanted = saved or _copied(matplotlib.rcParamsOrig)
        if not dict.__eq__(wanted, matplotlib.rcParams):
            dict.update(matplotlib.rcParams, _copied(wanted, without="backend"))  # as matplotlib's own context does

    return restore


def _parameters() -> dict[str, Any]:
    global _known  # noqa: PLW0603  # it is there to be found again
    matplotlib = loaded("matplotlib")
    if matplotlib is None:
        return {}
    if not dict.__eq__(_known, matplotlib.rcParams):
        _known = _copied(matplotlib.rcParams)
    return _known


def _copied(parameters: dict[str, Any], without: str = "") -> dict[str, Any]:
    """Lists, too, since they are often changed in place."""
    items = dict.items(parameters)
    return {name: value[:] if type(value) is list else value for name, value in items if name != without}


def figures() -> Restore:
    """Pyplot's open figures: a stage begins with none, and those that it leaves are closed."""
    saved = _open_figures()
    hidden = saved.copy() if saved is not None else {}
    if saved:
        saved.clear()

    def restore() -> None:
        now = _open_figures()
        if now:
            sys.modules["matplotlib.pyplot"].close("all")
        if now is not None:
            now.update(hidden)

    return restore


def _open_figures() -> dict[int, Any] | None:
    pyplot = loaded("matplotlib.pyplot")
    figures: dict[int, Any] | None = pyplot._pylab_helpers.Gcf.figs if pyplot is not None else None
    return figures
