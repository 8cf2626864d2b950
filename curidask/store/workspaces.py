"""The working folders of a store: where they lie, and removing those that killed workers left."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress

from curidask.store.manifests import safe_part
from curidask.store.payload import Workspace


class Workspaces:
    """Makes working folders.

    Parameters
    ----------
    folder : str or None
        That of a local store, with a slash at its end, so that a commit is a rename on the same disk. None for others:
        they lie in the system's folder for temporary files.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._spare: dict[str, list[str]] = {}

    def new(self, stem: str, run: str) -> Workspace:
        """A private folder, not made yet, for what a run will commit."""
        mode = 0o700 if self._folder is None else 0o777
        return Workspace(stem, f"{self._prefix(run)}{os.urandom(4).hex()}", mode, self._spare.setdefault(run, []))

    def tidy(self) -> None:
        """Remove the empty folders that this process keeps for its next artifacts."""
        for folders in self._spare.values():
            while folders:
                shutil.rmtree(folders.pop(), ignore_errors=True)

    def clean(self, run: str) -> None:
        """Remove what killed workers of a run left on this machine."""
        self.tidy()
        folder, _, prefix = self._prefix(run).rpartition("/")
        with suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(folder):
                if name[:-8] == prefix:
                    shutil.rmtree(f"{folder}/{name}", ignore_errors=True)

    def _prefix(self, run: str) -> str:
        """How the paths of a run's working folders begin; eight random digits follow."""
        name = safe_part(run, 60)
        if self._folder is not None:
            return f"{self._folder}.work-{name}-"
        return f"{tempfile.gettempdir()}/curidask-work-{name}-"
