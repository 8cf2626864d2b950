"""The registry of parameter sets: written by many runs at once, read by name or by the beginning of a hash."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from curidask import ExperimentParameters
from curidask.errors import CacheError, SelectionError
from curidask.runs import param_registry


@dataclass
class Inner:
    rate: float = 0.5


@dataclass
class Params(ExperimentParameters):
    x: Any = 1
    inner: Inner = field(default_factory=Inner)


def find(wanted: str, runs: Path, *current: Params) -> param_registry.ParamSet:
    return param_registry.find(wanted, [param_registry.describe(params) for params in current], runs)


def test_a_set_comes_back_in_full_with_where_it_was_used_first(tmp_path: Path) -> None:
    many = list(range(1000))
    params = Params("a/b: ü", x={"many": many, "kind": Path, "none": None})
    param_registry.add(tmp_path, "demo", "demo_1", [params])
    param_registry.add(tmp_path, "demo", "demo_2", [params])
    found = find("a/b: ü", tmp_path)
    assert (found.hash, found.experiment, found.run) == (params.params_hash(), "demo", "demo_1")
    assert found.values == {
        "x": {"many": many, "kind": "pathlib.Path", "none": None}, "inner": {"rate": 0.5}
    }  # fmt: skip
    assert found.hashed["inner"] == "value of type Inner: {'rate': ('value of type float', '0.5')}"


def test_values_are_plain_whole_and_named(tmp_path: Path) -> None:
    import functools

    import numpy as np

    @dataclass
    class Named:
        name: str = "adam"

    def function() -> None:
        pass

    kept = {
        "set": {3, 1, 2}, "array": np.arange(3), "number": np.int64(3), "far": float("-inf"), "path": tmp_path,
        "part": functools.partial(function, 1, x=Named), "ufunc": np.sin, "named": Named(), "large": np.zeros(10**6),
    }  # fmt: skip
    param_registry.add(tmp_path, "demo", "demo_1", [Params("a", x=kept, inner=Inner(float("nan")))])
    here = f"{__name__}.test_values_are_plain_whole_and_named.<locals>"
    found = find("a", tmp_path).values
    assert found["x"] == {
        "set": [1, 2, 3], "array": [0, 1, 2], "number": 3, "far": "-inf", "path": str(tmp_path),
        "part": {"partial": f"{here}.function", "args": [1], "keywords": {"x": f"{here}.Named"}},
        "ufunc": found["x"]["ufunc"], "named": {"name": "adam"}, "large": repr(np.zeros(10**6)),
    }  # fmt: skip
    assert found["x"]["ufunc"].endswith(".sin")
    assert found["inner"] == {"rate": "nan"}


def test_one_set_under_two_names_and_two_sets_under_one(tmp_path: Path) -> None:
    param_registry.add(tmp_path, "demo", "demo_1", [Params("one", x=1), Params("other name", x=1)])
    assert find("one", tmp_path).hash == find("other name", tmp_path).hash
    assert find(find("one", tmp_path).hash[:10], tmp_path).values["x"] == 1
    param_registry.add(tmp_path, "else", "else_1", [Params("one", x=2)])
    with pytest.raises(SelectionError, match="stands for 2") as caught:
        find("one", tmp_path)
    assert Params("one", x=2).params_hash() in caught.value.fix


def test_current_sets_count_and_need_no_registry(tmp_path: Path) -> None:
    params = Params("fresh", x=5)
    assert find("fresh", tmp_path / "nowhere", params).values["x"] == 5
    param_registry.add(tmp_path, "demo", "demo_1", [params])
    assert find("fresh", tmp_path, params).run == ""


def test_near_names_and_hashes_when_nothing_fits(tmp_path: Path) -> None:
    params = Params("baseline")
    param_registry.add(tmp_path, "demo", "demo_1", [params])
    with pytest.raises(SelectionError) as caught:
        find("basline", tmp_path)
    assert "baseline" in caught.value.fix
    mistyped = params.params_hash()[:7] + ("0" if params.params_hash()[7] != "0" else "1")
    with pytest.raises(SelectionError) as caught:
        find(mistyped, tmp_path)
    assert params.params_hash() in caught.value.fix
    with pytest.raises(SelectionError) as caught:
        find("zzz", tmp_path / "nowhere")
    assert "--hashes" in caught.value.fix


def test_long_and_odd_names(tmp_path: Path) -> None:
    names = ["x" * 500, "x" * 499 + "y", "..", "", "a+b", "line\nbreak", "日本"]
    param_registry.add(tmp_path, "ex/p", "r", [Params(name, x=i) for i, name in enumerate(names)])
    for i, name in enumerate(names[2:], start=2):
        if name:
            assert find(name, tmp_path).values["x"] == i
    assert len(param_registry.listing(tmp_path, "ex/p")) == len(names)
    assert all(path.is_relative_to(tmp_path / "param_sets") for path in tmp_path.rglob("*.json"))


def test_what_is_damaged_or_foreign_is_passed_over(tmp_path: Path) -> None:
    param_registry.add(tmp_path, "demo", "demo_1", [Params("a", x=1), Params("b", x=2)])
    (path,) = [path for path, (_, name) in param_registry.listing(tmp_path).items() if name == "a"]
    path.write_text("{")
    for name in ("notes.txt", ".tmp-1", "no_plus.json"):
        (path.parent / name).write_text("x")
    (tmp_path / "param_sets" / "file").write_text("x")
    assert find("b", tmp_path).values["x"] == 2
    with pytest.raises(SelectionError):
        find("a", tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "param_sets").write_text("a file")
    with pytest.raises(CacheError) as caught:
        param_registry.add(tmp_path, "demo", "demo_1", [Params("a")])
    assert "--dry" in caught.value.fix


WRITER = """
import sys
from pathlib import Path
from curidask.runs import param_registry
from curidask.params import ExperimentParameters
sets = [ExperimentParameters(f"set{i}", hash=f"hash{i}") for i in range(60)]
param_registry.add(Path(sys.argv[1]), "demo", sys.argv[2], sets)
"""


def test_several_runs_write_at_once(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), f"run{n}"]) for n in range(4)]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    sets = param_registry.read(param_registry.listing(tmp_path))
    assert sorted(item.name for item in sets) == sorted(f"set{i}" for i in range(60))
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
