"""`run_experiment` from Python: its keywords under all their names, what it shows, what it gives back."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.errors import ConfigurationError, SelectionError, UnknownKeywordError
from curidask.experiment import ExperimentResult, list_experiments, list_params, regex_lister, run_experiment
from curidask.staging import DEFINED
from tests.conftest import TABLE, Project


def words(text: str) -> list[str]:
    return text.split()


# The parameters of the documented API in their order, by the names of its two generations.
FIRST = words("""
    experiment_name parameters_list overwrite_override cache_dir_override mngr log log_debug dry dry_cache
    store_entire_run log_errors custom_name build_docker build_notebook run_string stage_overwrites args_names
    args_indices global_args_indices parallel parallel_mode parallel_lock parallel_queue run_num_override
    run_ts_override lazy ignore_lazy no_map no_color quiet progress plain notes
""")
SECOND = words("""
    experiment_name param_files overwrite_override cache_dir_override mngr log log_debug dry dry_cache store_full
    log_errors prefix build_docker build_notebook run_string stage_overwrites param_set_names param_set_indices
    global_param_set_indices parallel parallel_mode parallel_lock parallel_queue run_num_override run_ts_override lazy
    ignore_lazy report no_dag map_only hashes_only paths_only print_params no_color quiet progress plain notes
    all_loggers
