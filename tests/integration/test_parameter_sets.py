"""Parameter sets of all kinds, through the command line: in this process and on workers, cold and warm."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import DEMO, Project

KINDS = """
from dataclasses import dataclass, field
from functools import cached_property

import attrs
import pydantic

import curidask as cf
from curidask.caching import JsonCacher


@dataclass
class Base(cf.ExperimentParameters):
    lr: float = 0.1


@dataclass
class Inherited(Base):
    deep: bool = True

    @cached_property
    def doubled(self):
        return self.lr * 2


@dataclass(frozen=True)
class Frozen(cf.ExperimentParameters):
    lr: float = 0.1


@dataclass(frozen=True, slots=True)
class Slotted(cf.ExperimentParameters):
    lr: float = 0.1
    kind: str = "adam"


@attrs.define
class Attributes(cf.ExperimentParameters):
    name: str = "UNNAMED"
    lr: float = 0.1
    kind: str = "attrs"


class Model(pydantic.BaseModel, cf.ExperimentParameters):
    lr: float = 0.1
    kind: str = "pydantic"


@dataclass
class Part(cf.ExperimentParameters):
    n: int = 1


@dataclass
class Whole(cf.ExperimentParameters):
    lr: float = 0.1
    part: Part = field(default_factory=lambda: Part("part", n=3))


@cf.stage(None, ["score"], [JsonCacher])
def train(record):
    with open(f"calls_{record.name}", "a") as file:
        file.write("x")
    if record.name == "inherited":
        assert record.params.doubled == 0.4
    return [type(record.params).__name__, record.params.lr, getattr(record.params, "kind", None)]


@cf.stage(None, ["n"])
def size(record):
    return record.params.n


def get_params():
    return [
        Inherited("inherited", 0.2), Frozen("frozen", 0.3), Slotted("slotted", 0.4), Slotted("slow", 0.5, "sgd"),
        Attributes("attrs", 0.6), Model(name="model", lr=0.7), Whole("whole", 0.8),
    ]


def run(param_sets, manager):
    scores = {}
    for params in param_sets:
        before = params.params_hash()
        if params.name == "whole":
            assert size(cf.Record(manager, params.part)).state["n"] == 3
        scores[params.name] = train(cf.Record(manager, params)).state["score"]
        assert params.params_hash() == before
    print(scores)
"""

SCORES = {
    "inherited": ["Inherited", 0.2, None],
    "frozen": ["Frozen", 0.3, None],
    "slotted": ["Slotted", 0.4, "adam"],
    "slow": ["Slotted", 0.5, "sgd"],
    "attrs": ["Attributes", 0.6, "attrs"],
    "model": ["Model", 0.7, "pydantic"],
    "whole": ["Whole", 0.8, None],
}


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_all_kinds_of_sets_run_once_and_are_reused(project: Project, parallel: str) -> None:
    project.write("experiments/kinds.py", KINDS)
    for _ in range(2):
        done = project.experiment("kinds", "--parallel", parallel)
        assert done.returncode == 0, done.stderr
        assert str(SCORES) in done.stdout
    counts = {path.name.removeprefix("calls_"): path.read_text() for path in project.root.glob("calls_*")}
    assert counts == dict.fromkeys(SCORES, "x")


def test_displays_show_the_fields_of_all_kinds(project: Project) -> None:
    project.write("experiments/kinds.py", KINDS)
    assert project.experiment("kinds", "--parallel", "0").returncode == 0
    for name, (_, rate, kind) in SCORES.items():
        shown = project.experiment("kinds", "--print-params", name).stdout
        assert str(rate) in shown
        assert kind is None or kind in shown
    described: Any = {record["name"]: record for record in project.last_run()["records"]}
    assert set(described) >= set(SCORES)


def test_a_prefix_shares_between_experiments_whose_own_files_hold_the_class(project: Project) -> None:
    project.write("curidask.toml", 'code = "ignore"')  # where its calls are counted is code
    assert project.experiment("demo", "--prefix", "shared", "--parallel", "0").returncode == 0
    project.calls()
    text = DEMO.replace("Params", "Settings").replace(".parent.parent", ".parents[2]")
    project.write("experiments/further/moved.py", text)
    done = project.experiment("further.moved", "--prefix", "shared", "--parallel", "0")
    assert done.returncode == 0, done.stderr
    assert project.calls() == {}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("class Params(cf.ExperimentParameters):\n    x = 1\n", "gives 'x' no type"),
        ("@dataclass\nclass Params(cf.ExperimentParameters):\n    x = 1\n", "gives 'x' no type"),
        ("class Params(cf.ExperimentParameters):\n    x: int = 1\n", "declares 'x' but is no dataclass"),
    ],
)
def test_a_forgotten_decorator_or_type_is_an_error_that_says_so(project: Project, params: str, said: str) -> None:
    text = DEMO.replace("@dataclass\nclass Params(cf.ExperimentParameters):\n    x: int = 1\n", params)
    text = text.replace('Params(f"set{i}", x=i)', 'Params(f"set{i}")')
    assert text != DEMO
    project.write("experiments/demo.py", text)
    done = project.experiment("demo", "--parallel", "0")
    assert done.returncode == 2
    assert said in done.stderr
    assert "experiments/demo.py:" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_different_sets_with_one_given_hash_are_an_error(project: Project) -> None:
    project.write("experiments/demo.py", DEMO.replace("x=i)", 'x=i, hash="same")'))
    done = project.experiment("demo", "--parallel", "0")
    assert done.returncode == 2
    assert "Two different parameter sets have the hash 'same'" in done.stderr
    assert "'set0' and 'set1'" in done.stderr
    assert project.calls() == {}
    project.write("experiments/demo.py", DEMO.replace("x=i)", 'x=5, hash="same")'))
    assert project.experiment("demo", "--parallel", "0").returncode == 0
