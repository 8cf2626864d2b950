"""Each flag's effect in a temporary project, in one process, and on two workers where they do what it asks for."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DEMO, TABLE, Project, clean_environment, end_group
from tests.prepared import COMMANDS

IN_PROCESS = ("--parallel", "0")
ON_WORKERS = ("--parallel", "2")
SETS = [f"set{i}" for i in range(4)]


@pytest.fixture(params=["0", "2"], ids=["in process", "2 workers"])
def parallel(request: pytest.FixtureRequest) -> tuple[str, str]:
    return "--parallel", request.param


def good(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, done.stderr
    return done


def change(project: Project, *pairs: tuple[str, str]) -> None:
    text = (project.root / "experiments/demo.py").read_text()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    project.write("experiments/demo.py", text)


def stage_calls(project: Project) -> set[str]:
    return {name.partition("_")[0] for name in project.calls()}


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def log_text(project: Project) -> str:
    return max((project.root / "logs").iterdir(), key=lambda p: p.stat().st_mtime_ns).read_text()


def wrote_nothing(project: Project) -> bool:
    return {p.name for p in project.root.iterdir()} <= {"curidask.toml", "experiments", "params"}


# --- what is selected and looked at ----------------------------------------------------------------------------------
def test_hashes_names_each_selected_set(project: Project) -> None:
    lines = good(project.experiment("demo", "--hashes", *ON_WORKERS)).stdout.splitlines()
    assert [line.partition(" ")[2] for line in lines] == SETS
    assert wrote_nothing(project)
    few = good(project.experiment("demo", "--hashes", "-n", "set2", "--indices", "1-3", *ON_WORKERS)).stdout
    assert few.splitlines() == [lines[2]]
    good(project.experiment("demo", "-n", "set2", *IN_PROCESS))
    recorded = {hash_: item["name"] for hash_, item in project.last_run()["param_sets"].items()}
    assert recorded == {lines[2].partition(" ")[0]: "set2"}


PARTS = """
@dataclass
class Optimizer:
    name: str = "adam"
    steps: tuple = (1, 2.5)


@dataclass
class Params(cf.ExperimentParameters):
    many: list = None
    optimizer: Optimizer = field(default_factory=Optimizer)
    kind: type = Path
    function: object = note
    missing: object = None
    far: float = float("inf")
