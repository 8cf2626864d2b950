"""``params=``: only what a stage says it reads enters its key, and nothing else can be read."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import pydantic
import pytest

import curidask as cf
from curidask.caching import JsonCacher
from curidask.core.used_params import only_used, used_hash
from curidask.errors import ParameterError, StageDefinitionError, UndeclaredParameterError
from tests.conftest import Project


@dataclass
class Data:
    seed: int = 0
    size: int = 10
    hash_representations: dict[str, Any] = cf.set_hash_functions(size=None)  # noqa: RUF009


SEEN: list[type] = []


@dataclass
class Params(cf.ExperimentParameters):
    lr: float = 0.1
    n: int = 2
    data: Data = field(default_factory=Data)
    extra: Data | None = None

    def __init_subclass__(cls, **_: Any) -> None:
        SEEN.append(cls)

    @property
    def double(self) -> int:
        return 2 * self.n

    @cached_property
    def triple(self) -> int:
        return 3 * self.n

    def both(self) -> float:
        return self.n * self.lr

    def __call__(self) -> int:
        return self.n


@dataclass(frozen=True, slots=True)
class Frozen(cf.ExperimentParameters):
    lr: float = 0.1
    n: int = 2


@attrs.define
class Attrs(cf.ExperimentParameters):
    name: str = "UNNAMED"
    lr: float = 0.1
    n: int = 2


class Model(pydantic.BaseModel, cf.ExperimentParameters):
    name: str = "UNNAMED"
    lr: float = 0.1
    n: int = 2


# --- the hash --------------------------------------------------------------------------------------------------------
def hash_of(names: list[str], **values: Any) -> str:
    return used_hash(Params("p", **values), names, "stage 's'")


def test_only_what_is_named_counts() -> None:
    assert hash_of(["n"]) == hash_of(["n"], lr=3.0, data=Data(5))
    assert hash_of(["n"]) != hash_of(["n"], n=3)
    assert hash_of(["n", "lr"]) == hash_of(["lr", "n"])
    assert hash_of(["n", "lr"]) != hash_of(["n"])
    assert hash_of([]) == hash_of([], n=7)


def test_parts_of_fields_count_alone() -> None:
    assert hash_of(["data.seed"]) == hash_of(["data.seed"], data=Data(0, 99))
    assert hash_of(["data.seed"]) != hash_of(["data.seed"], data=Data(1))
    assert hash_of(["data"]) != hash_of(["data"], data=Data(1))


def test_a_part_of_none_is_not_a_part_that_is_none() -> None:
    texts = {hash_of(["extra.seed"], extra=value) for value in (None, Data(None), Data(1))}  # type: ignore[arg-type]
    assert len(texts) == 3


def test_representations_count_at_each_level() -> None:
    assert hash_of(["data.size"]) == hash_of(["data.size"], data=Data(0, 99))  # Data leaves it out
    whole: Any = {"data": lambda self, data: data.seed}
    one, other = (hash_of(["data.size"], data=Data(seed), hash_representations=whole) for seed in (1, 2))
    assert one != other
    left_out = {"data": None}
    assert hash_of(["data.seed"], hash_representations=left_out) == hash_of(
        ["data.seed"], hash_representations=left_out, data=Data(7)
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dat", r"(?s)'dat', which is no field of Params.*did you mean 'data'"),
        ("data.sed", r"(?s)'data.sed', which is no field of Data.*did you mean 'seed'"),
        ("lr.x", r"(?s)'lr' is a float, which has no fields.*name the whole"),
        ("name", "'name', which is no field of Params that counts"),
        ("data.hash_representations", "no field"),
    ],
)
def test_what_is_no_field_is_an_error_with_the_near_name(name: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        hash_of([name])


# --- reading ---------------------------------------------------------------------------------------------------------
def test_what_is_named_reads_as_before() -> None:
    known = len(SEEN)
    params = only_used(Params("p", n=4, data=Data(7)), ["n", "data.seed"], "stage 's'")
    assert (params.n, params.double, params.triple, params.triple, params(), params.data.seed) == (4, 8, 12, 12, 4, 7)
    assert isinstance(params, Params)
    assert type(params).__name__ == "Params"
    assert SEEN[known:] == []  # no class of the user's hears of it
    params.n = 5
    assert params.double == 10
    assert vars(params)["n"] == 5


READS: dict[str, Callable[[Any], Any]] = {
    "field": lambda p: p.lr,
    "getattr": lambda p: getattr(p, "lr", None),
    "hasattr": lambda p: hasattr(p, "lr"),
    "name": lambda p: p.name,
    "hash": lambda p: p.hash,
    "method": lambda p: p.both(),
    "params_hash": lambda p: p.params_hash(),
    "nested": lambda p: p.data.size,
    "nested whole": lambda p: dataclasses.asdict(p.data),
    "asdict": dataclasses.asdict,
    "astuple": dataclasses.astuple,
    "replace": lambda p: dataclasses.replace(p, n=1),
    "vars": lambda p: dict(vars(p)),
    "vars item": lambda p: vars(p)["lr"],
    "vars get": lambda p: p.__dict__.get("lr"),
    "vars len": lambda p: len(vars(p)),
    "repr": repr,
    "str": str,
    "format": lambda p: f"{p}",
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "equal": lambda p: p == Params("p"),
    "unequal": lambda p: p != Params("p"),
    "among": lambda p: p in [Params("p")],
    "set": lambda p: {p},
    "fields": lambda p: [getattr(p, f.name) for f in dataclasses.fields(p)],
}


@pytest.mark.parametrize("how", READS)
def test_what_is_not_named_cannot_be_read(how: str) -> None:
    params = only_used(Params("p", n=4), ["n", "data.seed"], "stage 's'")
    with pytest.raises(UndeclaredParameterError, match=r"`params` does not name"):
        READS[how](params)


def test_the_error_says_what_to_write() -> None:
    params = only_used(Params("p"), ["n", "data.seed"], "stage 's'")
    with pytest.raises(UndeclaredParameterError, match=r"(?s)reads 'lr'.*params=\[..., 'lr'\]"):
        params.lr  # noqa: B018
    with pytest.raises(UndeclaredParameterError, match=r"(?s)reads 'data.size'.*params=\[..., 'data.size'\]"):
        params.data.size  # noqa: B018


@pytest.mark.parametrize("kind", [Frozen, Attrs, Model], ids=lambda kind: kind.__name__)
def test_all_kinds_of_sets(kind: Any) -> None:
    whole = kind(name="p", n=4)
    assert used_hash(whole, ["n"], "s") == hash_of(["n"], n=4)
    params = only_used(whole, ["n"], "stage 's'")
    assert params.n == 4
    assert isinstance(params, kind)
    for read in (lambda p: p.lr, repr, pickle.dumps, copy.copy, lambda p: p == whole):
        with pytest.raises(UndeclaredParameterError):
            read(params)
    assert whole.lr == 0.1


def test_all_of_a_set_may_be_named() -> None:
    params = only_used(Params("p"), ["lr", "n", "data", "extra"], "stage 's'")
    assert (params.lr, params.data, params.both()) == (0.1, Data(), 0.2)


# --- through a run ---------------------------------------------------------------------------------------------------
EXPERIMENT = """
from dataclasses import dataclass
import curidask as cf
from curidask.caching import JsonCacher

