"""What stands on other contents than its inputs have now is never served, whatever broke off what made them."""

from __future__ import annotations

import ast
import warnings
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

import curidask as cf
from curidask import run_experiment
from curidask.caching import JsonCacher
from curidask.store.artifacts import ArtifactStore
from tests.conftest import Project
from tests.s3server import S3Server

EXPERIMENT = """
import os
from dataclasses import dataclass
import curidask as cf
from curidask.caching import JsonCacher

@dataclass
class Params(cf.ExperimentParameters):
    x: int = 0

def called(what):
    calls = open("calls").read().split()
    with open("calls", "a") as file:
        file.write(what + "\\n")
    if len(calls) == int(os.environ.get("STOP_AT", "-1")):
        if os.environ["STOP_BY"] == "kill":
            os.killpg(0, 9) if os.environ.get("GROUP") else os.kill(os.getpid(), 9)
        raise KeyboardInterrupt if os.environ["STOP_BY"] == "interrupt" else RuntimeError("stopped here")

@cf.stage(None, ["up"], [JsonCacher])
def make(record):
    called(f"make-{record.params.x}")
    return [record.params.x, open("world").read()]

@cf.stage(["up"], ["between"])
def pass_on(record, up):
    return up

@cf.stage(["between"], ["down"], [JsonCacher])
def follow(record, between):
    called(f"follow-{record.params.x}")
    return between

@cf.stage(["up"], ["beside"], [JsonCacher])
def look(record, up):
    called(f"look-{record.params.x}")
    return up[0]

@cf.aggregate(["down"], ["table"], [JsonCacher])
def gather(record, records, down):
    called("gather")
    return {str(r.params.x): value for r, value in down.items()}

@cf.stage(["beside"], ["end"], [JsonCacher])
def finish(record, beside):
    called(f"finish-{record.params.x}")
    return beside

def get_params():
    return [Params(f"p{x}", x=x) for x in range(4)]

def run(param_sets, manager):
    records = [finish(look(follow(pass_on(make(cf.Record(manager, p)))))) for p in param_sets]
    table = gather(cf.Record(manager, None), records)
    if manager.map_mode:
        return
    for record in records:
        print("VALUE", [record.params.x, record.state["up"], record.state["down"], record.state["end"]])
    print("TABLE", table.state["table"])
"""


class Lab:
    """The experiment, in a world that can change without any key noticing."""

    def __init__(self, project: Project, cache: str = "") -> None:
        self.project, self.cache = project, cache
        self.env: dict[str, str] = {}
        self.path("calls").write_text("")
        project.write("experiments/e.py", EXPERIMENT)
        self.world("1")

    def path(self, name: str) -> Path:
        return self.project.root / name

    def world(self, content: str) -> None:
        self.path("world").write_text(content)

    def run(self, *arguments: str, code: int = 0, **env: str) -> Counter[str]:
        """Run it; what was called, once more than before."""
        before = Counter(self.path("calls").read_text().split())
        cache = ("--cache", self.cache) if self.cache else ()
        done = self.project.experiment("e", "--no-report", *cache, *arguments, env={**self.env, **env})
        assert done.returncode == code, done.stderr
        self.said = done
        if code == 0 and "--map" not in arguments:
            self.check(done.stdout)
        return Counter(self.path("calls").read_text().split()) - before

    def check(self, told: str) -> None:
        """All values stand on each other."""
        rows = [ast.literal_eval(line.partition("VALUE ")[2]) for line in told.splitlines() if "VALUE " in line]
        (table,) = (ast.literal_eval(line.partition("TABLE ")[2]) for line in told.splitlines() if "TABLE " in line)
        assert {str(row[0]) for row in rows} == table.keys()
        for x, up, down, end in rows:
            assert up == down == table[str(x)]
            assert end == x
        self.worlds = [up[1] for _, up, _, _ in rows]


@pytest.fixture
def lab(project: Project) -> Lab:
    return Lab(project)


OVERWRITE = ("--overwrite-stage", "make")
WORKERS = pytest.mark.parametrize("workers", ["0", "2"])


