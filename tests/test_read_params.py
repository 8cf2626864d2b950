"""What a stage can be seen to read of its parameters: never less than what it reads."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

import curidask as cf
from curidask.core.code.read_params import reads_of
from curidask.core.used_params import only_used
from tests.conftest import Project


@dataclass
class Data:
    seed: int = 1
    size: int = 10

    def total(self) -> int:
        return self.seed + self.size


class Base(cf.ExperimentParameters):
    def by_base(self) -> int:
        return int(self.n)  # type: ignore[attr-defined]


@dataclass
class Params(Base):
    lr: float = 0.1
    n: int = 2
    data: Data = field(default_factory=Data)
    extra: Data | None = None

    KINDS: ClassVar = ("a", "b")

    @property
    def double(self) -> int:
        return 2 * self.n

    @functools.cached_property
    def triple(self) -> float:
        return 3 * self.lr

    def both(self) -> float:
        return self.n * self.lr

    def indirect(self) -> float:
        return self.both() + self.data.total()

    def with_super(self) -> int:
        return super().by_base()

    @functools.lru_cache  # noqa: B019
    def cached(self) -> int:
        return self.n

    @staticmethod
    def fixed() -> int:
        return 1


@dataclass
class Truthful(cf.ExperimentParameters):
    lr: float = 0.1
    n: int = 2

    def __bool__(self) -> bool:
        return self.n > 0


# --- helpers, as a project has them ----------------------------------------------------------------------------------
def helper(record: Any, other: int = 0) -> float:
    return of_params(record.params) + other


def of_params(params: Any) -> float:
    return float(params.lr)


def params_of(record: Any) -> Any:
    p = record.params
    return p


def one_of_them(record: Any) -> Any:
    return record.params.data if record else None


def keyword_only(*, given: Any) -> int:
    return int(given.n)


def with_rest(*given: Any) -> int:
    return int(given[0].n)


def again(params: Any, depth: int) -> int:
    return int(params.n) if depth == 0 else again(params, depth - 1)


@functools.cache
def decorated(number: int) -> int:
    return number


# --- stages: what they are seen to read ------------------------------------------------------------------------------
def attribute(record: Any) -> Any:
    return record.params.lr


def old_name(record: Any) -> Any:
    return record.args.lr


def part(record: Any) -> Any:
    return record.params.data.seed


def alias(record: Any) -> Any:
    p = q = record.params
    d = q.data
    return p.lr + d.size


def unpacked(record: Any) -> Any:
    (p, x), y = (record.params, 1), 2
    return p.n + x + y


def by_helper(record: Any) -> Any:
    return helper(record, other=2)


def by_keyword(record: Any) -> Any:
    return keyword_only(given=record.params)


def by_returned(record: Any) -> Any:
    return params_of(record).n + one_of_them(record).seed


def by_property(record: Any) -> Any:
    return record.params.double


def by_cached_property(record: Any) -> Any:
    return record.params.triple


def by_method(record: Any) -> Any:
    return record.params.both()


def by_methods(record: Any) -> Any:
    return record.params.indirect()


def method_kept(record: Any) -> Any:
    method = record.params.data.total
    return method()


def by_name(record: Any) -> Any:
    return getattr(record.params, "lr") + getattr(record.params, "missing", 0)  # noqa: B009


def closure(record: Any) -> Any:
    def inner() -> Any:
        return p.lr

    p = record.params
    return inner()


def given_to_inner(record: Any) -> Any:
    def inner(params: Any) -> Any:
        return params.data.seed

    return inner(record.params)


def given_to_lambda(record: Any) -> Any:
    take = lambda params: params.n  # noqa: E731
    return take(record.params)


def comprehension(record: Any) -> Any:
    return [record.params.lr * x for x in range(record.params.n) if x is not record]


def conditional(record: Any) -> Any:
    p = record.params if True else None
    if p is not None and p.lr:
        return p.data.size
    return (p or record.params).n


def walrus(record: Any) -> Any:
    if (p := record.params) is not None:
        return p.lr
    return None


def loops(record: Any) -> Any:
    held = None
    found = []
    for _ in range(2):
        if held is not None:
            found.append(held.n)
        held = record.params
    return found


def in_try(record: Any) -> Any:
    try:
        return f"{record.params.lr:.2f}"
    except ValueError:
        return record.params.n
    finally:
        with open("/dev/null") as file:
            file.read(record.params.data.seed)


def is_none(record: Any) -> Any:
    return record.params.extra is None


def whole_part(record: Any) -> Any:
    return dataclasses.asdict(record.params.data)


def class_level(record: Any) -> Any:
    return record.params.KINDS, record.params.fixed(), type(record.params), isinstance(record.params, Params)


def nothing(record: Any) -> Any:
    return record.get_path("x")


def nonlocal_name(record: Any) -> Any:
    p = None

    def put() -> None:
        nonlocal p
        p = record.params

    put()
    return p.lr  # type: ignore[attr-defined]


def local_import(record: Any) -> Any:
    from tests.test_read_params import of_params as imported

    return imported(record.params)


SEEN = {
    attribute: ["lr"],
    old_name: ["lr"],
    part: ["data.seed"],
    alias: ["lr", "data.size"],
    unpacked: ["n"],
    by_helper: ["lr"],
    by_keyword: ["n"],
    by_returned: ["n", "data.seed"],
    by_property: ["n"],
    by_cached_property: ["lr"],
    by_method: ["lr", "n"],
    by_methods: ["lr", "n", "data.seed", "data.size"],
    method_kept: ["data.seed", "data.size"],
    by_name: ["lr"],
    closure: ["lr"],
    given_to_inner: ["data.seed"],
    given_to_lambda: ["n"],
    comprehension: ["lr", "n"],
    conditional: ["lr", "n", "data.size"],
    walrus: ["lr"],
    loops: ["n"],
    in_try: ["lr", "n", "data.seed"],
    is_none: ["extra"],
    whole_part: ["data"],
    class_level: [],
    nothing: [],
    nonlocal_name: ["lr"],
    local_import: ["lr"],
}


def record_with(params: Any) -> Any:
    return SimpleNamespace(params=params, args=params, get_path=lambda name: name)


@pytest.mark.parametrize("stage", SEEN, ids=lambda stage: stage.__name__)
def test_what_is_seen_to_be_read(stage: Callable[..., Any]) -> None:
    found = reads_of(stage, [Params("x")])
    assert list(found.fields) == SEEN[stage]
    assert found.whole == found.bookkeeping == ()
    stage(record_with(only_used(Params("x"), found.fields, "the test")))  # which raises for what is not among these


def test_what_is_not_seen_to_be_read_is_told_in_full_or_in_part() -> None:
    assert reads_of(part, [Params("x")]).unused == ("lr", "n", "data.size", "extra")
    assert reads_of(attribute, [Params("x", extra=Data())]).unused == ("n", "data", "extra")


# --- stages that read all, as far as can be said ---------------------------------------------------------------------
def asdict(record: Any) -> Any:
    return dataclasses.asdict(record.params)


def all_vars(record: Any) -> Any:
    return vars(record.params)


def computed(record: Any) -> Any:
    return [getattr(record.params, name) for name in ("lr", "n")]


def printed(record: Any) -> Any:
    return f"{record.params}"


def kept_in_list(record: Any) -> Any:
    return [p.n for p in [record.params]]


def returned(record: Any) -> Any:
    return record.params


def record_passed(record: Any) -> Any:
    return copy.copy(record)


def method_of_another(record: Any) -> Any:
    kept: list[Any] = []
    kept.append(record.params)
    return kept[0].n


def to_rest(record: Any) -> Any:
    return with_rest(record.params)


def starred(record: Any) -> Any:
    return helper(*[record])


def after_starred(record: Any) -> Any:
    nothing: list[Any] = []
    return of_params(*nothing, record.params)


def recursive(record: Any) -> Any:
    return again(record.params, 3)


def compared(record: Any) -> Any:
    return record.params == 3


def matched(record: Any) -> Any:
    match record.params:
        case Params(lr=lr):
            return lr


def by_super(record: Any) -> Any:
    return record.params.with_super()


def by_cache(record: Any) -> Any:
    return record.params.cached()


def by_dict(record: Any) -> Any:
    return record.params.__dict__["n"]


def own_method(record: Any) -> Any:
    return record.params.params_hash()


def to_class(record: Any) -> Any:
    return SimpleNamespace(p=record.params)


def attribute_of_another(record: Any) -> Any:
    holder = SimpleNamespace()
    holder.params = record.params
    return holder.params.n


def default(record: Any) -> Any:
    def inner(p: Any = record.params) -> Any:
        return p.n

    return inner()


def to_decorated(record: Any) -> Any:
    return decorated(record.params)


def shadowed(record: Any) -> Any:
    return [record.n for record in [record.params]]


WHOLE = [
    asdict, all_vars, computed, printed, kept_in_list, returned, record_passed, method_of_another, to_rest, starred,
    after_starred, recursive, compared, matched, by_super, by_cache, by_dict, own_method, to_class,
    attribute_of_another, default, to_decorated, shadowed,
]  # fmt: skip


@pytest.mark.parametrize("stage", WHOLE, ids=lambda stage: stage.__name__)
def test_what_cannot_be_followed_reads_all_and_is_told_with_its_place(stage: Callable[..., Any]) -> None:
    found = reads_of(stage, [Params("x")])
    assert found.whole, found
    assert all("tests.test_read_params." in why and "(line " in why for why in found.whole)


def test_asking_whether_a_set_is_true_reads_what_its_class_looks_at() -> None:
    assert reads_of(conditional, [Truthful("x")]).fields == ("lr", "n")

    def asked(record: Any) -> Any:
        return 1 if record.params else 2

    assert reads_of(asked, [Truthful("x")]).fields == ("n",)


def test_functions_without_a_source_and_decorated_ones_read_all() -> None:
    made: dict[str, Any] = {}
    exec("def stage(record):\n    return 1", made)

    @functools.wraps(attribute)
    def wrapper(record: Any) -> Any:
        return attribute(record)

    assert reads_of(made["stage"], [Params("x")]).whole == ("its source cannot be read",)
    assert "decorated" in reads_of(wrapper, [Params("x")]).whole[0]


def test_what_a_set_is_called_is_told() -> None:
    def named(record: Any) -> Any:
        return record.params.name, record.params.lr

    found = reads_of(named, [Params("x")])
    assert (found.bookkeeping, found.fields) == (("name",), ("lr",))


EXPERIMENT = """
from dataclasses import asdict, dataclass, field
import curidask as cf
from curidask.caching import JsonCacher
from lib import scaled

