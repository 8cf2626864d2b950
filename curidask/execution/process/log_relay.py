"""Log records of workers, logged here once more: by the handlers that have not had them there.

A module that sets up a logger with handlers of its own does so in each process that imports it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from curidask.execution.process.process_state import is_ours

Mark = Sequence[str]
"""A handler as another process recognises it: its logger, its class, and the file that it writes.

A file that is another one there, as in the folder of a run, makes it another handler.
"""


def handlers_of(name: str) -> Iterator[tuple[logging.Handler, Mark]]:
    """The handlers that get what is logged under a name."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        for handler in list(logger.handlers):
            kind = type(handler)
            file = str(getattr(handler, "baseFilename", ""))
            yield handler, (logger.name, f"{kind.__module__}.{kind.__qualname__}", file)
        logger = logger.parent if logger.propagate else None


def marks_of(name: str) -> list[Mark]:
    """The marks of those that are not ours."""
    return [mark for handler, mark in handlers_of(name) if not is_ours(handler)]


def log_again(record: logging.LogRecord, had: Iterable[Mark], *, printed: bool = False) -> None:
    """Do what `logging.Logger.handle` does, but for handlers that had the record where it was logged.

    Parameters
    ----------
    printed : bool
        Whether it was printed there by the root logger's handlers, so that ours get it as a line.
    """
    logger = logging.getLogger(record.name)
    passed = logger.filter(record)
    if logger.disabled or not passed:
        return
    record = passed if isinstance(passed, logging.LogRecord) else record
    left = Counter(map(tuple, had))
    handlers = list(handlers_of(record.name))
    if not handlers and logging.lastResort is not None:
        handlers = [(logging.lastResort, ())]
    for handler, mark in handlers:
        if left[tuple(mark)] > 0:
            left[tuple(mark)] -= 1
        elif record.levelno >= handler.level and not (printed and is_ours(handler)):
            handler.handle(record)