@dataclass
class Params(cf.ExperimentParameters):
    seed: int = 0
    lr: float = 0.1

@cf.stage(None, ["data"], [JsonCacher], params=["seed"])
def split(record):
    with open("ran", "a") as file:
        file.write("s")
    with open(record.get_path("note.txt"), "w") as file:
        file.write(str(record.params.seed))
    return record.params.seed

@cf.stage(["data"], ["model"], [JsonCacher])
def fit(record, data):
    with open("ran", "a") as file:
        file.write("f")
    with open(record.get_path("note.txt", stage_name="split")) as file:
        return [data, record.params.lr, file.read()]

@cf.aggregate(["model"], ["table"], [JsonCacher], params=[])
def table(record, records, model):
    return {r.params.name: value for r, value in model.items()}

def get_params():
    return [Params(f"{seed}-{lr}", seed=seed, lr=lr) for seed in (1, 2) for lr in (0.1, 0.2, 0.3)]

def run(param_sets, manager):
    for params in param_sets:
        fit(split(cf.Record(manager, params)))
    print(table(cf.Record(manager, param_sets[0])).state["table"])
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_sets_that_differ_elsewhere_share_a_task(project: Project, workers: int) -> None:
    project.write("experiments/shares.py", EXPERIMENT)
    mapped = project.experiment("shares", "--map", "--parallel", "0")
    assert mapped.stdout.count("split: run, not in the cache (shared by 3 sets)") == 6, mapped.stderr
    for ran in ("ffffffss", "ffffffss"):
        done = project.experiment("shares", "--parallel", str(workers))
        assert done.returncode == 0, done.stderr
        assert "'1-0.1': [1, 0.1, '1']" in done.stdout
        assert "'2-0.3': [2, 0.3, '2']" in done.stdout
        assert "".join(sorted((project.root / "ran").read_text())) == ran
    assert "shared by 3 sets" in (project.root / "reports" / "_latest" / "index.html").read_text()
    project.write("experiments/shares.py", EXPERIMENT.replace("lr: float = 0.1", "lr: float = 0.1\n    more: int = 5"))
    done = project.experiment("shares", "--parallel", "0")
    assert "".join(sorted((project.root / "ran").read_text())) == "ffffffffffffss"


