"""What a user's mistake gets: one screen with what, where and how to fix it; what is committed stays."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.conftest import DEMO, TABLE, Project

GOOD = "--parallel", "0"


def fails(project: Project, *arguments: str, code: int = 2, says: tuple[str, ...]) -> str:
    done = project.experiment(*arguments)
    assert done.returncode == code, done.stderr
    for text in says:
        assert text in done.stderr
    assert "curidask/" not in done.stderr.replace(str(project.root), ""), "frames of the framework are shown"
    assert len(done.stderr.splitlines()) < 30
    return done.stderr


def replaced(project: Project, *pairs: tuple[str, str]) -> None:
    text = DEMO
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    project.write("experiments/demo.py", text)


def test_unknown_experiment_and_module_give_near_names(project: Project) -> None:
    fails(project, "dmeo", says=("no experiment 'dmeo'", "did you mean demo"))
    fails(project, "demo", "-p", "demoo", says=("no parameter module 'demoo'", "did you mean demo"))


@pytest.mark.parametrize("name", ["../demo", "a/../demo", "/etc/passwd", "de mo", "demo/"])
def test_names_that_lead_out_of_the_project(project: Project, name: str) -> None:
    fails(project, name, says=("is no name of a module", "experiment ls"))


def test_import_error_shows_the_users_traceback_only(project: Project) -> None:
    project.write("experiments/bad.py", "import helper_lib\n")
    project.write("helper_lib.py", "value = 1 / 0\n")
    text = fails(project, "bad", says=("helper_lib.py", "ZeroDivisionError", "bad.py cannot be imported"))
    assert "importlib" not in text


@pytest.mark.parametrize("in_function", [False, True])
def test_a_call_that_cannot_be_made_names_the_line_of_the_experiment(project: Project, in_function: bool) -> None:
    call = 'Lazy("x", JsonCacher)'
    text = "from curidask.caching import JsonCacher, Lazy\n"
    text += f"def get_params():\n    return {call}\n" if in_function else f"{call}\n"
    project.write("experiments/e.py", f"{text}def run(param_sets, manager): ...\n")
    done = project.experiment("e")
    assert done.returncode == 2
    assert "`resolve` of Lazy() is the class JsonCacher" in done.stderr
    assert f"e.py, line {3 if in_function else 2}" in done.stderr
    assert "Traceback" not in done.stderr


def test_syntax_error(project: Project) -> None:
    project.write("experiments/bad.py", "def run(:\n")
    fails(project, "bad", says=("SyntaxError", "bad.py"))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", ("returned a NoneType, not a list", "experiments/demo.py")),
        ("return Params('a')", ("returned a Params, not a list",)),
        ("return [Params('a'), 3]", ("Entry 1", "a int")),
        ("return [Params]", ("Entry 0", "the class Params")),
        ("return []", ("No parameter set is selected", "get_params() return at least one")),
        (
            "return [Params('a', x=object())]",
            ("builtins.object cannot be hashed", "'a'", "field x", "hash_representations"),
        ),
        ("return 1 / 0", ("get_params() of 'demo' raised ZeroDivisionError", "line")),
    ],
)
def test_get_params_that_cannot_be_used(project: Project, body: str, says: tuple[str, ...]) -> None:
    replaced(project, ('return [Params(f"set{i}", x=i) for i in range(4)]', body))
    fails(project, "demo", says=says)
    assert project.calls() == {}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--indices", "4"), ("index '4' is out of range", "4 sets")),
        (("--indices", "2-9"), ("index '2-9' is out of range",)),
        (("--indices", "1-1"), ("The range '1-1' is empty", "`1` for one set")),
        (("--indices", "3-1"), ("The range '3-1' is empty",)),
        (("--global-indices", "7"), ("out of range", "the joined list")),
        (("--indices", "x"), ("'x' is no index",)),
        (("-n", "sett1"), ("No parameter set is named 'sett1'", "did you mean: set1")),
        (("-n", "set1", "--indices", "0"), ("No parameter set is selected",)),
        (("--prefix", "../x"), ("'../x' cannot be used as a name", "--prefix")),
        (("--prefix", "a/b"), ("'a/b' cannot be used as a name",)),
        (("--parallel", "-1"), ("--parallel",)),
        (("--nonsense",), ("--nonsense",)),
    ],
)
def test_flags_that_cannot_be_used(project: Project, flags: tuple[str, ...], says: tuple[str, ...]) -> None:
    fails(project, "demo", *flags, says=says)
    assert project.calls() == {}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('["data"], [PickleCacher]', '["data", "more"], [PickleCacher]', ("2 outputs but 1 cachers", "load")),
        ('["data"], [PickleCacher]', '["data"], []', ("empty list of cachers", "load")),
        ('["data"], [PickleCacher]', '["a/b"], [PickleCacher]', ("'a/b' cannot be used as a name", "load")),
        ('["data"], [PickleCacher]', '["../x"], [PickleCacher]', ("'../x' cannot be used as a name", "load")),
        (
            '@cf.stage(["data"], ["middle"])',
            '@cf.stage(["dta"], ["middle"])',
            ("no parameter of that name", "'dta'", "change"),
        ),
        ("score(change(load(", "score((load(", ("needs 'middle'", "not in the record's state", "set0", "score")),
    ],
)
def test_stages_that_cannot_work_are_refused_before_anything_runs(
    project: Project, old: str, new: str, says: tuple[str, ...]
) -> None:
    replaced(project, (old, new))
    fails(project, "demo", *GOOD, says=says)
    assert project.calls() == {}


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_wrong_number_of_outputs(project: Project, parallel: str) -> None:
    replaced(project, ('["data"], ["middle"]', '["data"], ["middle", "other"]'))
    says = ("declares 2 outputs (middle, other) but returned one dict", "stage 'change' of Record 0 (set0)")
    fails(project, "demo", "--parallel", parallel, "-n", "set0", code=1, says=says)


@pytest.mark.parametrize("parallel", ["0", "2"])
def test_json_that_is_none_names_the_place(project: Project, parallel: str) -> None:
    replaced(project, ('return middle["x"] + data["x"]', "return {'a': [1, object()]}"))
    fails(project, "demo", "--parallel", parallel, "-n", "set0", code=1, says=("$.a[1]", "object", "score"))


def test_unpicklable_value_between_processes(project: Project) -> None:
    replaced(project, ('data["x"] *= 10\n    return data', "import threading\n    return threading.Lock()"))
    says = ("'middle' (lock) cannot travel between processes", "stage 'change' of Record 0 (set0)", "--parallel 0")
    fails(project, "demo", "--parallel", "2", "-n", "set0", code=1, says=says)


def test_code_that_cannot_travel_names_the_stage(project: Project) -> None:
    replaced(
        project,
        (
            "def get_params",
            """