"""


def printed_set(text: str) -> tuple[str, str, dict[str, Any]]:
    """Hash, name and values out of what --print-params prints for one set."""
    first, _, rest = text.partition("\n")
    hash_, name = first.split(" ", 1)
    return hash_, name, json.loads(rest)


def test_print_params_prints_hash_and_name_and_then_all_values_as_json(project: Project) -> None:
    change(
        project,
        ("import dataclass", "import dataclass, field"),
        ("@dataclass\nclass Params(cf.ExperimentParameters):\n", PARTS),
        ("x=i)", "x=i, many=list(range(300)))"),
    )
    flags = ("--print-params", "-n", "set3", *ON_WORKERS)
    hash_, name, values = printed_set(good(project.experiment("demo", *flags)).stdout)
    assert f"{hash_} {name}\n" == good(project.experiment("demo", "--hashes", "-n", "set3")).stdout
    assert values == {
        "name": "set3",
        "many": list(range(300)),
        "optimizer": {"name": "adam", "steps": [1, 2.5]},
        "kind": "pathlib.Path",
        "function": "experiments.demo.note",
        "missing": None,
        "far": "inf",
        "x": 3,
    }
    assert wrote_nothing(project)
    *_, verbose = printed_set(good(project.experiment("demo", "-v", *flags)).stdout)
    hashed = verbose.pop("_DRY_REPS")
    assert verbose == values
    assert set(values) - {"name"} <= set(hashed)
    assert "int" in str(hashed["x"])
    assert "None" in str(hashed["missing"])


def test_print_params_finds_sets_of_earlier_runs_by_name_and_hash(project: Project) -> None:
    good(project.experiment("demo", *IN_PROCESS))
    hashes = [line.split() for line in project.experiment("demo", "--hashes").stdout.splitlines()]
    change(project, ('f"set{i}", x=i) for i in range(4)', 'f"new{i}", x=100 + i) for i in range(2)'))
    for hash_, name in hashes[:2]:
        for asked in (name, hash_[:9], hash_):
            found = good(project.experiment("demo", "--print-params", asked, "-v", *ON_WORKERS))
            assert found.stderr.startswith(f"{name} is a set of demo_1_")
            *both, values = printed_set(found.stdout)
            assert both == [hash_, name]
            assert values["x"] == int(name[-1])
            assert "int" in str(values["_DRY_REPS"]["x"])
    *_, values = printed_set(good(project.experiment("demo", "--print-params", "new1", *ON_WORKERS)).stdout)
    assert values == {"name": "new1", "x": 101}


def test_print_params_of_none_and_of_several(project: Project) -> None:
    good(project.experiment("demo", *IN_PROCESS))
    unknown = project.experiment("demo", "--print-params", "sett1")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "set1" in unknown.stderr
    change(project, ('f"set{i}", x=i) for i in range(4)', '"set1", x=100 + i) for i in range(20)'))
    for asked in ("set1", ""):
        several = project.experiment("demo", f"--print-params={asked}")
        assert (several.returncode, several.stdout) == (2, "")
        assert re.search(r"[0-9a-f]{32} \(set1\)", several.stderr)


def test_paths_are_those_that_the_run_then_uses(project: Project) -> None:
    change(
        project, ('    return gather(cf.Record(manager, None)).state["table"]', "    gather(cf.Record(manager, None))")
    )
    before = good(project.experiment("demo", "--paths", *IN_PROCESS))
    assert before.stderr == ""
    assert wrote_nothing(project)
    good(project.experiment("demo", *IN_PROCESS))
    there = {str(path) for path in project.cache.glob("[!.]*")}
    assert set(before.stdout.splitlines()) == there
    after = good(project.experiment("demo", "--paths", *IN_PROCESS)).stdout
    assert set(after.splitlines()) == there
    sizes = subprocess.run(["xargs", "stat", "-c", "%s"], input=after, capture_output=True, text=True, check=True)
    assert len(sizes.stdout.split()) == len(there)


def test_paths_of_several_files_tracked_files_and_urls(project: Project) -> None:
    change(
        project,
        ("from curidask.caching import", "from curidask.caching import Cacheable,"),
        ("def note(", PAIR + "\n\ndef note("),
        ("[PickleCacher]", "[Pair]"),
        ('return {"x": record.params.x}', BESIDE),
    )
    remote = good(project.experiment("demo", "--paths", "--cache", "memory://some/where")).stdout.splitlines()
    assert remote
    assert all(line.startswith("memory://some/where/demo_") for line in remote)
    good(project.experiment("demo", *IN_PROCESS))
    listed = project.experiment("demo", "--paths").stdout.splitlines()
    assert set(listed) == {str(path) for path in project.cache.glob("[!.]*")}
    for part in ("_a.txt", "_b.txt", "by_hand"):
        assert sum(part in line for line in listed) == 4


PAIR = """
class Pair(Cacheable):
    extension = ".txt"
    def save(self, obj):
        for part in ("a", "b"):
            with open(self.get_path(f"{part}.txt"), "w") as file:
                file.write(str(obj["x"]))
    def load(self):
        with open(self.get_path("b.txt")) as file:
            return {"x": int(file.read())}
"""


def test_flags_that_look_exclude_each_other(project: Project) -> None:
    pairs = [("--map", "--hashes"), ("--paths", "--print-params"), ("--dry", "--notebook"), ("--parallel-safe", "-s")]
    for one, other in pairs:
        refused = project.experiment("demo", one, other)
        assert refused.returncode == 2
        assert f"{one} and {other.replace('-s', '--store-full')} cannot go together" in refused.stderr or other == "-s"
    for flag in ("--dry", "--map", "--parallel-safe"):
        assert project.experiment("demo", "--detach", flag).returncode == 2
    assert wrote_nothing(project)


# --- what is computed ------------------------------------------------------------------------------------------------
def test_without_the_graph_each_stage_decides_by_its_own_cache(project: Project) -> None:
    good(project.experiment("demo", *IN_PROCESS))
    project.calls()
    for path in project.artifacts("load_data"):
        path.unlink()
    good(project.experiment("demo", *IN_PROCESS))
    assert stage_calls(project) == set()
    good(project.experiment("demo", "--no-dag", *IN_PROCESS))
    assert stage_calls(project) == {"load", "change"}


LOADS = """
class Counted(PickleCacher):
    def load(self):
        with open(CALLS.parent / "loads", "a") as file:
            file.write("x")
        return super().load()
"""
READ_TWICE = """
        r = score(change(load(cf.Record(manager, params))))
        (CALLS.parent / "loads").unlink(missing_ok=True)
        assert r.state["data"] == r.state["data"]
        print("loads:", len((CALLS.parent / "loads").read_text()))
