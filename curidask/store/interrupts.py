"""Interrupts that have to wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Deliver Ctrl-C, and a signal to end that somebody hears, after the block instead of in it.

    For imports of large packages: one that is broken off leaves modules behind that a later import takes for whole.
    """
    if threading.current_thread() is not threading.main_thread():  # none comes there
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}
    for number in before:
        signal.signal(number, lambda *told: came.append(told))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, frame in came[:1]:
        before[number](number, frame)
