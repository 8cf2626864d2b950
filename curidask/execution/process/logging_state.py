"""The loggers of the process: as they were before a stage, after it, and for what is logged of it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

State = tuple[int, bool, bool, tuple[Any, ...], tuple[tuple[logging.Handler, int, Any], ...]]

UNTOUCHED: State = (logging.NOTSET, False, True, (), ())

OWN = tuple(map(logging.getLogger, (None, "curidask", "curidask.run", "curidask.stdout", "curidask.stderr")))
"""Through these goes what the driver writes to its log."""


class Loggers:
    """Levels, handlers and filters of all loggers.

    A logger that a module sets up under its own name when it is first imported, in a stage, is left so: the module will
    not do it again.
    """

    def __init__(self) -> None:
        self._states = {logger: _state(logger) for logger in _touched()}
        self._disabled = logging.root.manager.disable
        self._last_module = next(reversed(sys.modules))

    def restore(self) -> None:
        """Put back what differs."""
        if logging.root.manager.disable != self._disabled:
            logging.disable(self._disabled)
        new: set[str] | None = None
        for logger, state in self._states.items():
            _put(logger, state)
        for logger in _touched():
            if logger not in self._states:
                new = self._new_modules() if new is None else new
                if logger.name.partition(".")[0] not in new:
                    _put(logger, UNTOUCHED)

    def _new_modules(self) -> set[str]:
        names = takewhile(lambda name: name != self._last_module, reversed(list(sys.modules)))
        return {name.partition(".")[0] for name in names}

    def restore_own(self) -> None:
        """Put back our own loggers and the root, at once and without a look at all others."""
        if logging.root.manager.disable != self._disabled:
            logging.disable(self._disabled)
        _put_all([self._states.get(logger, UNTOUCHED) for logger in OWN])

    @contextmanager
    def own(self) -> Iterator[None]:
        """Put our own loggers back while the block runs."""
        now = [_state(logger) for logger in OWN]
        saved = [self._states.get(logger, UNTOUCHED) for logger in OWN]
        disabled = logging.root.manager.disable
        if now == saved and disabled == self._disabled:
            yield
            return
        self.restore_own()
        try:
            yield
        finally:
            logging.disable(disabled)
            _put_all(now)


def _touched() -> list[logging.Logger]:
    """The loggers that are not as `logging.getLogger` makes them."""
    known: list[Any] = list(logging.root.manager.loggerDict.values())
    return [logging.root] + [
        x
        for x in known
        if x.__class__ is not logging.PlaceHolder
        and (x.level or x.handlers or x.disabled or not x.propagate or x.filters)
    ]


def _state(logger: logging.Logger) -> State:
    handlers = tuple((handler, handler.level, handler.formatter) for handler in logger.handlers)
    return logger.level, logger.disabled, logger.propagate, tuple(logger.filters), handlers


def _put(logger: logging.Logger, state: State) -> None:
    if _state(logger) == state:
        return
    level, disabled, propagate, filters, handlers = state
    logger.setLevel(level)
    logger.disabled, logger.propagate = disabled, propagate
    logger.filters[:] = filters
    logger.handlers[:] = [handler for handler, _, _ in handlers]
    for handler, level, formatter in handlers:
        handler.setLevel(level)
        handler.setFormatter(formatter)


def _put_all(states: list[State]) -> None:
    for logger, state in zip(OWN, states, strict=True):
        _put(logger, state)