"""


@pytest.mark.parametrize(
    ("flags", "loads", "parallel"),
    [((), 1, IN_PROCESS), (("--lazy",), 2, IN_PROCESS), (("--lazy",), 2, ON_WORKERS)],
)
def test_lazy_outputs_are_loaded_at_each_access(
    project: Project, flags: tuple[str, ...], loads: int, parallel: tuple[str, str]
) -> None:
    counted = (
        ("def note(", LOADS + "\n\ndef note("),
        ('["data"], [PickleCacher]', '["data"], [Counted]'),
        ("\n        score(change(load(cf.Record(manager, params))))\n", READ_TWICE),
    )
    change(project, *counted)
    good(project.experiment("demo", *IN_PROCESS))
    done = good(project.experiment("demo", *flags, *parallel))
    assert done.stdout.split() == ["loads:", str(loads)] * 4
    assert bool(project.artifacts("change_middle")) is False  # nothing needed it to be made
    lazy = (
        ('["data"], [Counted]', '[cf.caching.Lazy("data")], [Counted]'),
        ("import curidask as cf", "import curidask as cf, curidask.caching"),
    )
    change(project, *lazy)  # fmt: skip
    assert good(project.experiment("demo", *parallel)).stdout.split() == ["loads:", "2"] * 4
    assert good(project.experiment("demo", "--ignore-lazy", *parallel)).stdout.split() == ["loads:", "1"] * 4


def test_lazy_pickles_what_has_no_cacher(project: Project) -> None:
    good(project.experiment("demo", "--lazy", *ON_WORKERS))
    assert len(project.artifacts("change_middle")) == 4
    project.calls()
    good(project.experiment("demo", "--lazy", "--overwrite-stage", "score", *ON_WORKERS))
    assert stage_calls(project) == {"score", "gather"}


def pids(project: Project, *flags: str, settings: str = "") -> tuple[int, bool]:
    """In how many processes the stage `load` ran, and whether the command's own was one of them."""
    change(
        project,
        ("import curidask as cf", "import os\nimport time\nimport curidask as cf"),
        ('note(record, "load")', 'note(record, f"pid-{os.getpid()}"); time.sleep(0.2)'),
        ("def run(param_sets, manager):\n", "def run(param_sets, manager):\n    print(os.getpid())\n"),
    )
    project.write("curidask.toml", settings)
    own = int(good(project.experiment("demo", "--no-log", *flags)).stdout)
    ran_in = {int(name.split("_")[0][4:]) for name in project.calls() if name.startswith("pid-")}
    return len(ran_in), own in ran_in


def test_parallel_says_in_how_many_processes(project: Project, parallel: tuple[str, str]) -> None:
    assert pids(project, *parallel) == ((1, True) if parallel[1] == "0" else (2, False))


@pytest.mark.parametrize("flag", ["--parallel-safe", "--parallel-mode"])  # the second is its first name
def test_parallel_safe_only_fills_the_cache(project: Project, flag: str) -> None:
    done = good(project.experiment("demo", flag, "--global-indices", "0-2", "--notes", "x", *IN_PROCESS))
    assert not (project.root / "reports").exists()
    assert not (project.root / "data/runs").exists()
    assert "not kept" in done.stderr
    (log,) = (project.root / "logs").iterdir()
    assert re.fullmatch(r"demo_1_.*_p\d+\.log", log.name)
    assert stage_calls(project) == {"load", "change", "score", "gather"}
    good(project.experiment("demo", *IN_PROCESS))
    assert {name for name in project.calls() if name.startswith("score")} == {"score_set2", "score_set3"}
    assert project.last_run()["number"] == 1


def test_several_parallel_safe_commands_fill_one_cache_at_a_time(project: Project) -> None:
    parts = [project.start("demo", "--parallel-safe", *IN_PROCESS, "--global-indices", part) for part in ("0-2", "1-4")]
    for process in parts:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    calls = project.calls()
    assert {name: n for name, n in calls.items() if name.startswith(("load", "score"))} == {
        f"{stage}_set{i}": 1 for stage in ("load", "score") for i in range(4)
    }
    good(project.experiment("demo", *IN_PROCESS))
    assert stage_calls(project) == {"gather"}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--name", "x"), "--prefix"),
        (("--port", "80"), "experiment reports"),
        (("--overwrit",), "--overwrite"),
        (("--print-param",), "--print-params"),
    ],
)
def test_flags_that_are_not_there_say_which_are_meant(project: Project, flags: tuple[str, ...], says: str) -> None:
    refused = project.experiment("demo", *flags)
    assert refused.returncode == 2
    assert says in refused.stderr