@dataclass
class Data:
    seed: int = 0
    size: int = 1

@dataclass
class Params(cf.ExperimentParameters):
    lr: float = 0.1
    n: int = 1
    data: Data = field(default_factory=Data)

@cf.stage(None, ["rows"], [JsonCacher])
def load(record):
    raise RuntimeError("nothing is run")

@cf.stage(["rows"], ["scaled"], [JsonCacher])
def scale(record, rows):
    return scaled(rows, record.params) * record.params.data.seed

@cf.stage(["scaled"], ["model"], [JsonCacher], params=["n", "lr", "data"])
def fit(record, scaled):
    return record.params.n

@cf.stage(["model"], ["told"], [JsonCacher])
def tell(record, model):
    return asdict(record.params), record.name

@cf.aggregate(["told"], ["table"], [JsonCacher])
def table(record, records, told):
    return 1

def get_params():
    return [Params("one"), Params("two", lr=2)]

def run(param_sets, manager):
    table(cf.Record(manager, None), [tell(fit(scale(load(cf.Record(manager, p))))) for p in param_sets])
"""


def test_the_command(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("curidask.toml", "")
    project.write("lib.py", "def scaled(rows, params):\n    return params.lr\n")
    project.write("experiments/e.py", EXPERIMENT)
    done = project.command("curidask", "explain", "e", "--unused-params")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "load: reads none; not seen to read: lr, n, data",
        "load: params=[]",
        "scale: reads lr, data.seed; not seen to read: n, data.size",
        'scale: params=["lr", "data.seed"]',
        "fit: reads n; not seen to read: lr, data",
        'fit: params=["n"]',
        "tell: reads `name`, which a stage with params= cannot; give it what it needs as an argument first",
        "tell: reads all of its parameters: passed to asdict in experiments.e.tell (line 32)",
        "table: its records have no parameter set of their own",
    ]
    one = project.command("curidask", "explain", "e", "--unused-params", "--stage", "fit")
    assert one.stdout.splitlines() == ["fit: reads n; not seen to read: lr, data", 'fit: params=["n"]']
    assert not project.cache.exists()


def draws(record: Any) -> Any:
    return record.rng.integers(9)


def seeds(record: Any) -> Any:
    again = record
    return random_of(again.seed)


def random_of(seed: int) -> int:
    return seed % 7


@pytest.mark.parametrize("stage", [draws, seeds])
def test_a_stage_that_draws_reads_all_that_seeds_it(stage: Callable[[Any], Any]) -> None:
    # Sets that differ elsewhere would draw the same, and share a task.
    (why,) = reads_of(stage, [Params("x")]).whole
    assert "drawn from by record." in why
