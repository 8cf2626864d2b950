"""Random numbers without a seed: others in each stage, and none of a stage's doing in what comes after it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

from curidask.execution.process.package_state import loaded

WORDS = 4
"""Of 32 bits, from which numpy's generator starts."""


def start_anew() -> None:
    """Start the global generators of Python and numpy from the system's entropy.

    Neither a seed that an earlier stage set nor one that the project's modules set when they were imported may decide
    what a stage draws: it would depend on which stages ran before it, in its process.
    """
    random.seed(os.urandom(4 * WORDS))
    _start_numpy_anew()


def _start_numpy_anew() -> None:
    numpy_random = loaded("numpy.random")
    if numpy_random is None:
        return
    entropy = os.urandom(4 * WORDS)
    words = [int.from_bytes(entropy[start : start + 4], "little") for start in range(0, len(entropy), 4)]
    if isinstance(numpy_random.get_bit_generator(), numpy_random.MT19937):
        numpy_random.seed(words)
    else:  # a stage put another one in its place
        numpy_random.set_bit_generator(numpy_random.MT19937(words))


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Put the global generators back after the block: what runs stages in between goes on to draw as if it did not."""
    state = random.getstate()
    numpy_random = loaded("numpy.random")
    generator = numpy_random.get_bit_generator() if numpy_random is not None else None
    numpy_state = numpy_random.get_state(legacy=False) if numpy_random is not None else None
    try:
        yield
    finally:
        random.setstate(state)
        if numpy_random is None:
            _start_numpy_anew()
        else:
            numpy_random.set_bit_generator(generator)
            numpy_random.set_state(numpy_state)