""")
SYNONYMS: dict[str, str] = run_experiment.__synonyms__  # type: ignore[attr-defined]

MORE = "from experiments.demo import Params\ndef get_params(): return [Params('{0}', x={1})]"


def run(name: str = "demo", *args: Any, **options: Any) -> Any:
    return cf.run_experiment(name, *args, parallel=0, **options)


# --- names -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("names", [FIRST, SECOND])
def test_every_documented_keyword_is_taken(names: list[str]) -> None:
    assert {SYNONYMS.get(name, name) for name in names} <= set(inspect.signature(run_experiment).parameters)


def test_parameters_stand_in_the_documented_order() -> None:
    positional = [
        p.name for p in inspect.signature(run_experiment).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    assert positional == [SYNONYMS.get(name, name) for name in SECOND]


def test_modules_and_sets_are_chosen_under_both_generations_of_names(in_project: Project) -> None:
    in_project.write("params/low.py", MORE.format("low", 1))
    in_project.write("params/high.py", MORE.format("high", 100))
    both = {"high": 1100, "low": 11}
    assert run("demo", ["high", "low"]) == both
    assert run(param_files=["high", "low"]) == run(parameters_list=("high", "low")) == both
    assert run(params="low") == {"low": 11}
    assert run(param_set_names=["set1", "set2"]) == run(args_names=["set1", "set2"]) == {"set1": 11, "set2": 22}
    assert run(names="set3") == run(param_set_indices=["3"]) == run(args_indices=3) == {"set3": 33}
    assert run(global_param_set_indices=["1-3"]) == run(global_args_indices=[1, 2]) == {"set1": 11, "set2": 22}
    none = dict.fromkeys(("param_files", "param_set_names", "param_set_indices", "global_param_set_indices"))
    assert run(**none, stage_overwrites=None, prefix=None, notes=None, cache_dir_override=None) == TABLE


def test_what_is_recomputed_and_where(in_project: Project) -> None:
    run("demo", None, None, "elsewhere")
    assert list((in_project.root / "elsewhere").glob("demo_*"))
    assert not in_project.cache.exists()
    in_project.calls()
    run(cache_dir_override=Path("elsewhere"), stage_overwrites=["score"])
    assert {name.partition("_")[0] for name in in_project.calls()} == {"change", "score", "gather"}
    run("demo", None, True, "elsewhere", custom_name="mine")
    assert len(in_project.calls()) == 13
    assert list((in_project.root / "elsewhere").glob("mine_*"))
    with pytest.raises(SelectionError, match="no stage 'scores'"):
        run(stage_overwrites="scores")


@pytest.mark.parametrize(
    ("keyword", "near"),
    [
        ("param_file", "param_files"),
        ("overwrit", "overwrite"),
        ("map_onl", "map_only"),
        ("prnt_params", "print_params"),
    ],
)
def test_typos_are_errors_with_the_near_name(in_project: Project, keyword: str, near: str) -> None:
    with pytest.raises(UnknownKeywordError, match=rf"run_experiment\(\) has no keyword '{keyword}'") as caught:
        run(**{keyword: None})
    assert near in caught.value.fix
    with pytest.raises(UnknownKeywordError, match="twice"):
        run(params=["demo"], param_files=["demo"])


@pytest.mark.parametrize("keyword", ["parallel_lock", "parallel_queue", "run_num_override", "run_ts_override"])
def test_parts_of_processes_are_refused(in_project: Project, keyword: str) -> None:
    with pytest.raises(ConfigurationError, match=keyword) as caught:
        run(**{keyword: 3})
    assert "parallel_mode=True" in caught.value.fix
    assert run(names="set0", **{keyword: None}) == {"set0": 0}


# --- what it gives ---------------------------------------------------------------------------------------------------
def test_looking_prints_and_gives_what_was_looked_at(in_project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    def printed() -> list[str]:
        return capsys.readouterr().out.splitlines()

    hashes = run(hashes_only=True)
    assert list(hashes.values()) == list(TABLE)
    assert printed() == [f"{hash_} {name}" for hash_, name in hashes.items()]
    paths = run(paths_only=True, names=["set1"], lazy=True)
    assert printed() == paths != []
    assert all(path.startswith(f"{in_project.cache}/demo_") for path in paths)
    result = run(map_only=True)
    assert printed()[0].startswith("==== Record 0 (set0) hash: ")
    assert result.manager.plan().decisions
    sets = run(print_params=True, names=["set1", "set2"])
    assert [params.x for params in sets] == [1, 2]
    assert printed()[0] == f"{list(hashes)[1]} set1"
    assert run(print_params=list(hashes)[3][:10]).x == 3
    assert json.loads("\n".join(printed()[1:])) == {"name": "set3", "x": 3}
    assert run(hashes_only=True, print_params=None, mngr=True).value == hashes
    printed()
    assert run(hashes_only=True, quiet=True) == hashes
    assert run(map_only=True, quiet=True).stopped_at == "table"
    assert printed() == []
    assert {path.name for path in in_project.root.iterdir()} <= {"curidask.toml", "experiments", "params"}


def test_an_earlier_set_is_given_as_its_values(in_project: Project) -> None:
    run("demo")
    in_project.write("params/low.py", MORE.format("low", 7))
    assert run(param_files=["low"], print_params="set2") == {"x": 2}


def test_looks_exclude_each_other(in_project: Project) -> None:
    with pytest.raises(ConfigurationError, match="--map and --hashes cannot go together"):
        run(map_only=True, hashes_only=True)
    with pytest.raises(ConfigurationError, match="--lazy and --ignore-lazy"):
        run(lazy=True, ignore_lazy=True)


def test_a_result_with_its_manager_can_be_taken_apart(in_project: Project) -> None:
    result = run(mngr=True)
    value, manager = result
    assert isinstance(result, ExperimentResult)
    assert (value, len(manager.records)) == (TABLE, 5)
    assert (len(result), result[0], result[1], result[-1]) == (2, TABLE, manager, manager)
    assert (result[:], result[1:], list(result)) == ((TABLE, manager), (manager,), [TABLE, manager])
    with pytest.raises(IndexError):
        result[2]


def test_what_a_given_manager_decides_is_not_passed_over(in_project: Project) -> None:
    with cf.ArtifactManager("demo", parallel=0, dry=True) as manager:
        assert cf.run_experiment("demo", ["demo"], mngr=manager, dry=True) == TABLE
        for keyword, value in (("cache_dir_override", "x"), ("parallel", 0), ("map_only", True), ("listeners", [1])):
            with pytest.raises(ConfigurationError, match="decided by the manager"):
                cf.run_experiment("demo", mngr=manager, **{keyword: value})
    assert not in_project.cache.exists()


# --- what it shows ---------------------------------------------------------------------------------------------------
def test_nothing_is_shown_unless_it_is_asked_for(in_project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    for options in ({}, {"quiet": True}, {"no_color": True}):
        run(overwrite=True, **options)
        assert capfd.readouterr() == ("", "")
    run(overwrite=True, quiet=False, names="set1")
    shown = capfd.readouterr().err
    assert "4 ran, 0 reused, 0 not needed" in shown
    assert re.search(r"^record: .*run\.json$", shown, re.MULTILINE)
    run(overwrite=True, plain=True, progress=True)
    assert "\x1b" not in capfd.readouterr().err
    run(overwrite=True, quiet=True, progress=True)
    shown = capfd.readouterr().err
    assert re.search(r"\x1b\[\d+A", shown)
    assert "ran" not in shown


def test_debugging_shows_what_is_logged_and_leaves_logging_as_it_was(
    in_project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    import logging
    import warnings

    path = in_project.root / "experiments/demo.py"
    path.write_text(path.read_text().replace('note(record, "gather")', 'record.logger.info("gathering")'))
    before = (logging.getLogger().level, list(logging.getLogger().handlers), warnings.showwarning)
    run(log_debug=True, log=False)
    assert "gathering" in capfd.readouterr().err
    assert (logging.getLogger().level, list(logging.getLogger().handlers), warnings.showwarning) == before
    assert not (in_project.root / "logs").exists()


# --- what is kept ----------------------------------------------------------------------------------------------------
def test_what_is_kept_of_a_run(in_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "sh -c 'echo by hand > $0'")
    monkeypatch.delenv("VISUAL", raising=False)
    run(build_notebook=True, store_entire_run=True, notes="", run_string="make 'all of it'", report=False)
    kept = in_project.last_run()
    assert (kept["notes"], kept["command"]) == ("by hand", ["make", "all of it"])
    assert (in_project.root / "notebooks/experiments" / f"{kept['reference']}.ipynb").exists()
    assert list((in_project.root / "data/runs" / kept["reference"] / "artifacts").iterdir())
    assert not (in_project.root / "reports").exists()
    run(notes="a title")
    assert in_project.last_run()["notes"] == "a title"


def test_an_image_is_prepared(in_project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run(build_docker=True)
    folder = in_project.root / "data/runs" / in_project.last_run()["reference"]
    assert (folder / "docker/Dockerfile").exists()


def test_a_part_that_only_fills_the_cache(in_project: Project) -> None:
    assert run(parallel_mode=True, names=["set1"]) == {"set1": 11}
    assert {path.name for path in in_project.root.iterdir()} == {
        "curidask.toml", "experiments", "calls", "data", "logs"
    }  # fmt: skip
    assert [path.name for path in (in_project.root / "data").iterdir()] == ["cache"]


# --- what there is ---------------------------------------------------------------------------------------------------
def test_lists_of_what_there_is(in_project: Project) -> None:
    in_project.write("experiments/a-first.py", "def run(param_sets, manager): pass\n")
    in_project.write("experiments/broken.py", "import nothing_of_that_name\n")
    in_project.write("params/more.py", '"""More sets.\n\nMany."""\ndef get_params(): return []\n')
    broken = (
        "broken [ERROR - broken.py cannot be imported: ModuleNotFoundError: No module named 'nothing_of_that_name']"
    )
    demo = "demo - Numbers, doubled and gathered."
    assert list_experiments() == ["a-first", broken, demo]
    assert list_params() == [demo, "more - More sets."]
    assert regex_lister("experiments", r"^def run\(.*\)") == ["a-first", demo]
    assert regex_lister("experiments", r"^import nothing", try_import=False) == ["broken"]
    assert regex_lister("experiments", r"^import nothing") == [broken]


def test_selected_sets_have_their_hashes(in_project: Project) -> None:
    in_project.write(
        "experiments/hashed.py",
        "import curidask as cf\n"
        "def get_params(): return [cf.ExperimentParameters('one'), cf.ExperimentParameters('own', hash='mine')]\n"
        "def run(param_sets, manager): return [params.hash for params in param_sets]\n",
    )
    one = cf.ExperimentParameters("one").params_hash()
    assert run("hashed") == [one, "mine"]
    assert [params.hash for params in run("hashed", print_params=True)] == [one, "mine"]


READS = """
from pathlib import Path
import curidask as cf
@cf.stage(None, ["a"], [cf.caching.JsonCacher])
def load(record):
    Path("ran").touch()
    return 1