@pytest.mark.parametrize(("workers", "at"), [("0", 1), ("0", 6), ("2", 3)])
def test_a_broken_off_overwrite_leaves_nothing_old_to_serve(lab: Lab, workers: str, at: int) -> None:
    first = lab.run("--parallel", "0")
    assert set(first.values()) == {1}
    lab.world("2")
    stop = {"STOP_AT": str(len(first.keys()) + at), "STOP_BY": "raise"}
    lab.run("--parallel", workers, *OVERWRITE, code=1, **stop)
    again = lab.run("--parallel", workers)
    assert "2" in lab.worlds
    assert lab.run("--parallel", workers) == Counter()
    assert all(n == 1 for n in again.values())


def test_a_killed_overwrite_leaves_nothing_old_to_serve(lab: Lab) -> None:
    first = lab.run("--parallel", "0")
    lab.world("2")
    lab.run("--parallel", "0", *OVERWRITE, code=-9, STOP_AT=str(first.total() + 4), STOP_BY="kill")
    again = lab.run("--parallel", "2")
    assert "2" in lab.worlds
    assert "gather" in again
    assert lab.run("--parallel", "0") == Counter()


@WORKERS
def test_what_comes_out_the_same_leaves_what_is_after_it(lab: Lab, workers: str) -> None:
    lab.run("--parallel", "0")
    for manifest in lab.path("data/cache").glob("e_*_make_up.*"):
        manifest.unlink()
    for each in lab.path("data/cache").glob("e_*_look_*"):
        each.unlink()
    again = lab.run("--parallel", workers)
    assert again == Counter({f"{stage}-{x}": 1 for stage in ("make", "look") for x in range(4)})
    assert "unchanged" in lab.said.stderr
    assert lab.run("--parallel", workers) == Counter()


def test_what_comes_out_otherwise_is_followed(lab: Lab) -> None:
    lab.run("--parallel", "0")
    lab.world("2")
    for path in [*lab.path("data/cache").glob("e_*_make_up.*"), *lab.path("data/cache").glob("e_*_look_*")]:
        path.unlink()
    again = lab.run("--parallel", "0")
    assert lab.worlds == ["2"] * 4
    # What `look` gives is the same as before, so `finish` stands.
    assert {name.partition("-")[0] for name in again} == {"make", "follow", "look", "gather"}


def test_an_aggregate_over_sets_of_which_one_was_overwritten_alone_is_made_anew(lab: Lab) -> None:
    lab.run("--parallel", "0")
    lab.world("2")
    lab.run("--parallel", "0", *OVERWRITE, "-n", "p1")
    again = lab.run("--parallel", "0")
    assert lab.worlds == ["1", "2", "1", "1"]
    assert again == Counter(["gather"])
    assert lab.run("--parallel", "0") == Counter()


def test_what_was_read_before_it_was_made_anew_is_told(lab: Lab) -> None:
    text = EXPERIMENT.replace("    for record in records:", "    table.state['table']\n    for record in records:")
    lab.project.write("experiments/e.py", text)
    lab.run("--parallel", "0")
    for file in lab.path("data/cache").glob("*_make_up.*"):
        file.unlink()
    assert lab.run("--parallel", "0") == {f"make-{x}": 1 for x in range(4)}
    assert "had been read" not in lab.said.stderr + lab.said.stdout
    for file in lab.path("data/cache").glob("*_make_up.*"):
        file.unlink()
    lab.world("2")
    with suppress(AssertionError):  # what is printed does not belong together
        lab.run("--parallel", "0")
    assert "stage 'gather' of" in lab.said.stderr
    assert "had been read when stage" in " ".join(lab.said.stderr.split())
    lab.run("--parallel", "0")
    assert lab.worlds == ["2"] * 4


def test_a_session_makes_anew_what_stands_on_what_it_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    world = tmp_path / "world"

    @cf.stage(None, ["x"], [JsonCacher])
    def source(record: cf.Record) -> int:
        return int(world.read_text())

    @cf.stage(["x"], ["y"], [JsonCacher])
    def middle(record: cf.Record, x: int) -> int:
        return 10 * x

    @cf.stage(["y"], ["z"], [JsonCacher])
    def end(record: cf.Record, y: int) -> int:
        return y + 1

    with cf.ArtifactManager("session", cache="cache") as manager:
        world.write_text("1")
        assert end(middle(source(cf.Record(manager, None)))).state["z"] == 11
        world.write_text("2")
        for order in ("xzy", "xyz", "yxz"):
            for file in (tmp_path / "cache").glob("*_source_*"):
                file.unlink()
            world.write_text(str(int(world.read_text()) + 1))
            record = end(middle(source(cf.Record(manager, None))))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what was read before
                read = [(name, record.state[name]) for name in order]
            now = int(world.read_text())
            expected = {"x": now, "y": 10 * now, "z": 10 * now + 1}
            assert dict(read[order.index("x") :]) == {name: expected[name] for name in order[order.index("x") :]}


