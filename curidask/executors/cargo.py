"""The code of a run as it goes to dask: once, and again when stages have come that it does not hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from dask._task_spec import DataNode, TaskRef

from curidask.clusters.checks import Admission
from curidask.executors import shipping
from curidask.executors.base import Job
from curidask.executors.chains import hex32
from curidask.executors.environment import Environment
from curidask.executors.project_files import Outfit, ProjectFiles
from curidask.stage_spec import StageSpec

BLOBS = ("curidask_batch-", "curidask_code-", "curidask_files-")
"""How the keys of bytes begin."""


def is_blob(key: Any) -> bool:
    """Whether a key of dask's is that of bytes rather than of jobs."""
    return str(key).startswith(BLOBS)


class Cargo:
    """Code and files, by the keys under which dask knows them.

    Parameters
    ----------
    run : str
        Part of the keys: dask never takes in a key that it knows.
    env : Environment
    modules : callable
        Gives the project's modules.
    files : ProjectFiles
    admission : Admission or None
        None for workers that have all files.

    Attributes
    ----------
    code_id : str
        Digest of the code that was sent last.
    places : dict of int to int
        The places of the stages in it, by ``id(spec)``.
    """

    def __init__(
        self,
        run: str,
        env: Environment,
        modules: Callable[[], Sequence[ModuleType]],
        files: ProjectFiles,
        admission: Admission | None,
    ) -> None:
        self.code_id = ""
        self.places: dict[int, int] = {}
        self._run = run
        self._env = env
        self._modules = modules
        self._files = files
        self._admission = admission
        self._specs: list[StageSpec] = []
        self._sent: set[str] = set()
        self._files_key = ""

    def code_key(self, code_id: str) -> str:
        """The key of a code that was sent."""
        return f"curidask_code-{hex32(self._run, code_id)}"

    @property
    def files_arg(self) -> Any:
        """The files as an argument of a task."""
        return TaskRef(self._files_key) if self._files_key else b""

    def add(self, jobs: Sequence[Job], graph: dict[str, Any]) -> None:
        """Let the graph have the code of these jobs, if it was not sent."""
        unknown = {id(job.spec): job.spec for job in jobs if id(job.spec) not in self.places}
        if not unknown:
            return
        self._specs.extend(unknown.values())
        self.places = {id(spec): place for place, spec in enumerate(self._specs)}
        modules = self._modules()
        outfit = self._outfit(modules, graph)
        self.code_id, data = shipping.pack_code(self._specs, self._env, modules, outfit)
        self._put(self.code_key(self.code_id), data, graph)

    def _outfit(self, modules: Sequence[ModuleType], graph: dict[str, Any]) -> Outfit | None:
        found = self._admission
        if found is None:
            return None
        root = str(self._files.root)
        if found.sees_project:
            return Outfit(root, True, found.cache_id, {})
        data = self._files.pack(modules)
        if data:
            self._files_key = f"curidask_files-{hex32(self._run, hashlib.sha256(data).hexdigest())}"
            self._put(self._files_key, data, graph)
        return Outfit(root, False, found.cache_id, self._files.sources(modules))

    def _put(self, key: str, data: bytes, graph: dict[str, Any]) -> None:
        if key not in self._sent:
            self._sent.add(key)
            graph[key] = DataNode(key, data)