@cf.stage(["a"], ["b"], [cf.caching.JsonCacher])
def total(record, a):
    return a
def get_params(): return [cf.ExperimentParameters("one")]
def run(param_sets, manager):
    record = load(cf.Record(manager, param_sets[0]))
    read = record.state["a"]
    return total(record).output + read
"""


@pytest.mark.parametrize("map_only", [False, True])
def test_a_misspelt_stage_to_overwrite_runs_nothing_also_where_run_reads(in_project: Project, map_only: bool) -> None:
    in_project.write("experiments/reads.py", READS)
    with pytest.raises(SelectionError, match="The experiment has no stage 'laod'") as caught:
        run("reads", overwrite_stages=["laod"], map_only=map_only)
    assert caught.value.fix == "did you mean 'load'?"
    assert not (in_project.root / "ran").exists()
    assert map_only or run("reads", overwrite_stages=["total"]) == 2  # which is called later


LATER = {
    "in a function": "@cf.stage(None, ['b'])\n    def late(record): pass\n    late(cf.Record(manager, param_sets[0]))",
    "by another name": "@make(None, ['b'])\n    def late(record): pass\n    late(cf.Record(manager, param_sets[0]))",
    "kept": "@made\n    def late(record): pass\n    late(cf.Record(manager, param_sets[0]))",
    "another module": "import late_stages\n    late_stages.late(cf.Record(manager, param_sets[0]))",
    "of a package": "from package import late_stages\n    late_stages.late(cf.Record(manager, param_sets[0]))",
    "by name": "import importlib as i\n    i.import_module('late_stages').late(cf.Record(manager, param_sets[0]))",
    "by a helper": "package.make_late()(cf.Record(manager, param_sets[0]))",
}
PLAIN = """
import curidask as cf
import package
from curidask import stage as make
@cf.stage(None, ["a"])
def load(record): return 1
def get_params(): return [cf.ExperimentParameters("one")]
def run(param_sets, manager):
    import json
    load(cf.Record(manager, param_sets[0]))
