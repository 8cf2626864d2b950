"""Code by value: what comes out has the file and the lines of what went in."""

from __future__ import annotations

import io
import pickle
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from curidask.caching import PickleCacher, by_value, pickling
from curidask.executors import shipping

SOURCE = """
def outer():
    def inner():
        raise ValueError("here")
    return inner


class Model:
    def fit(self):
        return outer()()
"""


@pytest.fixture
def written(tmp_path: Path) -> ModuleType:
    """A module that can be pickled by value only."""
    path = tmp_path / "written.py"
    path.write_text(SOURCE)
    module = ModuleType("written")
    exec(compile(SOURCE, str(path), "exec"), vars(module))
    return module


def through_cacher(value: Any, folder: Path) -> Any:
    cacher = PickleCacher(folder / "value.pkl")
    cacher.save(value)
    return cacher.load()


def through_job(value: Any, folder: Path) -> Any:
    buffer = io.BytesIO()
    shipping._CloudJobPickler(buffer).dump(value)
    return pickle.loads(buffer.getvalue())


@pytest.mark.parametrize(
    "through",
    [
        lambda value, folder: pickle.loads(by_value.dumps(value)),
        lambda value, folder: pickling.loads(pickling.dumps(value)),
        through_cacher,
        through_job,
    ],
    ids=["code", "value", "artifact", "job"],
)
def test_tracebacks_name_the_file(written: ModuleType, tmp_path: Path, through: Callable[[Any, Path], Any]) -> None:
    made, function = through([written.Model(), written.outer()], tmp_path)
    for call in (made.fit, function):
        with pytest.raises(ValueError, match="here") as caught:
            call()
        shown = "".join(traceback.format_exception(caught.value))
        assert re.search(r'written\.py", line 4, in inner\n +raise ValueError\("here"\)', shown)
