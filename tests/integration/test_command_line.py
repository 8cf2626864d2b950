"""The command line in a temporary project: what each flag does, in one process, and on workers where they matter."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

import curidask as cf
from tests.conftest import DEMO, TABLE, Project

Run = Callable[..., None]

IN_PROCESS = ("--parallel", "0")
WORKERS = ("--parallel", "2")


@pytest.fixture(params=["0", "2"], ids=["in process", "2 workers"])
def parallel(request: pytest.FixtureRequest) -> tuple[str, str]:
    return "--parallel", request.param


def once(*names: str) -> dict[str, int]:
    return dict.fromkeys(sorted(names), 1)


ALL = [f"{stage}_set{i}" for stage in ("load", "change", "score") for i in range(4)] + ["gather_None"]


def result(project: Project) -> dict[str, int]:
    (path,) = project.artifacts("gather_table")
    return json.loads(path.read_text())


def test_first_run_computes_once_and_second_reuses(project: Project, parallel: tuple[str, str]) -> None:
    first = project.experiment("demo", *parallel)
    assert first.returncode == 0, first.stderr
    assert project.calls() == once(*ALL)
    assert result(project) == TABLE
    second = project.experiment("demo", *parallel)
    assert second.returncode == 0
    assert project.calls() == {}
    assert "everything was in the cache" in second.stderr
    assert not list(project.cache.glob(".work-*"))


def test_deleting_artifacts_recomputes_what_needs_them(project: Project) -> None:
    project.experiment("demo", "--parallel", "0")
    project.calls()
    project.artifacts("gather_table")[0].unlink()
    assert project.experiment("demo", *IN_PROCESS).returncode == 0
    assert project.calls() == once("gather_None")
    # Nothing needs a score while the table is there.
    project.artifacts("score_score")[0].unlink()
    assert project.experiment("demo", *IN_PROCESS).returncode == 0
    assert project.calls() == {}
    project.artifacts("gather_table")[0].unlink()
    assert project.experiment("demo", *IN_PROCESS).returncode == 0
    assert sorted(name.partition("_")[0] for name in project.calls()) == ["change", "gather", "score"]
    assert result(project) == TABLE


def test_adding_a_set_computes_that_set_and_the_aggregate(project: Project) -> None:
    project.experiment("demo", "--parallel", "0")
    project.calls()
    project.write("experiments/demo.py", DEMO.replace("range(4)", "range(5)"))
    assert project.experiment("demo", *IN_PROCESS).returncode == 0
    assert project.calls() == once("load_set4", "change_set4", "score_set4", "gather_None")


@pytest.mark.parametrize(
    ("flags", "sets"),
    [
        (["-n", "set1", "-n", "set3"], [1, 3]),
        (["--indices", "0", "--indices", "2-4"], [0, 2, 3]),
        (["--global-indices", "0-2"], [0, 1]),
    ],
)
def test_selection(project: Project, flags: list[str], sets: list[int]) -> None:
    assert project.experiment("demo", *flags, *IN_PROCESS).returncode == 0
    assert [name for name in project.calls() if name.startswith("load")] == [f"load_set{i}" for i in sets]


def test_parameter_modules_are_joined_in_order(project: Project) -> None:
    for name, x in (("low", 1), ("high", 100)):
        project.write(
            f"params/{name}.py",
            f"from experiments.demo import Params\ndef get_params(): return [Params('{name}', x={x})]",
        )
    assert project.experiment("demo", "-p", "high", "-p", "low", *IN_PROCESS).returncode == 0
    assert list(result(project).items()) == [("high", 1100), ("low", 11)]


def test_files_whose_names_are_no_identifiers(project: Project) -> None:
    (project.root / "experiments/demo.py").rename(project.root / "experiments/my-demo.py")
    project.write("experiments/my-demo.py", DEMO.replace('{"x": record.params.x}', "Kind(x=record.params.x)") + KIND)
    project.write(
        "params/01_more-sets.py",
        "from importlib import import_module\n"
        "def get_params(): return [import_module('experiments.my-demo').Params('one', x=1)]",
    )
    first = project.experiment("my-demo", "-p", "01_more-sets", *WORKERS)
    assert first.returncode == 0, first.stderr
    assert result(project) == {"one": 11}
    project.calls()
    again = project.experiment("my-demo.py", "-p", "01_more-sets", "--overwrite-stage", "score", "--no-dag", *WORKERS)
    assert again.returncode == 0, again.stderr
    assert project.calls() == once("change_one", "score_one")  # what was pickled is read back
    assert "my-demo  Numbers, doubled and gathered." in project.experiment("ls").stdout


KIND = """
class Kind(dict):
    pass