"""
HELPER = """
import curidask as cf
def make_late():
    @cf.stage(None, ["b"])
    def late(record): return 2
    return late
"""


@pytest.mark.parametrize("how", LATER)
def test_stages_to_overwrite_may_be_defined_by_run(in_project: Project, how: str) -> None:
    late = "import curidask as cf\n@cf.stage(None, ['b'])\ndef late(record): return 2\n"
    in_project.write("late_stages.py", late)
    in_project.write("package/late_stages.py", late)
    in_project.write("package/__init__.py", HELPER if how == "by a helper" else "")
    made = 'made = cf.stage(None, ["b"])\n' if how == "kept" else ""
    text = PLAIN.replace("def get_params", f"{made}def get_params")
    in_project.write("experiments/later.py", f"{text}    {LATER[how]}\n")
    DEFINED.discard("late")
    run("later", overwrite_stages=["late"])


@pytest.mark.parametrize("flags", [(), ("--map",), ("--dry",)])
def test_a_stage_to_overwrite_that_nothing_can_define_is_refused_before_run(
    project: Project, flags: tuple[str, ...]
) -> None:
    # By the command: of a process in which other modules use curidask, nobody can say what they may define.
    project.write("package/__init__.py", "")
    project.write("experiments/plain.py", PLAIN + "    print('run was called')\n")
    done = project.experiment("plain", "--overwrite-stage", "laod", *flags)
    assert done.returncode == 2, done.stderr
    assert "The experiment has no stage 'laod'" in done.stderr
    assert "did you mean 'load'?" in done.stderr
    assert "run was called" not in done.stdout
    assert sorted(path.name for path in project.root.iterdir() if path.name in ("data", "reports", "logs")) == []


FILES = """
from pathlib import Path
import curidask as cf
@cf.stage(None, ["a"], [cf.caching.JsonCacher])
def load(record):
    Path(record.get_path("notes.txt")).write_text("of the stage")
    return 1
@cf.stage(["a"], ["b"])
def more(record, a):
    return a
def get_params(): return [cf.ExperimentParameters("one")]
def run(param_sets, manager):
    record = more(load(cf.Record(manager, param_sets[0])))
    path = record.get_path("notes.txt", stage_name="load")
    return Path(path).read_text(), Path(manager.get_artifact_path("notes.txt", record, stage_name="load")).read_text()
"""


@pytest.mark.parametrize("flags", [{"dry": True}, {"dry_cache": True}, {}])
def test_run_finds_the_files_of_stages(in_project: Project, flags: dict[str, bool]) -> None:
    in_project.write("experiments/files.py", FILES)
    assert run("files", **flags) == ("of the stage", "of the stage")
    assert bool(list((in_project.root / "data").rglob("*notes.txt"))) == (not flags)
