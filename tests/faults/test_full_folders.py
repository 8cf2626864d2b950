"""A folder for temporary files that is full is named, and how to set another."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import curidask as cf
from curidask.caching import Cacheable
from curidask.errors import CacheError
from curidask.execution.tracebacks import describe_error
from curidask.session.config import Config
from curidask.store.backends import errors
from curidask.store.workspace import Workspace

FULL = "No space left on device"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for temporary files whose disk has no space left, as far as the system says."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    usual = os.statvfs

    def statvfs(path: str) -> Any:
        nothing = SimpleNamespace(f_bavail=0, f_frsize=4096, f_files=10, f_favail=10)
        return nothing if os.fspath(path) == str(folder) else usual(path)

    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(os, "statvfs", statvfs)
    return folder


class Large(Cacheable):
    """Needs more than there is."""

    def save(self, obj: Any) -> None:
        assert self.get_path().startswith(tempfile.gettempdir())
        raise OSError(errno.ENOSPC, FULL)  # as writing to an open file does, without a name

    def load(self) -> Any:
        """Nothing was saved."""


@cf.stage(None, ["value"], [Large])
def make(record: Any) -> int:
    return 1


def test_a_stage_that_has_no_space_to_work_says_where(full: Path, tmp_path: Path) -> None:
    config = Config(tmp_path)
    with (
        cf.ArtifactManager("m", cache="memory://full/cache", config=config, parallel=0) as manager,
        pytest.raises(CacheError, match=FULL) as caught,
    ):
        make(cf.Record(manager, None))
    assert f"temporary files, {full}, is full" in caught.value.fix
    assert "TMPDIR" in caught.value.fix
    assert str(full) in describe_error(OSError(errno.ENOSPC, FULL), portable=True).fix  # of a stage's own code


def test_a_working_folder_that_cannot_be_made_says_where(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *_: Any) -> None:
        raise OSError(errno.ENOSPC, FULL, path)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(CacheError, match=FULL) as caught:
        Workspace("stem", f"{full}/work").path("stem.json")
    assert str(full) in caught.value.fix


def test_another_full_disk_is_not_taken_for_it(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.ENOSPC, FULL)
    assert "choose another cache" in errors.explain(error, "write", "x", str(tmp_path)).fix  # on the same disk
    assert "TMPDIR" in errors.explain(error, "write", "x", "/proc").fix
    assert errors.what_is_full(OSError(errno.EACCES, "no")) == errors.what_is_full(ValueError()) == ""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert errors.what_is_full(error) == ""


def test_where_no_folder_can_be_used_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']")
    assert "TMPDIR" in errors.what_is_full(error)