def test_first_names_of_flags_are_taken(project: Project) -> None:
    good(project.experiment("demo", *IN_PROCESS))
    project.calls()
    for path in project.artifacts("load_data"):
        path.unlink()
    good(project.experiment("demo", "--no-map", *IN_PROCESS))
    assert stage_calls(project) == {"load", "change"}


# --- what is kept ----------------------------------------------------------------------------------------------------
def run_folder(project: Project) -> Path:
    folder: Path = project.root / "data/runs" / project.last_run()["reference"]
    return folder


def test_store_full_keeps_all_and_reproduces(project: Project) -> None:
    change(project, ('return {"x": record.params.x}', BESIDE))
    good(project.experiment("demo", *IN_PROCESS))
    # The second run needs only the table; the folder gets all that is in the cache all the same.
    good(project.experiment("demo", "-s", "-n", "set1", "-n", "set2", *IN_PROCESS))
    folder = run_folder(project)
    copied = files_below(folder / "artifacts")
    wanted = {
        n: data for n, data in files_below(project.cache).items() if any(f"_{s}_" in n for s in hashes(project)[1:3])
    }
    assert {n: d for n, d in copied.items() if n in wanted} == wanted
    assert sum("by_hand" in name for name in copied) == 2
    assert "to run" in (folder / "run.log").read_text()
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["packages"]["click"]
    assert "click==" in (folder / "requirements.txt").read_text()

    shutil.rmtree(project.cache)
    project.calls()
    again = good(project.experiment(*shlex.split(environment["reproduce"])[1:], *IN_PROCESS))
    assert project.calls() == {}
    assert not project.cache.exists()
    assert "everything was in the cache" in again.stderr
    assert files_below(folder / "artifacts") == copied


BESIDE = 'open(record.get_path("by_hand"), "w").write("kept")\n    return {"x": record.params.x}'


def hashes(project: Project) -> list[str]:
    return [line.split()[0] for line in project.experiment("demo", "--hashes").stdout.splitlines()]


def test_a_stored_run_brings_its_prefix_and_can_be_moved(project: Project, tmp_path: Path) -> None:
    good(project.experiment("demo", "--store-full", "--prefix", "mine", *IN_PROCESS))
    moved = shutil.move(run_folder(project), tmp_path / "moved run")
    shutil.rmtree(project.root / "data")
    project.calls()
    good(project.experiment("demo", "--cache", str(moved), "--dry-cache", *IN_PROCESS))
    assert project.calls() == {}
    assert set(project.experiment("demo", "--cache", str(moved), "--paths").stdout.splitlines()) == {
        str(path) for path in Path(moved, "artifacts").iterdir()
    }


