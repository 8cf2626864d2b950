"""The artifact store against a dict, with the process dying between any two file operations."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from curidask.core.artifact_names import ArtifactName, manifest_name
from curidask.errors import ArtifactMissingError
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import ObjectStore, Stored, open_objects
from curidask.store.disk_cache import near
from curidask.store.manifest import Manifest

FILE_EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.scandir", "os.listdir"}


class SimulatedCrash(BaseException):
    """The death of a process: not caught by anything, and nothing works after it."""


class Crash:
    """Raises at the n-th operation and at all after it, as long as it is switched on."""

    def __init__(self) -> None:
        self.remaining: int | None = None
        self.happened = False

    def tick(self) -> None:
        if self.remaining is None:
            return
        self.remaining -= 1
        if self.remaining < 0:
            self.happened = True
            raise SimulatedCrash

    @contextmanager
    def after(self, operations: int) -> Iterator[None]:
        """Let so many operations pass, then die; the block ends where the process does."""
        self.remaining, self.happened = operations, False
        # Nobody hears of what fails while objects go away; to tell it, pytest would open files, and die of that.
        told, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            yield
        except SimulatedCrash:
            self.happened = True
        finally:
            self.remaining = None
            sys.unraisablehook = told


CRASH = Crash()


def _hook(event: str, _: tuple[Any, ...]) -> None:
    if CRASH.remaining is None or threading.current_thread() is not threading.main_thread():
        return  # what a thread that another test has left does in this process is nothing of the store's
    if event in FILE_EVENTS or event.startswith("shutil."):
        CRASH.tick()


sys.addaudithook(_hook)  # hooks stay; this one does nothing while no crash is on


class CrashingObjects:
    """Objects whose process may die before and after each operation."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not callable(value) or name == "lock":
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            CRASH.tick()
            result = value(*args, **kwargs)
            CRASH.tick()
            return result

        return call

    def adopt(self, local: str, name: str) -> None:
        """Upload a folder file by file, so that it can stop in between."""
        if os.path.isdir(local):
            for entry in sorted(os.listdir(local)):
                self.adopt(f"{local}/{entry}", f"{name}/{entry}")
            return
        CRASH.tick()
        self.inner.adopt(local, name)

    def adopt_many(self, moves: dict[str, str]) -> dict[str, Stored]:
        """Upload file by file, so that it can stop in between."""
        stored = {}
        for name, local in moves.items():
            inside = [path for path in sorted(Path(local).rglob("*")) if path.is_file()] or [Path(local)]
            for path in inside:
                CRASH.tick()
                below = path.relative_to(local).as_posix()
                stored |= self.inner.adopt_many({name if below == "." else f"{name}/{below}": path})
        return stored

    def remove(self, names: Any) -> None:
        """Remove one by one, so that it can stop in between."""
        for name in list(names):
            CRASH.tick()
            self.inner.remove([name])


KEYS = [hashlib.sha256(b"%d" % i).hexdigest() for i in range(3)]
STEMS = [ArtifactName("exp", key[:32], "train", "model", key, "sub" if i else "").stem for i, key in enumerate(KEYS)]
SHAPES = [(".json",), ("_a.bin", "_b.bin"), ("_dir/a", "_dir/in/b"), ("_dir",), (".json", "_dir/a"), ()]
INDEX = st.integers(0, len(KEYS) - 1)
SHAPE = st.sampled_from(SHAPES)
CONTENT = st.integers(0, 3)
STEPS = st.integers(0, 40)
Files = dict[str, bytes]


def make_files(index: int, shape: tuple[str, ...], content: int) -> Files:
    """Files of which each says to which artifact it belongs, so that a mixture shows.

    No two are equal, since the near cache rightly serves damaged content out of an equal file.
    """
    return {name: b"%d of %s in %s, %d" % (content, name.encode(), repr(shape).encode(), index) for name in shape}


