"""Trees of source, though CPython sometimes miscounts their depth."""

from __future__ import annotations

import ast
import gc
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curidask.caching import NumpyCacher
from curidask.core.code.canonical_source import counted_again, parse

SOURCE = "\n".join(f"def f{i}(a, b=[{i}, {{'x': (1, 2)}}]): return [a + {i} for a in b if a]" for i in range(200))


class Nested:
    """Makes a tree when it is collected, as a finalizer does that formats a traceback."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        ast.parse("f(1)")


def with_finalizers(make: Any) -> Any:
    """Call a function while collections call finalizers that make trees."""
    before = gc.get_threshold()
    gc.set_threshold(50)
    try:
        kept = [Nested() for _ in range(100)]
        del kept
        return make()
    finally:
        gc.set_threshold(*before)


def test_a_tree_is_made_whatever_is_collected_meanwhile() -> None:
    for _ in range(3):
        assert len(with_finalizers(lambda: parse(SOURCE)).body) == 200


def test_an_array_is_loaded_whatever_is_collected_meanwhile(tmp_path: Path) -> None:
    NumpyCacher(tmp_path / "a.npz").save(np.arange(3))
    for _ in range(3):
        assert with_finalizers(NumpyCacher(tmp_path / "a.npz").load).tolist() == [0, 1, 2]


def test_other_errors_are_raised() -> None:
    def broken() -> None:
        raise SystemError("another one")

    with pytest.raises(SystemError, match="another one"):
        counted_again(broken)
    with pytest.raises(SyntaxError):
        parse("def")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="CPython counts for each call there")
def test_the_fault_is_there_still() -> None:
    """When this fails everywhere, the module is needed no more."""
    with pytest.raises(SystemError, match="recursion depth mismatch"):
        all(with_finalizers(lambda: ast.parse(SOURCE)) for _ in range(50))
