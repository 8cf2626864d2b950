"""The parts that need no cluster: what a project imports, which versions matter, whose turn it is on a worker."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from curidask.clusters.preflight import Installation, compare, this_process
from curidask.clusters.tls import check_plain, is_loopback
from curidask.errors import ConfigurationError
from curidask.execution.dask.code_shipping import CodeLock
from curidask.execution.project import importer
from curidask.execution.project.imports import scan
from curidask.execution.project.project_files import Place, ProjectFiles, enter, moved, what_to_do
from tests.conftest import Project


# --- imports ---------------------------------------------------------------------------------------------------------
def test_imports_are_followed_within_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    start = project.write(
        "experiments/x.py",
        """
        import os, numpy.linalg
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            import only_for_types
        else:
            import really
        try:
            import optional_one
        except ImportError:
            import fallback
        from lib import a, constant
        from . import sibling
        def later():
            from lib.deep.b import thing
            import __main__, curidask, experiments.other
        """,
    )
    project.write("experiments/sibling.py", "import of_sibling")
    project.write("experiments/other.py", "from .. import lib\nfrom .sibling import x")
    project.write("lib/__init__.py", "from . import c")
    project.write("lib/a.py", "import of_a, optional_one")
    project.write("lib/c.py", "this is no Python")
    project.write("lib/deep/b.py", "from ..a import y\nfrom ...top import z")
    project.write("top.py", "import of_top")
    project.write("lib/unused.py", "import of_unused")
    monkeypatch.syspath_prepend(str(project.root / "src"))
    project.write("src/nested/__init__.py", "import of_nested")
    project.write("experiments/other.py", "import nested")
    found = scan([start], project.root)
    needed = {name for name, is_optional in found.packages.items() if not is_optional}
    assert needed == {"numpy", "really", "of_sibling", "of_a", "of_top", "of_nested", "optional_one"}
    assert set(found.packages) - needed == {"fallback"} or set(found.packages) - needed == set()
    names = {path.relative_to(project.root).as_posix() for path in found.files}
    assert names == {
        *("experiments/x.py", "experiments/sibling.py", "experiments/other.py", "top.py", "src/nested/__init__.py"),
        *("lib/__init__.py", "lib/a.py", "lib/c.py", "lib/deep/b.py"),
    }


# --- versions --------------------------------------------------------------------------------------------------------
def installed(where: str = "worker a", python: str = "3.11.7", **packages: str) -> Installation:
    return Installation(where, python, packages)


HERE = installed("this process", dask="2026.8.0", cloudpickle="3.1.0", curidask="0.1.0", numpy="2.1.0")


@pytest.mark.parametrize(
    ("other", "is_error"),
    [
        (installed(python="3.12.1"), True),
        (installed(python="3.11.9"), False),
        (installed(dask="2025.8.0"), True),
        (installed(dask="2026.9.0"), False),
        (installed(cloudpickle="4.0"), True),
        (installed(cloudpickle="3.0"), False),
        (installed(curidask="0.1.1"), True),
        (installed(numpy="1.26.0"), False),
        (installed(numpy=""), True),
        (installed(numpy="?"), None),
        (installed(), None),
    ],
)
def test_what_matters(other: Installation, is_error: bool | None) -> None:
    findings = compare(HERE, [other])
    assert [finding.is_error for finding in findings] == ([] if is_error is None else [is_error])
    assert all(finding.fix and "worker a" in finding.what for finding in findings)


def test_the_same_difference_of_many_is_told_once_and_errors_first() -> None:
    others = [installed(f"worker {i}", numpy="2.0.0") for i in range(5)] + [installed("worker z", dask="2024.1.0")]
    first, second = compare(HERE, others)
    assert first.is_error
    assert "worker z" in first.what
    assert "worker 0 and 4 more" in second.what
    assert not compare(HERE, [installed(numpy="")], optional=["numpy"])[0].is_error


# --- files -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def _no_project() -> Iterator[None]:
    """Leave what the test enters."""
    yield
    importer.leave()


@pytest.mark.usefixtures("_no_project")
def test_files_to_ship(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("project/a.json", "project/deep/b.json", "project/c.csv"):
        project.write(name, name)
    script = project.write("project/tool.sh", "#!/bin/sh")
    script.chmod(0o755)

    def shipped(*patterns: str, with_files: bool = True) -> list[str]:
        return sorted(ProjectFiles(project.root, patterns).code(with_files=with_files).files)

    assert shipped("project/*.json") == ["project/a.json"]
    assert shipped("project/**/*.json", "project/c.csv") == ["project/a.json", "project/c.csv", "project/deep/b.json"]
    assert shipped() == shipped("project/*", with_files=False) == []
    one = ProjectFiles(project.root, ("project/*",)).code(with_files=True)
    assert one.files["project/tool.sh"] == (0o755, b"#!/bin/sh")
    (project.root / "project/a.json").touch()
    assert ProjectFiles(project.root, ("project/*",)).code(with_files=True) == one
    for pattern in ("nothing/*", "/etc/hostname", "../*"):
        with pytest.raises(ConfigurationError):
            shipped(pattern)
    monkeypatch.setattr("curidask.execution.project.project_files.SHIP_BYTES", 10)
    with pytest.raises(ConfigurationError):
        shipped("project/*")


@pytest.mark.usefixtures("_no_project")
def test_modules_that_are_imported_late_travel_too(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = ModuleType("experiments.x")
    loaded.__file__ = str(project.write("experiments/x.py", "def f():\n    import lib.late"))
    project.write("lib/late.py", "LATE = 1")
    monkeypatch.syspath_prepend(str(project.root))
    monkeypatch.setitem(sys.modules, "experiments.x", loaded)
    files = ProjectFiles(project.root)
    assert files.code(with_files=False).sources["lib/late.py"] == b"LATE = 1"
    project.write("lib/late.py", "LATE = 2")  # in the middle of the run
    assert files.code(with_files=False).sources["lib/late.py"] == b"LATE = 1"


@pytest.mark.usefixtures("_no_project")
def test_a_module_beside_the_project_does_not_travel_and_that_is_told(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/beside.py").write_text("BESIDE = 1")
    (tmp_path / "shared/later.py").write_text("LATER = 1")
    project.write(
        "above.py",
        """
        import os, sys
        sys.path.append(os.path.dirname(__file__) + '/../shared')
        import beside
        def use():
            import later
        """,
    )
    monkeypatch.setattr(sys, "path", [str(project.root), *sys.path])
    files = ProjectFiles(project.root)
    files.project()
    importlib.import_module("above")
    code = files.code(with_files=True)
    assert list(code.sources) == ["above.py"]
    assert this_process(files.imported().packages)[1].keys().isdisjoint(("beside", "later"))  # they are no packages
    scratch = tmp_path / "scratch"
    enter(code, Place(sees_project=False), "run", str(scratch))  # as on a worker
    with pytest.raises(ModuleNotFoundError, match="beside") as caught:
        importlib.import_module("above")
    assert "outside of the project's folder" in what_to_do(caught.value)
    assert "outside of the project's folder" in what_to_do(ModuleNotFoundError(name="later"))
    importer.leave()
    assert [path.name for path in scratch.rglob("*") if path.is_file()] == ["above.py"]
    assert "shared" not in "".join(sys.path)


def test_paths_in_the_project_move() -> None:
    assert moved("/p/data/x", "/p", "/run") == "/run/data/x"
    for other in ("/project/x", "p/x", "", "/pp/x"):
        assert moved(other, "/p", "/run") is other


# --- addresses -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tcp://localhost:1", "tcp://[::1]:1", "tcp://127.9.9.9:1"])
def test_loopback_needs_no_tls(address: str) -> None:
    assert is_loopback(address)
    assert check_plain(address, insecure=False) == ()


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:1", "tcp://host:1", "tcp://0.0.0.0:1", "tcp://[fe80::1]:1"])
def test_other_machines_do(address: str) -> None:
    assert not is_loopback(address)
    assert check_plain(address.replace("tcp", "tls"), insecure=False) == ()
    assert len(check_plain(address, insecure=True)) == 1
    with pytest.raises(ConfigurationError):
        check_plain(address, insecure=False)


# --- the gate of a worker --------------------------------------------------------------------------------------------
def test_jobs_of_two_runs_never_meet_in_a_process() -> None:
    gate = CodeLock()
    inside: list[str] = []
    met: list[tuple[str, ...]] = []
    done: list[str] = []

    def job(code: str) -> None:
        with gate.passed(code):
            inside.append(code)
            met.append(tuple(inside))
            time.sleep(0.002)
            inside.remove(code)
        done.append(code)

    threads = [threading.Thread(target=job, args=(code,)) for code in "aaabbbcab" * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(done) == len(threads)
    assert all(len(set(codes)) == 1 for codes in met)
    assert max(map(len, met)) > 1


def test_a_job_that_fails_leaves_the_gate_open() -> None:
    gate = CodeLock()
    with pytest.raises(ZeroDivisionError), gate.passed("a"):
        raise ZeroDivisionError
    with gate.passed("b"):
        pass