def test_store_full_says_what_git_does_not_know(project: Project) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *arguments], cwd=project.root, check=True, capture_output=True)

    project.write(".gitignore", "data/\ncalls/\nlogs/\nreports/\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    change(project, ("return middle", "# changed\n    return middle"))
    project.write("new.txt", "")
    good(project.experiment("demo", "-s", *IN_PROCESS))
    environment = json.loads((run_folder(project) / "environment.json").read_text())
    assert environment["git"]["changed"] is True
    assert environment["git"]["untracked"] == ["new.txt"]
    git("checkout", "-q", "experiments/demo.py")
    subprocess.run(["git", "apply", run_folder(project) / "changes.diff"], cwd=project.root, check=True)
    assert "# changed" in (project.root / "experiments/demo.py").read_text()


def test_store_full_of_a_run_that_fails_keeps_what_there_is(project: Project) -> None:
    change(project, ('note(record, "score")', 'note(record, "score"); assert record.params.x != 2'))
    failed = project.experiment("demo", "--full-store", *ON_WORKERS)
    assert failed.returncode == 1
    folder = run_folder(project)
    assert str(folder) in failed.stderr
    names = list(files_below(folder / "artifacts"))
    assert sum("score_score" in name for name in names) == 2 * 3
    assert "AssertionError" in (folder / "run.log").read_text()
    project.calls()
    change(project, ("; assert record.params.x != 2", ""))
    good(project.experiment("demo", "--cache", str(folder), *IN_PROCESS))
    assert stage_calls(project) == {"change", "score", "gather"}


def test_store_full_leaves_out_what_is_not_tracked_or_damaged(project: Project) -> None:
    change(project, ("[JsonCacher])\ndef score", "[JsonCacher(track=False)])\ndef score"))
    good(project.experiment("demo", *IN_PROCESS))
    project.artifacts("load_data")[0].write_bytes(b"damaged")
    done = good(project.experiment("demo", "-s", *IN_PROCESS))
    assert "damaged" in done.stderr
    names = list(files_below(run_folder(project) / "artifacts"))
    assert not [name for name in names if "score_score" in name]
    assert sum("load_data" in name for name in names) == 2 * 3


def test_store_full_with_a_cache_that_is_only_read(project: Project) -> None:
    good(project.experiment("demo", "-n", "set0", *IN_PROCESS))
    done = good(project.experiment("demo", "-s", "--dry-cache", *IN_PROCESS))
    assert "not stored" in done.stderr
    names = list(files_below(run_folder(project) / "artifacts"))
    assert sum("load_data" in name for name in names) == 2


def test_notes_as_text(project: Project) -> None:
    good(project.experiment("demo", "--notes", "a title\n\nand more", *IN_PROCESS))
    assert project.last_run()["notes"] == "a title\n\nand more"
    good(project.experiment("--notes=first", "demo", *IN_PROCESS))
    assert project.last_run()["notes"] == "first"
    good(project.experiment("demo", *IN_PROCESS))
    assert project.last_run()["notes"] == ""


def editor(project: Project, text: str) -> str:
    path = project.write("editor.sh", f'#!/bin/sh\ncat "$1" > {project.root}/shown\nprintf \'{text}\' > "$1"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("variable", "written", "kept"),
    [
        ("VISUAL", "\\nA title\\n\\nmore  \\n# left out\\n", "A title\n\nmore"),
        ("EDITOR", "# only comments\\n\\n", ""),
        ("EDITOR", "", ""),
    ],
)
def test_notes_from_the_editor(project: Project, variable: str, written: str, kept: str) -> None:
    good(project.experiment("demo", "--notes", *IN_PROCESS, env={variable: editor(project, written)}))
    assert project.last_run()["notes"] == kept
    assert (project.root / "shown").read_text().startswith("\n\n# Notes for this run")


def test_notes_from_gits_editor_and_not_for_input_that_cannot_run(project: Project, tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text(f"[core]\n\teditor = {editor(project, 'by git')}\n")
    assert project.experiment("demo", "--notes", "-n", "nobody").returncode == 2
    assert not (project.root / "shown").exists()
    good(project.experiment("demo", "--notes", *IN_PROCESS))
    assert project.last_run()["notes"] == "by git"


def test_notes_without_a_text_and_without_a_terminal_or_a_name(project: Project) -> None:
    assert project.experiment("demo", "--notes", *IN_PROCESS, env={"VISUAL": "", "EDITOR": ""}).returncode == 2
    no_name = project.experiment("--notes", "demo")
    assert no_name.returncode == 2
    assert "experiment demo --notes" in no_name.stderr
    assert project.calls() == {}
    broken = project.experiment("demo", "--notes", *IN_PROCESS, env={"EDITOR": "false"})
    assert broken.returncode == 1
    assert project.calls() == {}


def test_notes_of_a_dry_run_are_not_asked_for(project: Project) -> None:
    done = good(project.experiment("demo", "--notes", "--dry", *IN_PROCESS, env={"EDITOR": editor(project, "x")}))
    assert "not kept" in done.stderr
    assert not (project.root / "shown").exists()


def test_no_report_makes_none(project: Project) -> None:
    good(project.experiment("demo", "--no-report", *IN_PROCESS))
    assert not (project.root / "reports").exists()


@pytest.mark.parametrize("extra", [(), ("-s",)], ids=["from the cache", "from the run's folder"])
def test_notebook_reloads_the_run_and_computes_nothing(project: Project, extra: tuple[str, ...]) -> None:
    import nbclient
    import nbformat

    good(
        project.experiment("demo", "--notebook", "--prefix", "mine", "-n", "set1", "--notes", "hm", *extra, *IN_PROCESS)
    )
    (path,) = (project.root / "notebooks/experiments").iterdir()
    assert path.name == f"{project.last_run()['reference']}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "hm" in notebook.cells[0].source
    if extra:
        shutil.rmtree(project.cache)
    project.calls()
    before = files_below(project.root)
    client = nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(path.parent)}})
    client.execute(env=clean_environment())
    shown = "".join(output.get("text", "") for cell in notebook.cells[1:] for output in cell.outputs)
    assert "Record 0 (set1)" in shown
    assert "score" in shown
    assert str({"table": {"set1": TABLE["set1"]}}) in notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    assert project.calls() == {}
    assert files_below(project.root) == before


