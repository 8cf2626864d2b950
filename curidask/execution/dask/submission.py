"""What goes to dask: chained futures, one graph message a batch, code and parameters as opaque bytes.

For each batch the graph holds the code (once a run), the batch's jobs as bytes, and one task a chain. A chain's task
gets the results of the chains it follows; where those are stored it needs only to know that they ended well. A chain
that holds values has a second, tiny task that gives its outcomes alone, so that the driver never fetches the values.
"""

from __future__ import annotations

import hashlib
import pickle
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dask._task_spec import DataNode, List, Task, TaskRef

from curidask.clusters.preflight import Admission
from curidask.core.spec import StageSpec
from curidask.execution.base import Environment, Job
from curidask.execution.dask import code_shipping
from curidask.execution.dask.chains import Chain, InFlight, annotated, hex32, linear_chains, outcome_key
from curidask.execution.dask.connection import ClusterConnection
from curidask.execution.dask.worker_tasks import outcomes_of, run_shipped
from curidask.execution.project.project_files import HERE, Place, ProjectFiles
from curidask.execution.project.script import Watch

# --- the code of a run as it goes to dask ----------------------------------------------------------------------------
# Once, and again when stages have come that it does not hold.

BLOBS = ("curidask_batch-", "curidask_code-", "curidask_project-")
"""How the keys of bytes begin."""


def is_blob(key: Any) -> bool:
    """Whether a key of dask's is that of bytes rather than of jobs."""
    return str(key).startswith(BLOBS)


class CodeBundle:
    """Stages and the project's code, by the keys under which dask knows them.

    Parameters
    ----------
    run : str
        Part of the keys: dask never takes in a key that it knows.
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


# --- submission ------------------------------------------------------------------------------------------------------
FUSE_FROM = 32
"""Chains a worker, in one batch, from which on a chain's jobs go to dask as one task."""


class Sender:
    """Sends jobs to a scheduler, and sends chains again.

    Parameters
    ----------
    run : str
        Part of the keys: dask never takes in a key that it knows.
    under_way : InFlight
        Gets what was sent.
    listen : callable
        Given each chain that was sent.

    Attributes
    ----------
    is_lost : bool
        Whether the scheduler turned out to be gone when something was to be sent.
    """

    def __init__(
        self,
        link: ClusterConnection,
        run: str,
        env: Environment,
        files: ProjectFiles,
        under_way: InFlight,
        listen: Callable[[Chain], None],
    ) -> None:
        self.is_lost = False
        self._link = link
        self._run = run
        self._env = replace(env, session=run)
        self._files = files
        self._under_way = under_way
        self._listen = listen
        self._attempts: dict[int, int] = {}
        self.load_cargo()

    def load_cargo(self) -> None:
        """Let the code go along with the next jobs, under keys that dask does not know."""
        self._cargo = CodeBundle(uuid.uuid4().hex, self._env, self._files, self._link.admission)

    def send(self, jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> None:
        """Send a batch as one graph."""
        graph: dict[str, Any] = {}
        self._cargo.assign(jobs)
        packed, names = code_shipping.pack_jobs(jobs, after, self._cargo.places)
        self._cargo.add(names, graph)
        batch_key = f"curidask_batch-{uuid.uuid4().hex}"
        graph[batch_key] = DataNode(batch_key, packed)
        places = {job.id: place for place, job in enumerate(jobs)}
        chains = []
        for chained in self._split(jobs, after):
            own = {job.id for job in chained}
            before = [t for job in chained for t in after.get(job.id, ()) if t not in own]
            at = [places[job.id] for job in chained]
            code = TaskRef(self._cargo.code_key(self._cargo.code_id))
            project = self._cargo.project_arg
            chain = Chain(self._new_key(chained), chained, batch_key, self._cargo.code_id, code, project, at, before)
            chains.append(chain)
        self._under_way.add(batch_key, chains)
        self._send(chains, graph)

    def send_again(self, chains: Sequence[Chain]) -> None:
        """Send chains under new keys."""
        for chain in chains:
            chain.key = self._new_key(chain.jobs)
        if chains:
            self._send(chains, {})

    def _send(self, chains: Sequence[Chain], graph: dict[str, Any]) -> None:
        blobs = list(graph)
        for chain in chains:
            self._add_to(graph, chain)
        keys = list(graph)
        try:
            futures = dict(zip(keys, self._link.client.get(annotated(graph, chains), keys, sync=False), strict=True))
        except Exception:
            if self._link.is_up:
                raise
            self.is_lost = True
            return
        self._under_way.hold_bytes({key: futures[key] for key in blobs})
        for chain in chains:
            chain.result = futures[chain.key]
            chain.heard = futures[outcome_key(chain.key)] if chain.holds_values else chain.result
            self._listen(chain)

    def _add_to(self, graph: dict[str, Any], chain: Chain) -> None:
        # What has ended and is stored needs no reference any more; a key that is let go must not be named.
        known = self._under_way.chains
        before = dict.fromkeys(known[task].key for task in chain.before if task in known)
        graph[chain.key] = Task(
            chain.key,
            run_shipped,
            chain.code_id,
            chain.code,
            chain.project,
            chain.batch,
            TaskRef(chain.batch),
            chain.places,
            List(*map(TaskRef, before)),
        )
        if chain.holds_values:
            graph[outcome_key(chain.key)] = Task(outcome_key(chain.key), outcomes_of, TaskRef(chain.key))

    def _split(self, jobs: Sequence[Job], after: Mapping[int, Sequence[int]]) -> list[list[Job]]:
        """The jobs as chains, each to be one dask task.

        A dask task costs more than a short stage. With many records in a batch, a record's jobs that can only run one
        after the other go together; with few, each goes alone, so that each is heard of when it ends.
        """
        chains = linear_chains(jobs, after)
        if len(chains) < FUSE_FROM * self._link.n_workers:
            return [[job] for job in jobs]
        return chains

    def _new_key(self, jobs: Sequence[Job]) -> str:
        # A key that dask knows already is never computed again, so run and attempt are part of it; dask groups keys by
        # what stands before the 32 digits, so the stages' names come first.
        for job in jobs:
            self._attempts[job.id] = self._attempts.get(job.id, 0) + 1
        last = jobs[-1]
        name = "+".join(job.spec.name for job in jobs)
        return f"{name}-{hex32(self._run, last.key, str(last.id), str(self._attempts[last.id]))}"