"""


def test_overwrite(project: Project) -> None:
    project.experiment("demo", "--parallel", "0")
    project.calls()
    assert project.experiment("demo", "--overwrite", *WORKERS).returncode == 0
    assert project.calls() == once(*ALL)


def test_overwrite_stage_reaches_dependents_through_the_graph(project: Project) -> None:
    project.experiment("demo", "--parallel", "0")
    project.calls()
    assert project.experiment("demo", "--overwrite-stage", "score", *IN_PROCESS).returncode == 0
    assert project.calls() == once(*[n for n in ALL if n.startswith(("score", "change", "gather"))])
    project.experiment("demo", "--overwrite-stage", "load", "--no-dag", *IN_PROCESS)
    assert project.calls() == once(*[n for n in ALL if n.startswith(("load", "change"))])


def test_records_that_lack_an_input_of_an_aggregate_are_told_of_once(project: Project) -> None:
    project.write(
        "experiments/lacking.py",
        "import curidask as cf\n"
        "@cf.aggregate(['score'], ['n'])\n"
        "def gather(record, records, score): return len(score)\n"
        "def get_params(): return [cf.ExperimentParameters(name) for name in 'abc']\n"
        "def run(param_sets, manager):\n"
        "    for params in param_sets: cf.Record(manager, params)\n"
        "    return gather(cf.Record(manager, None)).output\n",
    )
    done = project.experiment("lacking", "--parallel", "0")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "for the aggregate" in line]
    assert "Record 0 (a), Record 1 (b), Record 2 (c) have no score for the aggregate 'gather'" in line
    (log,) = (project.root / "logs").glob("lacking*.log")
    assert "have no score for the aggregate" in log.read_text()


def test_unknown_stage_to_overwrite_runs_nothing(project: Project) -> None:
    done = project.experiment("demo", "--overwrite-stage", "scores", "--parallel", "0")
    assert done.returncode == 2
    assert "scores" in done.stderr
    assert "score" in done.stderr


def test_map_runs_and_writes_nothing(project: Project) -> None:
    before = project.experiment("demo", "--map")
    assert before.returncode == 0
    assert project.calls() == {}
    assert not (project.root / "data").exists()
    assert not (project.root / "logs").exists()
    assert "load: run, not in the cache" in before.stdout
    assert "==== Record 0 (set0) hash: " in before.stdout
    project.experiment("demo", "--parallel", "0")
    reference = project.last_run()["reference"]
    after = project.experiment("demo", "--map")
    assert f"-> table (cached) [{reference}]" in after.stdout
    assert "gather (leaf): reuse, in the cache" in after.stdout
    assert "load: prune, nothing that runs needs it" in after.stdout


def test_dry_writes_nothing_and_gives_the_same(project: Project, parallel: tuple[str, str]) -> None:
    project.write(
        "experiments/demo.py",
        DEMO.replace("return gather(", "print(gather(").replace('.state["table"]', '.state["table"])'),
    )
    done = project.experiment("demo", "--dry", *parallel)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(TABLE)
    assert {p.name for p in project.root.iterdir()} <= {"curidask.toml", "experiments", "calls"}


def test_dry_cache_reads_but_never_writes(project: Project) -> None:
    project.experiment("demo", "--parallel", "0")
    project.calls()
    project.artifacts("gather_table")[0].unlink()
    before = {p.name for p in project.cache.iterdir()}
    assert project.experiment("demo", "--dry-cache", *WORKERS).returncode == 0
    assert project.calls() == once("gather_None")
    assert {p.name for p in project.cache.iterdir()} == before


def test_cache_and_prefix(project: Project) -> None:
    done = project.experiment("demo", "--cache", "elsewhere/cache", "--prefix", "shared", *IN_PROCESS)
    assert done.returncode == 0
    names = [p.name for p in (project.root / "elsewhere/cache").iterdir() if not p.name.startswith(".")]
    assert names
    assert all(name.startswith("shared_") for name in names)
    assert not project.cache.exists()


def test_memory_cache_works_in_process_and_is_refused_on_workers(project: Project) -> None:
    assert project.experiment("demo", "--cache", "memory://x").returncode == 0
    refused = project.experiment("demo", "--cache", "memory://x", "--parallel", "2")
    assert refused.returncode == 2
    assert "--parallel 0" in refused.stderr


def test_quiet_and_verbose(project: Project) -> None:
    assert project.experiment("demo", "--quiet", "--parallel", "0").stderr == ""
    text = DEMO.replace('note(record, "gather")', 'record.logger.info("gathering")')
    project.write("experiments/demo.py", text)
    project.experiment("demo", "--overwrite", "--parallel", "0")
    assert "gathering" in max((project.root / "logs").iterdir(), key=lambda p: p.stat().st_mtime_ns).read_text()
    assert "gathering" in project.experiment("demo", "-v", "--overwrite", "--parallel", "0").stderr


def test_ls_shows_docstrings_and_import_errors(project: Project) -> None:
    project.write("experiments/broken.py", "import nothing_of_that_name")
    project.write("params/more.py", '"""More sets."""\ndef get_params(): return []')
    listed = project.experiment("ls").stdout
    assert "Numbers, doubled and gathered." in listed
    assert "nothing_of_that_name" in listed
    assert "More sets." in listed


def test_init_makes_a_project_that_runs(project: Project, tmp_path) -> None:
    new = Project(tmp_path / "new")
    assert project.command("curidask", "init", "--yes", str(new.root)).returncode == 0
    (new.root / "experiments/example.py").touch()
    done = new.experiment("example", "--parallel", "2")
    assert done.returncode == 0, done.stderr
    assert "100000 darts" in done.stdout
    again = project.command("curidask", "init", "--yes", str(new.root))
    assert "kept" in again.stdout


def test_help_and_version_name_the_tool(project: Project) -> None:
    text = project.experiment("--help").stdout
    for flag in ("--map", "--overwrite-stage", "--parallel", "--global-indices", "Exit codes"):
        assert flag in text
    assert project.experiment("--version").stdout.startswith("curidask")
    assert project.experiment().returncode == 0


def test_run_experiment_returns_what_run_returns(in_project: Project) -> None:
    assert cf.run_experiment("demo", parallel=0) == TABLE
    result = cf.run_experiment("demo", names=["set1", "set2"], parallel=0, mngr=True)
    assert result.value == {"set1": 11, "set2": 22}
    assert [record.name for record in result.manager.records] == ["set1", "set2", "None"]
    with cf.ArtifactManager("demo", parallel=0, dry_cache=True) as mine:
        assert cf.run_experiment("demo", mngr=mine) == TABLE
        assert len(mine.records) == 5
    assert cf.run_experiment("demo", map_only=True).manager.plan().decisions