# --- the image -------------------------------------------------------------------------------------------------------
def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip() and not line.startswith("#")]  # type: ignore[misc]


def materialised(context: Path, dockerfile: Path, root: Path) -> Path:
    """Do what the COPY lines say; the working folder of the image."""
    folder = root
    for name, rest in instructions(dockerfile):
        if name == "WORKDIR":
            folder = root / rest.lstrip("/")
        if name == "COPY":
            *sources, target = [word for word in rest.split() if not word.startswith("--")]
            place = root / target.lstrip("/") if target.startswith("/") else folder / target
            for source in sources:
                found = context / source
                assert found.exists(), f"{source} is not in the build context"
                if found.is_dir():
                    shutil.copytree(found, place, dirs_exist_ok=True)
                else:
                    place.mkdir(parents=True, exist_ok=True) if target.endswith("/") else place.parent.mkdir(
                        parents=True, exist_ok=True
                    )
                    shutil.copy(found, place)
    return folder


@pytest.fixture
def no_engine(tmp_path: Path) -> dict[str, str]:
    """A PATH on which no engine is found, but git and the like are."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("git", "sh", "env", "cat"):
        (folder / name).symlink_to(shutil.which(name) or "")
    return {"PATH": str(folder)}


def test_docker_writes_a_context_that_reproduces_the_run(
    project: Project, tmp_path: Path, no_engine: dict[str, str]
) -> None:
    project.write("library/helper.py", "FACTOR = 10\n")
    change(project, ('data["x"] *= 10', 'from library.helper import FACTOR\n    data["x"] *= FACTOR'))
    done = good(project.experiment("demo", "--docker", "-n", "set1", "--prefix", "mine", *IN_PROCESS, env=no_engine))
    context = run_folder(project)
    dockerfile = context / "docker/Dockerfile"
    assert f"-f {dockerfile} {context}" in done.stderr
    lines = instructions(dockerfile)
    assert lines[0] == ("FROM", f"python:{'.'.join(map(str, sys.version_info[:3]))}-slim")
    assert [rest for name, rest in lines if name == "USER"] == ["researcher"]
    assert [name for name, _ in lines][-2:] == ["USER", "CMD"]
    pinned = (context / "docker/requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+(==\S+| @ \S+)", line) for line in pinned), pinned
    assert any(line.startswith("click==") for line in pinned)

    image = tmp_path / "image"
    folder = materialised(context, dockerfile, image)
    shutil.rmtree(folder / "calls")
    assert (folder / "notebooks/experiments" / f"{context.name}.ipynb").exists()
    shutil.rmtree(project.root)
    command = json.loads(next(rest for name, rest in lines if name == "CMD"))
    libraries = [rest.partition("=")[2] for name, rest in lines if name == "ENV" and rest.startswith("PYTHONPATH=")]
    env = clean_environment() | {"PYTHONPATH": str(image / libraries[0].lstrip("/"))} if libraries else None
    again = subprocess.run(
        [sys.executable, *command[1:]], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "everything was in the cache" in again.stderr
    assert not (folder / "calls").exists()


@pytest.mark.parametrize("code", [0, 3])
def test_docker_builds_where_an_engine_answers(project: Project, no_engine: dict[str, str], code: int) -> None:
    engine = Path(no_engine["PATH"]) / "podman"
    engine.write_text(f'#!/bin/sh\n[ "$1" = info ] && exit 0\necho "$@" > {project.root}/built\nexit {code}\n')
    engine.chmod(0o755)
    done = project.experiment("demo", "--docker", *IN_PROCESS, env=no_engine)
    assert (done.returncode == 0) == (code == 0)
    folder = run_folder(project)
    assert (project.root / "built").read_text().split() == [
        "build", "-t", "curidask/demo:1", "-f", str(folder / "docker/Dockerfile"), str(folder)
    ]  # fmt: skip


def test_docker_takes_what_git_knows_and_no_results(project: Project, no_engine: dict[str, str]) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project.root, check=True)
    project.write(".gitignore", "ignored.txt\n")
    for name in ("ignored.txt", "kept.txt", "sub/kept.txt", "logs/old.log", "data/cache/x", "reports/x", ".env"):
        project.write(name, "")
    done = good(project.experiment("demo", "--docker", *IN_PROCESS, env=no_engine))
    folder = run_folder(project) / "docker"
    copied = set(files_below(folder / "project"))
    listed = (folder / "files.txt").read_text().splitlines()
    assert set(listed) == copied
    said = f"in the image: {len(listed)} files of the project, listed in {folder / 'files.txt'}: .gitignore, "
    assert said in done.stderr
    assert "not in the image: .env (it may be a secret)" in done.stderr
    assert {"kept.txt", "sub/kept.txt", "experiments/demo.py", "curidask.toml"} <= copied
    assert not {".env", "ignored.txt", "logs/old.log", "data/cache/x", "reports/x"} & copied


# --- what is logged and shown ----------------------------------------------------------------------------------------
TALK = """
import logging
def talk(name):
    logging.getLogger("mine.stages").info("%s talks", name)
    logging.getLogger("mine.stages").debug("%s whispers", name)
    exec(compile("import logging; logging.getLogger('other.package').info('other talks')", "/usr/lib/other.py", "exec"))
