"""The code of a run is that of its start, whatever is edited meanwhile and whatever workers ran before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from curidask import clusters
from tests.conftest import Project, clean_environment

EDITED = """
import os, time
from pathlib import Path
import curidask as cf
import helper

ROOT = Path.cwd()

def edit():
    for name in ("helper", "late"):
        (ROOT / f"{name}.py").write_text("K = 'edited'")
    (ROOT / "experiments/edited.py").write_text("raise RuntimeError('edited')")
    (ROOT / "gone.py").unlink()

@cf.stage(None, ["first"])
def first(record):
    return helper.K

@cf.stage(["first"], ["second"])
def second(record, first):
    import late, gone
    if os.environ.get("DIES") and not (ROOT / "died").exists():
        (ROOT / "died").touch()
        os._exit(1)  # the worker that is started in its place imports what the run began with
    return [first, helper.K, late.K, gone.K, Path(helper.__file__).parent == ROOT]

def get_params():
    return [cf.ExperimentParameters("a")]

def run(param_sets, manager):
    record = first(cf.Record(manager, param_sets[0]))
    print(record.output)
    edit()
    print(second(record).output)
"""


@pytest.mark.parametrize("parallel", ["0", "1"])
def test_an_edit_in_the_middle_of_a_run_reaches_no_task(project: Project, parallel: str) -> None:
    project.write("experiments/edited.py", EDITED)
    for name in ("helper", "late", "gone"):
        project.write(f"{name}.py", "K = 'as it began'")
    done = project.experiment("edited", "--parallel", parallel, env={"DIES": "1"} if parallel == "1" else {})
    assert done.stdout.splitlines() == [
        "as it began",
        "['as it began', 'as it began', 'as it began', 'as it began', True]",
    ], done.stderr


VERSION = """
import curidask as cf
from curidask.caching import PickleCacher
from helper import Model

@cf.stage(None, ["out"], [PickleCacher])
def make(record):
    return Model({version}).told()

def get_params():
    return [cf.ExperimentParameters("a")]

def run(param_sets, manager):
    print(make(cf.Record(manager, param_sets[0])).output)
"""
HELPER = """
class Model:
    def __init__(self, n):
        self.n = n
    def told(self):
        return [self.n, {version}]
"""
RUN = """
import sys
import curidask as cf
cf.run_experiment("exp", cache=sys.argv[2], cluster=sys.argv[1], insecure=True, report=False, log=False)
"""


def test_a_long_lived_worker_runs_each_version_of_a_project(project: Project, tmp_path: Path) -> None:
    with clusters.local(1, {"protocol": "tcp://", "security": None}) as connection:
        told = []
        for version in (1, 2, 1):
            project.write("experiments/exp.py", VERSION.format(version=version))
            project.write("helper.py", HELPER.format(version=version))
            address = connection.client.scheduler.address
            done = subprocess.run(
                [sys.executable, "-c", RUN, address, str(tmp_path / f"cache{len(told)}")],
                cwd=project.root,
                env=clean_environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            told.append(done.stdout.strip())
    assert told == ["[1, 1]", "[2, 2]", "[1, 1]"]


def test_what_a_script_defines_has_one_namespace_on_workers(project: Project) -> None:
    project.write("helper.py", "K = 3\n")
    project.write(
        "script.py",
        """
        import threading
        import curidask as cf
        import helper
        LOCK = threading.Lock()
        K = 1
        class Model:
            def told(self):
                return [K, helper.K]
        def set_global(n):
            global K
            K = n
        @cf.stage(None, ["out"])
        def use(record, how=None):
            set_global(5)
            return [K, Model().told(), how(1), __name__]
        if __name__ == "__main__":
            with cf.ArtifactManager("script", parallel=1) as manager:
                print(use(cf.Record(manager, None), how=lambda x: x + K).output)
        """,
    )
    assert project.script("script.py") == ["[5, [5, 3], 6, '__main__']"]


def test_a_module_that_cannot_be_imported_on_a_worker_is_named(project: Project) -> None:
    project.write(
        "helper.py", "import os\nif os.getpid() != int(os.environ['DRIVER']):\n    raise OSError('only there')\n"
    )
    project.write(
        "script.py",
        """
        import os
        os.environ["DRIVER"] = str(os.getpid())
        import curidask as cf
        import helper
        @cf.stage(None, ["out"])
        def use(record):
            return helper.__name__
        with cf.ArtifactManager("script", parallel=1) as manager:
            try:
                print(use(cf.Record(manager, None)).output)
            except cf.CuridaskError as error:
                print(str(error).splitlines()[0])
        """,
    )
    (line,) = project.script("script.py")
    assert "only there" in line


def test_a_script_that_loaded_a_file_named_as_a_package_has_workers(project: Project) -> None:
    """It keeps its own, and dask gets the package."""
    project.write("yaml.py", "WHO = 'ours'")
    project.write("script.py", "import yaml\n" + ONE_STAGE)
    done = project.command("python", "script.py")
    assert done.stdout == "ours 2\n", done.stderr


ONE_STAGE = """
import curidask as cf

@cf.stage(None, ["n"])
def two(record):
    return 2

if __name__ == "__main__":
    with cf.ArtifactManager("named", parallel=1) as manager:
        print(yaml.WHO, two(cf.Record(manager, None)).state["n"])
"""
