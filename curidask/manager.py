"""The artifact manager: a session, with its records, its graph, its store and its runner."""

from __future__ import annotations

import atexit
import sys
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NoReturn, Self

from curidask import clusters, history, param_registry
from curidask.cache_use import CacheUse
from curidask.config import Config, load_config
from curidask.displays import Displays
from curidask.errors import ArtifactMissingError, CacheError, ConfigurationError, RunFailedError
from curidask.executors.base import Executor
from curidask.executors.describe import describe_params, user_name
from curidask.executors.environment import Environment
from curidask.executors.inprocess import InProcessExecutor
from curidask.executors.project_files import ProjectFiles
from curidask.executors.stored import artifact_info
from curidask.executors.surroundings import NOTHING
from curidask.executors.talk import Overheard
from curidask.files import plain_path
from curidask.graph import ArtifactRef, Graph
from curidask.listening import Listener, Printer
from curidask.loading import project_modules
from curidask.logs import RunLog, log_file
from curidask.planner import Action, Force, Plan
from curidask.publishing import Publisher
from curidask.record import Record
from curidask.reported import ReportCollector
from curidask.run_status import StatusKeeper
from curidask.runner import Policy, Runner
from curidask.stage_options import resources_problem
from curidask.staging import StageSpec, check_name
from curidask.store.base import Store
from curidask.store.claims import Claims
from curidask.store.local import is_refused
from curidask.store.opening import open_store
from curidask.tracing import Tracer
from curidask.waiting import Waiting

DESCRIBED_AT_MOST = 500
"""Reused artifacts whose manifests are read for the run record."""


class MapStop(BaseException):
    """Ends the tracing of an experiment whose next step needs a value that would have to be computed."""

    def __init__(self, artifact: str) -> None:
        super().__init__(artifact)
        self.artifact = artifact


