"""The implementations that the suites run against, and small makers of artifacts."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curidask.core.artifact_names import ArtifactName, files_stem
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import ObjectStore, open_objects
from curidask.store.manifest import Manifest

PLACES = ["folder", "memory", "s3-fsspec", "s3-obstore"]


@pytest.fixture(autouse=True)
def _temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Working folders of stores that are no folder lie in the temporary one, and no run ends here that removes them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


@pytest.fixture(params=PLACES)
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty place."""
    if request.param == "folder":
        return str(tmp_path / "some" / "cache")
    if request.param == "memory":
        return f"memory://{os.urandom(8).hex()}/cache"
    monkeypatch.setenv("CURIDASK_OBJECT_CLIENT", request.param.removeprefix("s3-"))
    return str(request.getfixturevalue("s3"))


@pytest.fixture
def objects(url: str) -> ObjectStore:
    """An empty place for objects."""
    return open_objects(url)


@pytest.fixture
def store(url: str, tmp_path: Path) -> ArtifactStore:
    """An empty artifact store."""
    return ArtifactStore.open(url, near=tmp_path / "near")


@pytest.fixture
def folder_store(tmp_path: Path) -> ArtifactStore:
    """An empty artifact store in a folder."""
    return ArtifactStore.open(tmp_path / "cache")


def make_manifest(seed: str = "a", **fields: Any) -> Manifest:
    """A manifest whose key depends on the seed."""
    key = hashlib.sha256(seed.encode()).hexdigest()
    parts = {"prefix": "exp", "params_hash": key[:32], "stage": "train", "output": "model"}
    subdir = str(fields.pop("subdir", ""))
    parts |= {name: str(fields.pop(name)) for name in list(parts) if name in fields}
    name = ArtifactName(**parts, key=key, subdir=subdir)
    known: dict[str, Any] = {"key": key, "stem": name.stem, "cacher": "JsonCacher", "run": "run_1"}
    return Manifest(**{**known, **parts, **fields})


def marker_of(manifest: Manifest) -> str:
    """How the names begin of the files that the stage of an artifact wrote beside it."""
    key = hashlib.sha256(f"files of {manifest.key}".encode()).hexdigest()
    return files_stem(manifest.prefix, manifest.params_hash, manifest.stage, key)


@pytest.fixture
def commit() -> Callable[..., Manifest]:
    """Commit files, given as suffix to bytes (a suffix with a slash lies in a folder)."""

    def commit_files(
        store: ArtifactStore, manifest: Manifest, files: dict[str, bytes], *, replace_whole: bool = False
    ) -> Manifest:
        with store.workspace(manifest.stem, run="run_1") as workspace:
            for suffix, data in files.items():
                path = Path(str(workspace.folder / workspace.basename) + suffix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return store.commit(workspace, manifest, replace_whole=replace_whole)

    return commit_files


def read_checkout(store: ArtifactStore, manifest: Manifest) -> dict[str, bytes]:
    """What a checkout gives, by suffix."""
    checkout = store.checkout(manifest.stem, manifest.key)
    start = checkout.folder / checkout.basename
    return {entry.name: Path(str(start) + entry.name).read_bytes() for entry in checkout.manifest.files}


@pytest.fixture
def read() -> Callable[..., dict[str, bytes]]:
    """Check an artifact out and read its files."""
    return read_checkout


@pytest.fixture
def manifest_of() -> Callable[..., Manifest]:
    """Make a manifest."""
    return make_manifest


@pytest.fixture
def fresh(store: ArtifactStore) -> Callable[[], ArtifactStore]:
    """Open the same store anew, as another process would."""
    count = 0

    def reopen() -> ArtifactStore:
        nonlocal count
        count += 1
        near = None if store.near is None else store.near.with_name(f"near_{count}")
        return ArtifactStore(open_objects(store.url), near=near)

    return reopen