import threading

def locked():
    lock = threading.Lock()

    @cf.stage(["data"], ["middle"])
    def change(record, data):
        with lock:
            return data

    return change

change = locked()

def get_params""",
        ),
    )
    fails(
        project,
        "demo",
        "--parallel",
        "2",
        code=1,
        says=("The code of stage 'change' cannot be sent", "lock", "inside the function"),
    )


@pytest.mark.parametrize("taken", ["", "param_sets", "param_sets, manager, more"])
def test_a_run_that_takes_something_else(project: Project, taken: str) -> None:
    replaced(project, ("def run(param_sets, manager):", f"def run({taken}):"))
    fails(project, "demo", says=("cannot be called with parameter sets and a manager", "def run(param_sets, manager):"))
    assert project.calls() == {}


@pytest.mark.parametrize(("flags", "says"), [((), "is in the cache"), (("--dry",), "nothing was stored")])
def test_a_run_that_raises(project: Project, flags: tuple[str, ...], says: str) -> None:
    replaced(project, ("def run(param_sets, manager):", "def run(param_sets, manager):\n    1 / 0"))
    text = fails(project, "demo", *GOOD, *flags, code=1, says=("run() raised ZeroDivisionError", says))
    assert flags == () or "in the cache" not in text


def test_undeclared_input(project: Project) -> None:
    replaced(project, ('return middle["x"] + data["x"]', "return record.state['table']"))
    fails(project, "demo", *GOOD, "-n", "set0", code=1, says=("'table' was read from the state", "inputs", "score"))


def test_stage_inside_a_stage(project: Project) -> None:
    replaced(project, ('return middle["x"] + data["x"]', "return load(record)"))
    fails(project, "demo", *GOOD, "-n", "set0", code=1, says=("'load' was called inside the stage 'score'",))


@pytest.mark.parametrize("made", ["cf.Record(record.manager, None)", "cf.Procedure([load], record.manager)"])
def test_a_record_made_inside_a_stage(project: Project, made: str) -> None:
    replaced(project, ('return middle["x"] + data["x"]', f"return {made}"))
    says = ("what a stage knows of the manager", "call stages in run(), not in stages")
    fails(project, "demo", *GOOD, "-n", "set0", code=1, says=says)


def test_changed_parameter_set(project: Project) -> None:
    replaced(
        project,
        (
            "score(change(load(cf.Record(manager, params))))",
            "r = load(cf.Record(manager, params)); params.x = 9; change(r)",
        ),
    )
    fails(project, "demo", *GOOD, says=("'set0' was changed after its record was made", "dataclasses.replace"))


def test_duplicate_names_warn_and_run(project: Project) -> None:
    replaced(project, ('f"set{i}"', '"same"'))
    done = project.experiment("demo", *GOOD)
    assert done.returncode == 0
    assert done.stderr.count("4 different parameter sets are named 'same'") == 1


def test_two_functions_of_one_name(project: Project) -> None:
    project.write("curidask.toml", 'code = "ignore"')  # else they make different artifacts
    extra = "    other = [cf.stage(None, ['v'], [JsonCacher])(f) for f in (lambda record: 1, lambda record: 2)]\n"
    replaced(
        project,
        (
            "def run(param_sets, manager):\n",
            f"def run(param_sets, manager):\n{extra}    [s(cf.Record(manager, None)) for s in other]\n",
        ),
    )
    fails(project, "demo", *GOOD, says=("Two different functions are both the stage '<lambda>'",))


def test_cache_that_cannot_be_written(project: Project) -> None:
    project.write("data", "a file where a folder should be")
    says = ("The cache could not write", "data/cache", "--cache")
    fails(project, "demo", *GOOD, says=says)
    assert project.calls() == {}


@pytest.mark.parametrize("flags", [(), ("--map",), ("--dry",), ("--dry-cache",), ("--cache-mode", "ro")])
def test_a_file_in_the_place_of_the_cache(project: Project, flags: tuple[str, ...]) -> None:
    project.write("place", "a file where a folder should be")
    fails(project, "demo", *GOOD, "--cache", "place", *flags, says=("Not a directory", "/place", "--cache"))
    fails(project, "demo", *GOOD, "--cache", "other,place", *flags, says=("Not a directory", "/place", "--cache"))
    assert project.calls() == {}
    assert not (project.root / "data").exists()
    looked = project.command("curidask", "cache", "ls", "--cache", "place")
    assert looked.returncode == 2
    assert "Not a directory" in looked.stderr


@pytest.mark.parametrize("flags", [(), ("--map",)])
def test_a_bucket_that_is_not_there(project: Project, s3: str, flags: tuple[str, ...]) -> None:
    fails(project, "demo", *GOOD, "--cache", "s3://no-such-bucket/x", *flags, says=("The bucket is not there",))
    assert project.calls() == {}


def test_full_disk_keeps_what_is_committed(project: Project) -> None:
    replaced(
        project,
        ('return {"x": record.params.x}', 'return {"x": record.params.x, "big": b"0" * (record.params.x * 300_000)}'),
    )
    project.experiment("demo", "-n", "set0", *GOOD)
    project.calls()
    limit = (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    project.started = True  # a started command has the limits of this process
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    try:
        fails(
            project,
            "demo",
            *GOOD,
            code=1,
            says=("could not be written: File too large", "load", "set1", "what is committed stays"),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(project.cache.glob(".work-*"))
    assert project.experiment("demo", *GOOD).returncode == 0
    assert "load_set0" not in project.calls()


def test_user_error_in_run_is_the_users(project: Project) -> None:
    replaced(project, ("    for params in param_sets:\n", "    for params in param_sets:\n        [][1]\n"))
    fails(project, "demo", code=1, says=("IndexError", "demo.py", "run() raised"))


def test_reading_what_failed_ends_the_run_with_the_stages_traceback(project: Project) -> None:
    replaced(project, ('note(record, "gather")', "1 / 0"))
    fails(project, "demo", *GOOD, code=1, says=("ZeroDivisionError", "stage 'gather'", "in gather"))
    project.experiment("demo", *GOOD)
    assert project.calls() == {f"{s}_set{i}": 1 for s in ("change", "load", "score") for i in range(4)}


def test_configuration_mistakes(project: Project) -> None:
    project.write("curidask.toml", 'cahce = "x"')
    fails(project, "demo", says=("no setting 'cahce'", "did you mean 'cache'"))
    project.write("curidask.toml", "cache = 3")
    fails(project, "demo", says=("'cache' is 3", "curidask.toml"))
    project.write("curidask.toml", "cache = ")
    fails(project, "demo", says=("cannot be read", "curidask.toml"))


def test_mistakes_leave_the_cache_as_it_was(project: Project) -> None:
    project.experiment("demo", *GOOD)
    before = {p: p.read_bytes() for p in project.cache.iterdir() if p.is_file()}
    replaced(project, ("score(change(load(", "score((load("))
    project.experiment("demo", *GOOD)
    assert {p: p.read_bytes() for p in Path(project.cache).iterdir() if p.is_file()} == before
    project.write("experiments/demo.py", DEMO)
    assert project.experiment("demo", *GOOD).returncode == 0
    assert TABLE