"""


@pytest.fixture
def talking(project: Project) -> Project:
    change(
        project,
        ("CALLS = Path", TALK + "\nCALLS = Path"),
        ('note(record, "load")', 'note(record, "load"); talk(record.name)'),
    )
    return project  # fmt: skip


def test_what_the_experiment_logs_is_in_the_log_and_shown_when_asked_for(
    talking: Project, parallel: tuple[str, str]
) -> None:
    plain = good(talking.experiment("demo", *parallel))
    assert "talks" not in plain.stderr + plain.stdout
    assert [f"set{i} talks" in log_text(talking) for i in range(4)] == [True] * 4
    assert "other talks" not in log_text(talking)
    assert "whispers" not in log_text(talking)
    verbose = good(talking.experiment("demo", "-v", "--overwrite", *parallel))
    assert [f"set{i} talks" in verbose.stderr for i in range(4)] == [True] * 4
    assert "other talks" not in verbose.stderr
    assert "talks" not in verbose.stdout
    assert [f"set{i} whispers" in log_text(talking) for i in range(4)] == [True] * 4
    assert "whispers" not in verbose.stderr


def test_all_loggers_shows_what_packages_log(talking: Project, parallel: tuple[str, str]) -> None:
    done = good(talking.experiment("demo", "-v", "--all-loggers", *parallel))
    assert done.stderr.count("other talks") == 4
    assert log_text(talking).count("other talks") == 4


def test_quiet_shows_the_experiments_own_output_and_warnings_only(talking: Project, parallel: tuple[str, str]) -> None:
    change(talking, ("    for params in param_sets:\n", "    print('mine')\n    for params in param_sets:\n"))
    quiet = good(talking.experiment("demo", "--quiet", *parallel))
    assert (quiet.stdout, quiet.stderr) == ("mine\n", "")
    talking.artifacts("gather_table")[0].write_text("{")
    assert "damaged" in good(talking.experiment("demo", "--quiet", *parallel)).stderr


def test_no_log_writes_none(project: Project) -> None:
    good(project.experiment("demo", "--no-log", *IN_PROCESS))
    assert not (project.root / "logs").exists()
    good(project.experiment("demo", *IN_PROCESS))
    assert [path.stem for path in (project.root / "logs").iterdir()] == [project.last_run()["reference"]]


@pytest.mark.parametrize(
    ("where", "parallel"), [("a stage", IN_PROCESS), ("a stage", ON_WORKERS), ("run()", IN_PROCESS)]
)
def test_log_errors_puts_tracebacks_into_the_log(project: Project, parallel: tuple[str, str], where: str) -> None:
    if where == "a stage":
        change(project, ('note(record, "score")', "raise ValueError('oh no')"))
    else:
        change(
            project,
            ("def run(param_sets, manager):\n", "def run(param_sets, manager):\n    raise ValueError('oh no')\n"),
        )
    assert project.experiment("demo", *parallel).returncode == 1
    assert "ValueError: oh no" in log_text(project)
    assert "demo.py" not in log_text(project)
    failed = project.experiment("demo", "--log-errors", *parallel)
    assert failed.returncode == 1
    assert re.search(r'demo.py", line \d+, in (score|run)', log_text(project))
    assert failed.stderr.count("Traceback") <= 4  # the terminal shows each once, as without the flag


# --- the terminal ----------------------------------------------------------------------------------------------------
def on_a_terminal(project: Project, *arguments: str, env: dict[str, str] | None = None) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [str(COMMANDS / "experiment"), *arguments]
    everything = clean_environment() | {"TERM": "xterm-256color"} | (env or {})
    everything.pop("NO_COLOR", None) if not env or "NO_COLOR" not in env else None
    process = subprocess.Popen(
        command, cwd=project.root, env=everything, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = b""
    end = time.monotonic() + 90
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    data = os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
                shown += data
        process.wait(timeout=30)
    finally:
        end_group(process)
    os.close(ours)
    return shown.decode()


MOVES = re.compile(r"\x1b\[\d+A")
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def test_a_terminal_gets_colour_and_moving_lines(project: Project) -> None:
    shown = on_a_terminal(project, "demo", *IN_PROCESS)
    assert MOVES.search(shown)
    assert COLOUR.search(shown)


@pytest.mark.parametrize(
    ("flags", "env", "moves"),
    [
        (("--plain", "--parallel", "0"), {}, False),
        (("--no-color", "--parallel", "2"), {}, True),
        (("--parallel", "0"), {"NO_COLOR": "1"}, True),
        (("--parallel", "0"), {"TERM": "dumb"}, False),
    ],
)
def test_a_terminal_that_wants_less(project: Project, flags: tuple[str, ...], env: dict[str, str], moves: bool) -> None:
    shown = on_a_terminal(project, "demo", *flags, env=env)
    assert not COLOUR.search(shown)
    assert bool(MOVES.search(shown)) is moves
    broken = on_a_terminal(project, "demoo", *flags, env=env)
    assert "demo" in broken
    assert not COLOUR.search(broken)


def test_progress_moves_lines_without_a_terminal(project: Project) -> None:
    assert not MOVES.search(good(project.experiment("demo", *IN_PROCESS)).stderr)
    forced = good(project.experiment("demo", "--overwrite", "--progress", *IN_PROCESS)).stderr
    assert MOVES.search(forced)
    assert not COLOUR.search(forced)


LINE = re.compile(r"  (load|change|score|gather) +\d+/\d+  .*|  \d+ workers?.*")


@pytest.mark.parametrize("n_workers", ["0", "2"])
def test_quiet_progress_shows_the_moving_lines_only(project: Project, n_workers: str) -> None:
    change(
        project,
        ("import curidask as cf", "import time\nimport curidask as cf"),
        ('note(record, "load")', 'note(record, "load"); time.sleep(0.2)'),
    )
    arguments = ("demo", "--quiet", "--progress", "--parallel", n_workers)
    shown = on_a_terminal(project, *arguments)
    piped = good(project.experiment(*arguments, "--overwrite"))
    assert piped.stdout == ""
    for text in (shown.replace("\r\n", "\n"), piped.stderr):
        assert MOVES.search(text)
        lines = [line for line in re.sub(r"\x1b\[[\d;]*[A-Zm]", "", text).splitlines() if line.strip()]
        assert [line for line in lines if not LINE.match(line + "  ")] == []
        assert any(line.split()[:2] == ["gather", "1/1"] for line in lines[-4:])  # what it came to stays


def test_quiet_alone_moves_nothing_on_a_terminal(project: Project) -> None:
    assert on_a_terminal(project, "demo", "--quiet", *IN_PROCESS) == ""


def test_plain_wins_over_progress(project: Project) -> None:
    assert not MOVES.search(good(project.experiment("demo", "--plain", "--progress", *IN_PROCESS)).stderr)


# --- the rest --------------------------------------------------------------------------------------------------------
def test_digests_of_a_stored_run_are_those_of_its_manifests(project: Project) -> None:
    good(project.experiment("demo", "-s", *IN_PROCESS))
    folder = run_folder(project) / "artifacts"
    for path in folder.glob("*_metadata.json"):
        manifest: dict[str, Any] = json.loads(path.read_text())
        for suffix, size, sha256 in manifest["files"]:
            data = (folder / (manifest["stem"] + suffix)).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (size, sha256)


def test_curidask_run_takes_the_same_flags(project: Project) -> None:
    done = project.command("curidask", "run", "demo", "--hashes")
    assert [line.split()[1] for line in good(done).stdout.splitlines()] == SETS
    module = subprocess.run(
        [sys.executable, "-m", "curidask", "run", "demo", "--hashes"], cwd=project.root, env=clean_environment(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert module.stdout == done.stdout
    assert DEMO