def test_the_map_says_what_stands_on_other_contents(lab: Lab) -> None:
    lab.run("--parallel", "0")
    lab.world("2")
    lab.run("--parallel", "0", *OVERWRITE, "-n", "p1")
    lab.run("--map")
    assert "gather (leaf): run, it was made from other contents of a stage before it: follow" in lab.said.stdout


def test_plans_ask_no_manifest_for_what_was_told_at_the_end_of_a_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run("--parallel", "0")
    store = ArtifactStore.open(lab.path("data/cache"))
    stems = {path.name[: -len("_metadata.json")] for path in lab.path("data/cache").glob("e_*_metadata.json")}
    wanted = store.present(stems)
    assert len(wanted) > 16
    monkeypatch.setattr(store.catalog, "read_many", lambda stems: dict.fromkeys(stems, 1 / 0) if stems else {})
    known = store.lineage(wanted, "e")
    assert known.keys() == wanted
    assert sum(bool(each.made_from) for each in known.values()) == 13


def test_a_row_holds_for_the_manifest_that_it_was_written_for_only(lab: Lab) -> None:
    lab.run("--parallel", "0")
    index = lab.path("data/cache/.lineage/e")
    kept = index.read_bytes()
    lab.world("2")
    lab.run("--parallel", "0", *OVERWRITE)
    index.write_bytes(kept)  # as where the end of that run was not reached, and somebody has older rows
    assert lab.run("--parallel", "0") == Counter()
    index.write_bytes(zlib.compress(b'{"rows": {"x": [1, 2]}}'))
    assert lab.run("--parallel", "0") == Counter()
    index.write_bytes(b"\xff")
    assert lab.run("--parallel", "0") == Counter()


def test_lineage_holds_in_a_bucket_and_in_tiers(lab: Lab, s3_server: S3Server) -> None:
    lab.env = s3_server.env
    url = s3_server.url(f"lineage-{lab.project.root.parent.name}")
    for workers, cache in (("0", url), ("0", f"data/cache,{url}2")):
        lab.cache = cache
        lab.world("1")
        lab.run("--parallel", workers)
        lab.world("2")
        lab.run("--parallel", workers, *OVERWRITE, "-n", "p1")
        assert lab.run("--parallel", workers) == Counter(["gather"])
        assert lab.worlds == ["1", "2", "1", "1"]
        assert lab.run("--parallel", workers) == Counter()


# --- the same command again -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("workers", "flags"), [("0", OVERWRITE), ("0", ("--overwrite",))])
def test_the_same_command_finishes_a_broken_off_overwrite(lab: Lab, workers: str, flags: tuple[str, ...]) -> None:
    first = lab.run("--parallel", workers)
    lab.world("2")
    calls: Counter[str] = Counter()
    done = first.total()
    for at in (3, 0):  # broken off twice
        broken = lab.run("--parallel", workers, *flags, code=1, STOP_AT=str(done + at), STOP_BY="raise")
        done += broken.total()
        calls += broken
    rest = lab.run("--parallel", workers, *flags)
    assert lab.worlds == ["2"] * 4
    assert "going on where e_3" in lab.said.stderr
    # A stage that raised is called again, nothing else is.
    assert {name: n for name, n in (calls + rest).items() if n > 1}.keys() <= broken_at(calls, rest)
    assert (calls + rest).keys() == first.keys()
    assert lab.run("--parallel", workers) == Counter()
    assert lab.run("--parallel", workers, *flags) == first, "a run that came to its end is no reason to keep anything"


def broken_at(calls: Counter[str], rest: Counter[str]) -> set[str]:
    """What was called in several runs: at most the two calls that raised."""
    twice = {name for name, n in (calls + rest).items() if n > 1}
    assert len(twice) <= 2
    return twice