class StoreMachine(RuleBasedStateMachine):
    """Commits, discards and damages artifacts, dies at any moment, and compares with a dict.

    The dict says for each artifact what may be served: exactly one thing (None: a miss) after what ended well, more
    after a crash, until a reading has shown which of them it is.
    """

    store: ArtifactStore
    folder: str
    near: str
    allowed: list[list[Files | None]]

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.near = f"{self.folder}/near"
        self.allowed = [[None] for _ in KEYS]
        self.restart()

    def open_store(self) -> ArtifactStore:
        """Open the store as a process that has just started."""
        raise NotImplementedError

    def restart(self) -> None:
        self.store = self.open_store()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.store.objects.remove(self.store.objects.list())
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- what happens ------------------------------------------------------------------------------------------------
    @rule(index=INDEX, shape=SHAPE, content=CONTENT, replace=st.booleans())
    def commit(self, index: int, shape: tuple[str, ...], content: int, replace: bool) -> None:
        self._commit(index, make_files(index, shape, content), replace)
        self._served(index, self._after_commit(index, make_files(index, shape, content), replace))

    @rule(index=INDEX, shape=SHAPE, content=CONTENT, replace=st.booleans(), steps=STEPS)
    def crash_in_commit(self, index: int, shape: tuple[str, ...], content: int, replace: bool, steps: int) -> None:
        files = make_files(index, shape, content)
        after = self._after_commit(index, files, replace)
        self._maybe_crash(index, steps, after, lambda: self._commit(index, files, replace))

    @rule(index=INDEX)
    def discard(self, index: int) -> None:
        self.store.discard(STEMS[index])
        self._served(index, [None])

    @rule(index=INDEX, steps=STEPS)
    def crash_in_discard(self, index: int, steps: int) -> None:
        self._maybe_crash(index, steps, [None], lambda: self.store.discard(STEMS[index]))

    @rule(index=INDEX, steps=STEPS)
    def crash_in_checkout(self, index: int, steps: int) -> None:
        self._maybe_crash(index, steps, self.allowed[index], lambda: self._read(index), keeps=True)

    @rule(index=INDEX, which=st.integers(0, 5), cut=st.integers(0, 10))
    def damage(self, index: int, which: int, cut: int) -> None:
        manifest = self.store.manifest(STEMS[index])
        if manifest is not None and self._read(index) is not None:
            names = [manifest_name(STEMS[index]), *(STEMS[index] + entry.name for entry in manifest.files)]
            name = names[which % len(names)]
            data = self.store.objects.read(name)
            if not data:
                return  # all empty files are equal
            changed = data[:cut] if data[:cut] != data else data + b"x"
            self.store.objects.write(name, changed)
            self.allowed[index] = [None]
            # Downloads from before the damage are still right, so it shows only where there are none.
            self.near = tempfile.mkdtemp(dir=self.folder)
            self.restart()

    @rule()
    def clean(self) -> None:
        self.store.clean("run")
        root = self.store.objects.local_root
        if root is not None and root.exists():
            assert not [path for path in root.iterdir() if path.name.startswith(".work-")]

    # --- what must hold ----------------------------------------------------------------------------------------------
    @invariant()
    def what_is_served_was_committed(self) -> None:
        for index, allowed in enumerate(self.allowed):
            served = self._read(index)
            assert served in allowed
            self.allowed[index] = [served]

    @invariant()
    def presence_and_checkout_agree(self) -> None:
        padding = [f"exp_x_train_model.{i:012x}" for i in range(20)]
        served = {stem for index, stem in enumerate(STEMS) if self._read(index) is not None}
        listed = self.store.present([*STEMS, *padding])
        asked = self.store.present(STEMS)
        # Presence is checked on reading: it may name a damaged artifact, but never leaves a whole one out.
        assert served <= listed <= set(STEMS)
        assert served <= asked <= set(STEMS)

    # --- helpers -----------------------------------------------------------------------------------------------------
    def _commit(self, index: int, files: Files, replace: bool) -> None:
        key = KEYS[index]
        manifest = Manifest(
            key=key, stem=STEMS[index], prefix="exp", stage="train", output="model", params_hash=key[:32], run="run"
        )
        with self.store.workspace(STEMS[index], run="run") as workspace:
            for suffix, data in files.items():
                path = Path(f"{workspace.folder}/{workspace.basename}{suffix}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self.store.commit(workspace, manifest, replace_whole=replace)

    def _after_commit(self, index: int, files: Files, replace: bool) -> list[Files | None]:
        (now,) = self.allowed[index]
        new = files or {".empty": b""}
        keeps = not replace and now is not None and set(now) == set(new)
        return [now if keeps else new]

    def _served(self, index: int, allowed: list[Files | None]) -> None:
        self.allowed[index] = allowed

    def _maybe_crash(
        self, index: int, steps: int, after: list[Files | None], action: Callable[[], Any], *, keeps: bool = False
    ) -> None:
        before = self.allowed[index]
        with CRASH.after(steps):
            action()
        if not CRASH.happened:
            self.allowed[index] = after
            return
        # What was being written is there whole, or what was there before, or there is a miss; reading loses nothing.
        self.allowed[index] = before if keeps else [*before, *after, None]
        self.restart()

    def _read(self, index: int) -> Files | None:
        try:
            checkout = self.store.checkout(STEMS[index], KEYS[index])
        except ArtifactMissingError:
            return None
        start = f"{checkout.folder}/{checkout.basename}"
        files = {entry.name: Path(start + entry.name).read_bytes() for entry in checkout.manifest.files}
        for folder in {name.partition("/")[0] for name in files if "/" in name}:  # as a loader that lists would see it
            seen = {str(path)[len(start) :] for path in Path(start + folder).rglob("*") if path.is_file()}
            assert seen == {name for name in files if name.startswith(folder + "/")}
        return files


class FolderStoreMachine(StoreMachine):
    """In a folder; each file operation may be the last."""

    def open_store(self) -> ArtifactStore:
        return ArtifactStore.open(f"{self.folder}/cache")


class MemoryStoreMachine(StoreMachine):
    """In an object store; each request, and each file operation of the near cache, may be the last."""

    @initialize()
    def start(self) -> None:
        near.FETCHES_AT_ONCE = 1  # in threads, another operation would be the last each time
        super().start()

    def open_store(self) -> ArtifactStore:
        objects = CrashingObjects(open_objects(f"memory://{Path(self.folder).name}"))
        return ArtifactStore(objects, near=Path(self.near))  # type: ignore[arg-type]


class S3StoreMachine(StoreMachine):
    """In a bucket of a real server, where the same things cost much more time."""

    client = "fsspec"

    def open_store(self) -> ArtifactStore:
        objects = CrashingObjects(open_objects(f"s3://cache/{Path(self.folder).name}", client=self.client))
        return ArtifactStore(objects, near=Path(self.near))  # type: ignore[arg-type]


class FastS3StoreMachine(S3StoreMachine):
    """The same through obstore."""

    client = "obstore"


SETTINGS = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestFolderStore = FolderStoreMachine.TestCase
TestFolderStore.settings = SETTINGS
TestMemoryStore = MemoryStoreMachine.TestCase
TestMemoryStore.settings = settings(SETTINGS, max_examples=40)
TestS3Store = pytest.mark.usefixtures("s3")(S3StoreMachine.TestCase)
TestS3Store.settings = settings(SETTINGS, max_examples=5, stateful_step_count=12)
TestFastS3Store = pytest.mark.usefixtures("s3")(FastS3StoreMachine.TestCase)
TestFastS3Store.settings = settings(SETTINGS, max_examples=15, stateful_step_count=20)
