"""A forked child of a process that runs stages handles no signals, log records and warnings as its parent does.

The parent's handlers draw on its terminal, write to its log and take locks that a thread of it, which the child has
not, may hold. A child logs to its standard error instead, where a worker hears it.
"""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from typing import Any

DEFAULTS = {signal.SIGINT: signal.default_int_handler}


class _ToStderr(logging.StreamHandler[Any]):
    """Writes to what is standard error when it writes."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    @property
    def stream(self) -> Any:
        return sys.stderr


def is_ours(thing: object) -> bool:
    """Whether a handler or function comes from this package."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0] == "curidask"


def forget_handlers() -> None:
    """Forget what the parent set up here."""
    for logger in (logging.root, logging.getLogger("curidask")):
        others = [h for h in logger.handlers if not any(map(is_ours, (h, *h.filters)))]
        if len(others) < len(logger.handlers):
            logger.handlers[:] = others
            logging.root.addHandler(_ToStderr())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        if is_ours(signal.getsignal(number)):
            signal.signal(number, DEFAULTS.get(number, signal.SIG_DFL))
    if is_ours(warnings.showwarning):
        warnings.showwarning = warnings._showwarning_orig  # type: ignore[attr-defined]  # there is no other way
    if is_ours(sys.unraisablehook):
        sys.unraisablehook = sys.__unraisablehook__
