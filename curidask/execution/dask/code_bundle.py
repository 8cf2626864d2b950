"""The code of a run as it goes to dask: once, and again when stages have come that it does not hold."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Collection, Sequence
from typing import Any

from dask._task_spec import DataNode, TaskRef

from curidask.clusters.preflight import Admission
from curidask.core.spec import StageSpec
from curidask.execution.base import Job
from curidask.execution.dask import code_shipping
from curidask.execution.dask.chains import hex32
from curidask.execution.environment import Environment
from curidask.execution.project.project_files import HERE, Place, ProjectFiles
from curidask.execution.project.script import Watch

BLOBS = ("curidask_batch-", "curidask_code-", "curidask_project-")
"""How the keys of bytes begin."""


def is_blob(key: Any) -> bool:
    """Whether a key of dask's is that of bytes rather than of jobs."""
    return str(key).startswith(BLOBS)


class Cargo:
    """Stages and the project's code, by the keys under which dask knows them.

    Parameters
    ----------
    run : str
        Part of the keys: dask never takes in a key that it knows.
    env : Environment
    files : ProjectFiles
    admission : Admission or None
        None for workers that the driver started itself.

    Attributes
    ----------
    code_id : str
        Digest of the stages that were sent last.
    places : dict of int to int
        The places of the stages in the code, by ``id(spec)``.
    """

    def __init__(self, run: str, env: Environment, files: ProjectFiles, admission: Admission | None) -> None:
        self.code_id = ""
        self.places: dict[int, int] = {}
        self._run = run
        self._env = env
        self._files = files
        self._place = HERE if admission is None else Place(admission.sees_project, cache_id=admission.cache_id)
        self._specs: list[StageSpec] = []
        self._n_sent = 0
        self._names: set[str] = set()
        self._watch = Watch()
        self._sent: set[str] = set()
        self._project_key = ""

    def code_key(self, code_id: str) -> str:
        """The key of stages that were sent."""
        return f"curidask_code-{hex32(self._run, code_id)}"

    @property
    def project_arg(self) -> Any:
        """The project's code as an argument of a task."""
        return TaskRef(self._project_key)

    def assign(self, jobs: Sequence[Job]) -> None:
        """Give the stages of these jobs places."""
        for job in jobs:
            if id(job.spec) not in self.places:
                self.places[id(job.spec)] = len(self._specs)
                self._specs.append(job.spec)

    def add(self, names: Collection[str], graph: dict[str, Any]) -> None:
        """Let the graph have the code, with these names of the script, if it was not sent as it is now."""
        self._names.update(names)
        if not self._watch.has_changed(self._specs, self._names) and self._n_sent == len(self._specs):
            return
        project = pickle.dumps(self._files.code(with_files=not self._place.sees_project))
        self._project_key = f"curidask_project-{hex32(self._run, hashlib.sha256(project).hexdigest())}"
        self._put(self._project_key, project, graph)
        self.code_id, data = code_shipping.pack_code(self._specs, self._env, self._place, self._names)
        self._put(self.code_key(self.code_id), data, graph)
        self._n_sent = len(self._specs)

    def _put(self, key: str, data: bytes, graph: dict[str, Any]) -> None:
        if key not in self._sent:
            self._sent.add(key)
            graph[key] = DataNode(key, data)