def test_a_stage_that_reads_more_fails_and_says_so(tmp_path: Path) -> None:
    @cf.stage(None, ["x"], [JsonCacher], params=["n"])
    def reads(record: Any) -> float:
        return float(record.params.lr)

    with (
        cf.ArtifactManager("e", cache_path=tmp_path) as manager,
        pytest.raises(UndeclaredParameterError, match=r"(?s)reads 'lr'"),
    ):
        reads(cf.Record(manager, Params("p"))).state["x"]


def test_names_of_fields_are_checked_when_the_stage_is_called(tmp_path: Path) -> None:
    @cf.stage(None, ["x"], params=["nn"])
    def wrong(record: Any) -> int:
        return 1

    @cf.stage(None, ["x"], params=["n"])
    def right(record: Any) -> int:
        return 1

    with cf.ArtifactManager("e", cache_path=tmp_path) as manager:
        with pytest.raises(ParameterError, match="'nn', which is no field"):
            wrong(cf.Record(manager, Params("p")))
        with pytest.raises(StageDefinitionError, match="has no parameter set"):
            right(cf.Record(manager, None))
    with pytest.raises(StageDefinitionError, match="not a list"):
        cf.stage(None, ["x"], params="n")
    with pytest.raises(StageDefinitionError, match="cannot be a field"):
        cf.stage(None, ["x"], params=["n-x"])(lambda record: 1).spec.check()  # type: ignore[attr-defined]


def test_what_is_stored_says_the_used_parameters_only(tmp_path: Path) -> None:
    @cf.stage(None, ["x"], [JsonCacher], params=["n", "data.seed"])
    def counts(record: Any) -> Any:
        return [record.params.n, record.get_hash()]

    with cf.ArtifactManager("e", cache_path=tmp_path) as manager:
        record = counts(cf.Record(manager, Params("p", n=3)))
        assert record.state["x"] == [3, hash_of(["n", "data.seed"], n=3)]
        manifests = list(manager.store.manifests(manager.graph[0].store_stems).values())
    assert [m.params for m in manifests] == [{"n": 3, "data.seed": 0}]
    assert [m.params_hash for m in manifests] == [hash_of(["n", "data.seed"], n=3)]