@pytest.mark.parametrize("at", [4, 12])
def test_an_interrupted_overwrite_goes_on_anywhere(lab: Lab, at: int) -> None:
    first = lab.run("--parallel", "0")
    lab.world("2")
    broken = lab.run("--parallel", "0", *OVERWRITE, code=-9, STOP_AT=str(first.total() + at), STOP_BY="kill")
    rest = lab.run("--parallel", "0", *OVERWRITE)
    assert lab.worlds == ["2"] * 4
    assert (broken + rest).total() <= first.total() + 1
    assert lab.run("--parallel", "0") == Counter()


def test_an_overwrite_interrupted_at_each_point_is_finished_by_the_same_call(
    in_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(in_project)

    def run(*stages: str) -> Counter[str]:
        before = Counter(lab.path("calls").read_text().split())
        run_experiment("e", parallel=0, overwrite_stages=list(stages), report=False, log=False)
        return Counter(lab.path("calls").read_text().split()) - before

    first = run()
    for at in range(20):
        lab.world(str(at))
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            before = Counter(lab.path("calls").read_text().split())
            patch.setenv("STOP_AT", str(before.total() + at))
            patch.setenv("STOP_BY", "interrupt")
            run("make")
        done = Counter(lab.path("calls").read_text().split()) - before
        rest = run("make") if done.total() == at + 1 else Counter[str]()
        assert done + rest - first == Counter(dict.fromkeys(list(done + rest - first), 1)), at
        assert (done + rest - first).total() == (at < first.total()), at
        assert {name.partition("-")[0] for name in done + rest} == {name.partition("-")[0] for name in first}
        assert run() == Counter()
        values = [path.read_text() for path in lab.path("data/cache").glob("e_*_follow_down.*.json")]
        told = [value for value in values if f'"{at}"' in value]
        assert len(told) == 4, at


def test_another_run_in_between_ends_what_was_broken_off(lab: Lab) -> None:
    first = lab.run("--parallel", "0")
    lab.run("--parallel", "0", *OVERWRITE, code=1, STOP_AT=str(first.total() + 3), STOP_BY="raise")
    lab.run("--parallel", "0")
    assert lab.run("--parallel", "0", *OVERWRITE) == first
    lab.run("--parallel", "0", *OVERWRITE, code=1, STOP_AT=str(3 * first.total() + 10), STOP_BY="raise")
    assert lab.run("--parallel", "0", "--overwrite") == first


# --- early cut-off ----------------------------------------------------------------------------------------------------
def edited(lab: Lab, old: str, new: str) -> None:
    text = (lab.path("experiments/e.py")).read_text()
    assert old in text
    lab.project.write("experiments/e.py", text.replace(old, new))


@pytest.mark.parametrize(("workers", "place"), [("2", "folder"), ("0", "bucket"), ("0", "tiers")])
def test_an_edit_that_changes_no_value_runs_its_stage_alone(
    lab: Lab, s3_server: S3Server, workers: str, place: str
) -> None:
    lab.env = s3_server.env
    url = s3_server.url(f"cut-{lab.project.root.parent.name}")
    lab.cache = {"folder": "", "bucket": url, "tiers": f"data/cache,{url}"}[place]
    first = lab.run("--parallel", "0")
    edited(lab, '[record.params.x, open("world").read()]', '[record.params.x] + [open("world").read()]')
    again = lab.run("--parallel", workers)
    # What stands between two stages without being stored cannot be compared, so `follow` runs.
    assert again == Counter({name: 1 for name in first if name.startswith(("make", "follow"))})
    assert "9 unchanged" in lab.said.stderr
    assert lab.run("--parallel", workers) == Counter()
    edited(lab, '[record.params.x] + [open("world").read()]', '[record.params.x] + ["other"]')
    assert {name.partition("-")[0] for name in lab.run("--parallel", workers)} == {"make", "follow", "look", "gather"}
    assert lab.worlds == ["other"] * 4


def test_what_was_taken_over_stands_when_what_it_came_from_is_gone(lab: Lab) -> None:
    lab.run("--parallel", "0")
    before = set(lab.path("data/cache").iterdir())
    edited(lab, '[record.params.x, open("world").read()]', '[record.params.x] + [open("world").read()]')
    lab.run("--parallel", "0")
    for path in before:
        if path.is_file():
            path.unlink()
    assert lab.run("--parallel", "0") == Counter()
    verified = lab.project.command("curidask", "cache", "verify")
    assert verified.returncode == 0, verified.stdout


def test_a_damaged_artifact_is_not_taken_over(lab: Lab) -> None:
    lab.run("--parallel", "0")
    for path in lab.path("data/cache").glob("e_*_look_beside.*.json"):
        if not path.name.endswith("_metadata.json"):
            path.write_text("17")
    edited(lab, '[record.params.x, open("world").read()]', '[record.params.x] + [open("world").read()]')
    again = lab.run("--parallel", "0")
    assert {name.partition("-")[0] for name in again} == {"make", "follow", "look"}


FILES = """
import curidask as cf
from curidask.caching import JsonCacher, PickleCacher

def called(what):
    with open("calls", "a") as file:
        file.write(what + "\\n")

@cf.stage(None, ["n"], [JsonCacher])
def begin(record):
    called("begin")
    return 1

@cf.stage(["n"], ["a", "b"], [JsonCacher, PickleCacher])
def two(record, n):
    called("two")
    with open(record.get_path("note.txt"), "w") as file:
        file.write(f"note {n}")
    with open(record.get_dir("folder") + "/in.txt", "w") as file:
        file.write("inside")
    record.report(cf.reporting.JsonReporter({"n": n}, name="numbers"))
    return n, [n]

@cf.stage(["b"], ["c"], [JsonCacher])
def read(record, b):
    called("read")
    with open(record.get_path("note.txt", stage_name="two")) as file:
        return [b, file.read()]

@cf.stage(["n"], ["p"], [PickleCacher])
def refer(record, n):
    called("refer")
    path = record.get_path("w.txt")
    with open(path, "w") as file:
        file.write("weights")
    return {"weights": path}

@cf.aggregate(["c", "a"], ["sum"], [JsonCacher])
def gather(record, records, c, a):
    called("gather")
    return [*c.values(), *a.values()]

def get_params():
    return [cf.ExperimentParameters("p")]

def run(param_sets, manager):
    record = refer(read(two(begin(cf.Record(manager, param_sets[0])))))
    table = gather(cf.Record(manager, None), [record])
    if not manager.map_mode:
        print("VALUES", record.state["c"], open(record.state["p"]["weights"]).read(), table.state["sum"])
"""


def test_outputs_of_one_call_and_their_files_are_taken_over_together(project: Project) -> None:
    def run() -> tuple[list[str], str]:
        (project.root / "calls").write_text("")
        done = project.experiment("f", "--parallel", "0")
        assert done.returncode == 0, done.stderr
        page = (project.root / "reports" / "_latest" / "index.html").read_text()
        assert "numbers" in page
        return sorted((project.root / "calls").read_text().split()), done.stdout.partition("VALUES ")[2].strip()

    project.write("experiments/f.py", FILES)
    calls, values = run()
    assert calls == ["begin", "gather", "read", "refer", "two"]
    project.write("experiments/f.py", FILES.replace("return 1\n", "return 2 - 1\n"))
    # `read` got a file of a stage whose output it does not read, and what `refer` returned names its own artifact.
    assert run() == (["begin", "read", "refer"], values)
    assert run() == ([], values)
    verified = project.command("curidask", "cache", "verify")
    assert verified.returncode == 0, verified.stdout
    project.write("experiments/f.py", FILES.replace('f"note {n}"', 'f"other {n}"'))
    calls, other = run()
    assert "other 1" in other
    assert calls == ["gather", "read", "two"]


def test_lineage_holds_with_a_key(lab: Lab) -> None:
    lab.env = {"CURIDASK_CACHE_KEY": "k" * 40}
    lab.run("--parallel", "0")
    lab.world("2")
    lab.run("--parallel", "0", *OVERWRITE, "-n", "p1")
    assert lab.run("--parallel", "0") == Counter(["gather"])
    assert lab.worlds == ["1", "2", "1", "1"]
    assert lab.run("--parallel", "0") == Counter()


BROUGHT = """
import enum, pathlib
import curidask as cf
import pandas as pd
from curidask.caching import Cacheable, JsonCacher, PickleCacher

class Model:
    def __init__(self, mean): self.mean = mean
    def predict(self, x): return self.mean + x

class Heir(Model): pass

class Kind(enum.Enum):
    A = 3
    def predict(self, x): return self.value + x

def predict(x): return 3 + x

class Mine(Cacheable):
    def __init__(self, *a, **k): super().__init__(*a, extension=".txt", **k)
    def save(self, obj): pathlib.Path(self.get_path()).write_text(str(obj))
    def load(self): return int(pathlib.Path(self.get_path()).read_text()) + 10

@cf.stage(None, ["model"], [PickleCacher])
def train(record):
    kinds = {"object": Model(3), "inside": {"a": [Model(3)]}, "base": Heir(3), "enum": Kind.A, "function": predict}
    return kinds[record.params.name]

@cf.stage(["model"], ["passed"], [PickleCacher])
def pass_on(record, model):
    return {"passed": model}

@cf.stage(["passed"], ["score"], [JsonCacher])
def evaluate(record, passed):
    model = passed["passed"]
    model = model["a"][0] if isinstance(model, dict) else model
    return model(10) if record.params.name == "function" else model.predict(10)

@cf.stage(None, ["a1"], [Mine])
def s1(record): return 3

@cf.stage(["a1"], ["b1"], [JsonCacher])
def u1(record, a1): return a1

@cf.stage(None, ["a3"], [PickleCacher])
def plain(record): return {"x": [1, 2], "frame": pd.DataFrame({"x": [7]})}

@cf.stage(["a3"], ["b3"], [JsonCacher])
def after_plain(record, a3):
    with open("calls", "a") as file:
        file.write("after_plain\\n")
    return a3["x"]

def get_params():
    return [cf.ExperimentParameters(name) for name in ("object", "inside", "base", "enum", "function")]

def run(param_sets, manager):
    for params in param_sets:
        print(params.name, evaluate(pass_on(train(cf.Record(manager, params)))).state["score"])
    record = after_plain(plain(u1(s1(cf.Record(manager, param_sets[0])))))
    print(record.state["b1"], record.state["b3"])
"""


@WORKERS
def test_code_that_values_and_cachers_bring_along_is_no_part_of_their_bytes(project: Project, workers: str) -> None:
    def values() -> list[str]:
        done = project.experiment("b", "--no-report", "--parallel", workers)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    project.write("experiments/b.py", BROUGHT)
    names = ("object", "inside", "base", "enum", "function")
    assert values() == [*(f"{name} 13" for name in names), "13 [1, 2]"]
    edited = BROUGHT.replace("+ x", "* x").replace("+ 10", "* 10")
    project.write("experiments/b.py", edited.replace('"x": [1, 2],', '"x": [1] + [2],'))
    assert values() == [*(f"{name} 30" for name in names), "30 [1, 2]"]
    assert (project.root / "calls").read_text().split() == ["after_plain"]  # plain data brings none
    project.write("experiments/b.py", BROUGHT)
    assert values() == [*(f"{name} 13" for name in names), "13 [1, 2]"]


def test_an_edit_that_changes_no_value_runs_its_stage_alone_in_a_session_too(project: Project) -> None:
    text = """
import curidask as cf
from curidask.caching import JsonCacher

def called(what):
    with open("calls", "a") as file:
        file.write(what + " ")

@cf.stage(None, ["a"], [JsonCacher])
def first(record):
    called("first")
    return 1 + 1

@cf.stage(["a"], ["b"], [JsonCacher])
def second(record, a):
    called("second")
    return a + 1

@cf.stage(["b"], ["c"], [JsonCacher])
def third(record, b):
    called("third")
    return b + 1

with cf.ArtifactManager("session", cache="cache") as manager:
    for number in range(2):
        print(third(second(first(cf.Record(manager, cf.ExperimentParameters(f"p{number}"))))).state["c"])
"""
    for edited, calls, value in (
        (text, "first second third", 4),
        (text.replace("1 + 1", "2 * 1"), "first", 4),
        (text.replace("1 + 1", "3 * 1"), "first second third", 5),
        (text, "", 4),
    ):
        (project.root / "calls").write_text("")
        project.write("script.py", edited)
        assert project.script("script.py") == [str(value)] * 2
        assert (project.root / "calls").read_text().split() == calls.split()