class ArtifactManager(Displays):
    """A session that keeps track of records and artifacts.

    One made by hand, in a notebook or a script, is live: each stage runs when it is called. The one that an
    experiment's ``run(param_sets, manager)`` gets collects the stages and executes them together.

    Parameters
    ----------
    experiment_name : str
        Names the run; also the beginning of its artifacts' names unless `prefix` is given.
    cache : str, optional
        Folder or URL of the artifact store, or several with commas between them, the fastest first.
    cache_mode : str, optional
        ``rw``, ``ro`` or ``off`` for all tiers of the cache, or one for each with commas between them.
    prefix : str, optional
        Beginning of the artifacts' names, to share them between experiments.
    parallel : int, optional
        Worker processes; 0 for this process. A live session uses this process by default, a run as many processes as
        there are cores or parameter sets.
    overwrite : bool
        Recompute everything.
    overwrite_stages : sequence of str
        Recompute these stages and what depends on them.
    dry : bool
        Write nothing at all.
    dry_cache : bool
        Read the cache, never write it.
    no_dag : bool
        Let each stage decide by its own cache alone.
    lazy, ignore_lazy : bool
        Make every output lazy, or none.
    fail_fast : bool
        Stop everything at the first failure. By default what does not depend on it finishes.
    keep_going_aggregates : bool
        Let an aggregate of which some records have failed run over the others, with a warning. It is another artifact
        then than one over all. By default it does not run.
    resources : mapping of str to number, optional
        What each local worker process has of what stages may ask for, such as ``{"GPU": 1}``; the configuration's by
        default.
    config : Config, optional
        Of the project around the current folder by default.
    live : bool
        Whether stages run when they are called.
    map_only : bool
        Execute nothing; a read that would have to raises `MapStop`.
    listeners : sequence of Listener
        Who is told what happens.
    n_sets : int, optional
        How many parameter sets there will be, to start no more processes than that.
    cluster : str, distributed.Client or distributed.deploy.Cluster, optional
        Where the workers are, instead of `parallel`: a name of the configuration, an address such as
        ``tls://host:8786``, or a client or cluster of yours, which is used and not closed. A live session with a
        cluster returns from a stage at once and waits when a value is read.
    insecure : bool
        Accept connections without TLS to other machines.
    restarts : int
        How often to start or find the cluster again and go on, when its scheduler is lost.

    Attributes
    ----------
    records : list of Record
    reference : str
        Names this run: experiment, number, time.
    store : Store
    graph : Graph
    full_store : Path or None
        The folder that gets a copy of all that the run uses, for a store-full run.
    """

    def __init__(
        self,
        experiment_name: str = "session",
        *,
        cache: str | None = None,
        cache_mode: str | None = None,
        prefix: str | None = None,
        parallel: int | None = None,
        overwrite: bool = False,
        overwrite_stages: Sequence[str] = (),
        dry: bool = False,
        dry_cache: bool = False,
        no_dag: bool = False,
        lazy: bool = False,
        ignore_lazy: bool = False,
        fail_fast: bool = False,
        keep_going_aggregates: bool = False,
        resources: Mapping[str, float] | None = None,
        config: Config | None = None,
        live: bool = True,
        map_only: bool = False,
        listeners: Sequence[Listener] = (),
        n_sets: int | None = None,
        cluster: Any = None,
        insecure: bool = False,
        restarts: int = 0,
    ) -> None:
        check_name(experiment_name, "the experiment's name")
        check_name(prefix or experiment_name, "--prefix")
        self.config = config or load_config()
        self.experiment_name = experiment_name
        self.prefix = prefix or experiment_name
        self.records: list[Record] = []
        self.full_store: Path | None = None
        self.graph = Graph()
        self.live = live
        self.map_only = map_only
        self.dry = dry or map_only
        settings = self.config.store_settings(cache_mode)
        self.store: Store = open_store(self.config.cache_urls(cache), settings, writable=not (self.dry or dry_cache))
        self.writable = self.store.writable
        self._notices: list[str] = []
        self.n_sets = n_sets
        self.resources = _checked_resources(self.config.resources if resources is None else resources)
        self.restarts = restarts
        self._open_cluster = self._choose_cluster(cluster, parallel, insecure)
        self.parallel = self._choose_parallel(parallel)
        runs = self.config.path(self.config.runs)
        number, self.reference = history.new_reference(experiment_name, runs)
        self._session = uuid.uuid4().hex
        self._work = f"{self.reference}-{self._session[:12]}"
        self.run_record = history.RunRecord(experiment_name, number, self.reference, self.store.url, sys.argv)
        self.run_record.prefix = self.prefix
        self.claims = self._claims()
        self.reported = ReportCollector(None if self.dry else runs / self.reference)
        self._use = CacheUse(
            self.store,
            reference=self.reference,
            experiment=experiment_name,
            project=str(self.config.root),
            session=self._session,
            work=self._work,
            told=self.run_record.warned,
            late=live and self.store.local_root is not None,
        )
        told: list[Listener] = [self.run_record, self.reported, *listeners, *([RunLog()] if live else [])]
        self._status = None if self.dry else StatusKeeper(self.run_record, self.run_folder, self._save_so_far)
        if self._status is not None:
            told.append(self._status)
        if self.writable:
            told.append(Publisher(self.store, self.config.root, tuple(told)))
        self.runner = Runner(
            self.graph,
            self.store,
            Policy(
                Force(overwrite, frozenset(overwrite_stages)),
                not no_dag,
                self.writable,
                live,
                fail_fast,
                keep_going_aggregates,
            ),
            self.prefix,
            self._make_executor,
            told,
            None if self.claims is None else Waiting(self.store, self.claims),
            before_look=self._use.before_look,
        )
        self.runner.tell_once(self._notices)
        self._tracer = Tracer(
            self.graph,
            self.prefix,
            lazy=True if lazy else False if ignore_lazy else None,
            share=lambda task: not self.runner.has_failed(task),
            strict_names=not live,
            current=self.runner.current,
        )
        self.runner.reduce = self._tracer.reduce
        self._closed = False
        self._log = ExitStack()
        if live:
            log = self.config.path(self.config.logs) / f"{self.reference}.log"
            self._log.enter_context(
                log_file(None if self.dry else log, self.config.root, above="curidask", when_needed=True)
            )
            atexit.register(_close, weakref.ref(self))

    # --- as a context manager -----------------------------------------------------------------------------------------
    def __reduce__(self) -> NoReturn:
        raise TypeError("an artifact manager is a session and cannot travel; give a stage what it needs of it")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        self.close(status="interrupted" if kind is KeyboardInterrupt else "failed" if kind else "done")

    def close(self, *, status: str = "done") -> None:
        """End the workers and write the run record. The artifacts stay readable.

        With ``status="done"``, what a live session was asked for is finished first.
        """
        if self._closed:
            return
        self._closed = True
        if self.live and status == "done":
            self.runner.wait(range(len(self.graph)))
        self.runner.close(now=status == "interrupted")
        self.store.clean(self._work)
        if self.claims is not None:
            with self._without_cache("its claims were not removed and end by themselves"):
                self.claims.close(self._claimed_stems())
        for record in self.records:
            record.store_tracked_paths()
        self._use.end(self.graph, self.run_record.decisions)
        if self.run_record.decisions:
            self.run_record.status = "failed" if self.runner.failures and status == "done" else status
            self.run_record.ended_at = time.time()
            if self._status is not None:
                try:
                    self.save_run()
                finally:
                    self._status.close(self.run_record.status)
        self._log.close()

    def _save_so_far(self, whole: bool) -> None:
        """Write the run record while the run goes on, at first without its tasks."""
        runs = self.config.path(self.config.runs)
        history.save(self.run_record, self.graph if whole else Graph(), {}, runs)

    @property
    def run_folder(self) -> Path:
        """Where the run record and what was reported lie."""
        return self.config.path(self.config.runs) / self.reference

    def save_run(self) -> Path:
        """Write the run record as it is now, and the parameter sets into the registry; the record's path."""
        self._complete_record()
        runs = self.config.path(self.config.runs)
        sets = [record.params for record in self.records if record.params is not None]
        param_registry.add(runs, self.experiment_name, self.reference, sets)
        return history.save(self.run_record, self.graph, self._param_sets(), runs, self.reported.rows)

    def describe_run(self) -> dict[str, Any]:
        """The run record as it is now, as plain JSON values."""
        self._complete_record()
        return self.run_record.as_dict(self.graph, self._param_sets(), self.reported.rows)

    def _complete_record(self) -> None:
        self.gather_reported()
        self._describe_reused()
        self.run_record.records = [self._record_row(record) for record in self.records]
        log = self.config.path(self.config.logs) / f"{self.reference}.log"
        self.run_record.log = str(log) if log.exists() else ""

    def _record_row(self, record: Record) -> dict[str, Any]:
        return {
            "index": record.index,
            "name": record.name,
            "hash": record.get_hash(),
            "aggregate": record.is_aggregate,
            "inputs": [other.index for other in record.input_records],
            "tasks": list(dict.fromkeys(t for task in record.tasks for t in (task, self.runner.now(task)))),
        }

    def _claimed_stems(self) -> set[str]:
        """What the workers of this run may have claimed."""
        record = self.run_record
        ran = {task for task, (action, _) in record.decisions.items() if action is Action.RUN}
        return {self.graph[task].marker for task in ran.union(record.results)}

    @contextmanager
    def _without_cache(self, what: str) -> Iterator[None]:
        """Go on though the cache cannot be reached: it must not keep a run from being recorded."""
        try:
            yield
        except CacheError as error:
            self.run_record.warned(f"{what}: {error.what}")

    def gather_reported(self) -> list[dict[str, Any]]:
        """What was reported so far, also by the stages that are reused; see `ReportCollector`."""
        tasks = [task for task in self.graph if task.id in self.run_record.decisions]
        with self._without_cache("what reused stages reported was not fetched"):
            for text in self.reported.gather(self.store, tasks):
                self.run_record.warned(text)
        return self.reported.rows

    def check_cache(self) -> None:
        """Look whether results can be stored, before anything is computed.

        Where a shared cache lets this user only read, nothing is stored, and a warning says so.

        Raises
        ------
        CacheError
        """
        if not self.writable:
            return
        self.store.check_writable()
        self.writable = self.runner.policy.writable = self.store.writable
        if not self.writable:
            self.claims = None

    def _describe_reused(self) -> None:
        """Let the run record say what was reused; of many artifacts it keeps the names only (a manifest each)."""
        rows = self.run_record.decisions
        stems = [stem for t in self.graph if t.id in rows and t.id not in self.run_record.results for stem in t.stems]
        wanted = [stem for stem in stems if stem is not None]
        if len(wanted) <= DESCRIBED_AT_MOST:
            with self._without_cache("what was reused is not described"):
                manifests = self.store.manifests(wanted)
                self.run_record.described = {stem: artifact_info(manifest) for stem, manifest in manifests.items()}

    # --- records and stages -------------------------------------------------------------------------------------------
    def add_record(self, record: Record) -> int:
        """List a record; its index."""
        self.records.append(record)
        return len(self.records) - 1

    def apply(self, record: Record, spec: StageSpec, records: Sequence[Record] | None, kwargs: dict[str, Any]) -> None:
        """Trace a stage on a record; in a live session have it executed."""
        if spec.is_aggregate and records is None:
            records = [other for other in self.records if other is not record]
        task = self._tracer.trace(record, spec, records, kwargs)
        if self.live:
            self.runner.demand([task.id])
            if self.parallel == 0:
                try:
                    self.runner.ensure(task.id)
                finally:
                    self._tidy()

    def _tidy(self) -> None:
        """Leave nothing in the cache between the steps of a live session but artifacts."""
        self.store.tidy()
        if self.claims is not None:
            self.claims.tidy()

    def finish(self) -> Plan:
        """Execute all that is traced and wait for it.

        Raises
        ------
        RunFailedError
            When stages failed; the independent ones have finished.
        """
        targets = self.graph.targets()
        plan = self.runner.demand(targets)
        self.runner.wait(range(len(self.graph)))
        self.raise_failures()
        return plan

    def raise_failures(self) -> None:
        """Raise when stages failed."""
        failures = tuple(self.runner.failures.values())
        if failures:
            stages = "stage" if len(failures) == 1 else "stages"
            stopped = ", and the run was stopped then" if self.runner.state.is_stopped else ""
            rest = "what had finished is cached, and the next run does only the rest"
            raise RunFailedError(f"{len(failures)} {stages} failed{stopped}; {rest}.", failures=failures)

    def plan(self) -> Plan:
        """What executing all that is traced would do."""
        return self.runner.plan(self.graph.targets(), from_scratch=True)

    # --- artifacts ----------------------------------------------------------------------------------------------------
    def value(self, ref: ArtifactRef) -> tuple[Any, bool]:
        """The value of an artifact, and whether it may stay in memory."""
        if self.map_only:
            self._stop_before_running(ref)
        lazy = self.graph[ref.task].outputs[ref.index].lazy
        return self.runner.value(ref), not lazy

    def reference_to(self, ref: ArtifactRef) -> Any:
        """The artifact without its value.

        Returns
        -------
        Lazy, ArtifactRef or None
            What loads it; the reference when it is not stored; None when it is not stored and its stage did not run
            since nothing needed it.
        """
        decision = self.run_record.decisions.get(ref.task)
        pruned = decision is not None and decision[0] is Action.PRUNE and not self.is_available(ref)
        if pruned and self.graph[ref.task].stems[ref.index] is None:
            return None
        return self.runner.reference(ref)

    def is_available(self, ref: ArtifactRef) -> bool:
        """Whether reading the artifact would run nothing."""
        return self.runner.is_available(ref.task)

    def stage_file(self, task: int, name: str) -> str | None:
        """A file or folder that a task's stage wrote beside its outputs; executes what it needs.

        Parameters
        ----------
        task : int
        name : str
            See `curidask.store.manifests.beside_name`.

        Returns
        -------
        str or None
            A verified local path; None when the stage wrote none of that name, or nothing is stored.
        """
        if not self.writable:
            return None
        self.runner.ensure(task)
        task = self.runner.now(task)
        stem, key = self.graph[task].files_stored_as
        try:
            found = self.store.checkout(stem, key).tracked_path(self.graph[task].marker + name)
        except ArtifactMissingError:
            return None
        return None if found is None else str(found)

    def get_artifact_path(
        self,
        obj_name: str,
        record: Record,
        subdir: str | None = None,
        prefix: str | None = None,
        stage_name: str | None = None,
        store: bool = False,
    ) -> str:
        """The path of a file that belongs to a record and is no artifact.

        Parameters
        ----------
        obj_name, subdir, prefix, stage_name : str
            See `Record.get_path`.
        record : Record
        store : bool
            The path in the folder of a store-full run.
        """
        if store and self.full_store is not None:
            folder = self.full_store / "files"
        elif self.writable and self.store.local_root is not None:
            folder = self.store.local_root
        else:
            folder = self.reported.folder / "files"
        return plain_path(folder, prefix or self.prefix, record.get_hash(), stage_name, obj_name, subdir)

    def _stop_before_running(self, ref: ArtifactRef) -> None:
        if not self.runner.is_available(ref.task) and self.runner.plan([ref.task]).ids(Action.RUN):
            raise MapStop(ref.name)

    def _claims(self) -> Claims | None:
        """The right to compute is only asked for where others could want to compute the same."""
        lease_seconds, objects = self.config.lease_seconds, self.store.objects
        if not self.writable or not lease_seconds:
            return None
        try:
            if objects.probe_exclusive():
                return Claims(objects, self._session, user_name(), lease_seconds)
        except CacheError as error:
            if not is_refused(error) or objects.local_root is not None:
                raise
            self.store.check_writable()  # a place in the network that this user may only read
            self.writable = self.store.writable
            return None
        self._notices.append(
            f"{objects.url} does not create objects exclusively, so runs at the same time may compute the same twice; "
            "results stay right (`lease_seconds = 0` in the configuration ends this warning)"
        )
        return None

    # --- parts --------------------------------------------------------------------------------------------------------
    def _choose_cluster(self, asked: Any, parallel: int | None, insecure: bool) -> clusters.Opener | None:
        if asked is not None and parallel is not None:
            raise ConfigurationError(
                "Both a cluster and a number of local worker processes are asked for.",
                where="--cluster or --scheduler with --parallel",
                fix="leave one of them out; the size of a cluster is set in the configuration",
            )
        if asked is None and parallel is None and not self.live:
            asked = self.config.default_cluster or None
        if asked is None:
            return None
        config = self.config
        folder = config.path(config.logs) / "clusters"
        return clusters.choose(
            asked, config.cluster, root=config.root, source=config.source, folder=folder, insecure=insecure
        )

    def _choose_parallel(self, asked: int | None) -> int:
        if not self.store.objects.shared:
            if asked or self._open_cluster is not None:
                raise CacheError(
                    f"The cache {self.store.url} lives in one process, so worker processes cannot share it.",
                    fix="use a folder as cache, or run in this process with --parallel 0",
                )
            return 0
        if asked is not None:
            return asked
        if self._open_cluster is not None:
            return -1
        if self.live:
            return 0
        chosen = self.config.parallel
        return -1 if chosen is None else chosen

    def _make_executor(self) -> Executor:
        if self.parallel == 0:
            env = Environment(self.store, self.reference, portable=False, claims=self.claims, work=self._work)
            hears = bool(self.runner.hearers)
            return InProcessExecutor(env, Overheard(self.runner.hear, self.runner.before_print) if hears else NOTHING)
        from curidask.executors.dask import DaskExecutor

        if not any(hearer.prints for hearer in self.runner.hearers):
            self.runner.hearers.append(Printer())
        env = Environment(self.store, self.reference, portable=True, claims=self.claims, work=self._work)
        files = ProjectFiles(self.config.root, self.config.ship)
        if self._open_cluster is not None:
            return DaskExecutor(
                self._open_cluster(),
                env,
                self._modules,
                files=files,
                reopen=self._open_cluster,
                restarts=self.restarts,
                hear=self.runner.hear,
            )
        n_workers = self.parallel
        if n_workers < 0:
            n_records = self.n_sets if self.n_sets is not None else len(self.records)
            n_workers = max(1, min(clusters.available_cores(), n_records))
        local = clusters.local(n_workers, {"resources": dict(self.resources)})
        return DaskExecutor(local, env, self._modules, files=files, hear=self.runner.hear)

    def _modules(self) -> list[ModuleType]:
        return project_modules(self.config.root)

    def _param_sets(self) -> dict[str, Any]:
        sets = {record.get_hash(): record for record in self.records if record.params is not None}
        return {hash_: {"name": r.name, "values": describe_params(r.params)} for hash_, r in sets.items()}


def _checked_resources(resources: Mapping[str, float]) -> Mapping[str, float]:
    problem = resources_problem(resources)
    if problem:
        raise ConfigurationError(f"`resources` is {resources!r}.", where="ArtifactManager", fix=problem)
    return resources


def _close(reference: weakref.ref[ArtifactManager]) -> None:
    manager = reference()
    if manager is not None:
        manager.close()


def check_stages(names: Iterable[str], graph: Graph) -> list[str]:
    """Those of the names that are no stage of the graph."""
    there = {task.spec.name for task in graph}
    return [name for name in names if name not in there]
