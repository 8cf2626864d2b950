"""The artifact manager: a session, with its records, its graph, its store and its runner."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from curidask.core.graph import Graph, RecordInfo
from curidask.core.keywords import NearNames, keywords
from curidask.core.planner import ALL, Force, Plan, Policy
from curidask.core.spec import StageSpec, check_name
from curidask.errors import BoundToSessionError
from curidask.execution.base import Environment, Executor, ManagerFacts
from curidask.execution.listener import Listener
from curidask.execution.override_files import GivenFiles
from curidask.execution.tracebacks import levels_to_user
from curidask.params import HashesInUse
from curidask.record import Record
from curidask.runs import record as run_records
from curidask.runs.lineage_recorder import LineageKeeper
from curidask.runs.recorder import RunRecorder
from curidask.runs.reportables import ReportCollector
from curidask.runs.status import StatusWriter, broken_off
from curidask.session import export as run_export
from curidask.session.at_exit import Ending, close_abandoned, close_at_exit, close_later
from curidask.session.cache import RunCache
from curidask.session.claim_watcher import Waiting
from curidask.session.config import Config, load_config
from curidask.session.determinism import DeterminismCheck
from curidask.session.displays import Displays
from curidask.session.events import EventBus
from curidask.session.executor_factory import ExecutorFactory
from curidask.session.explain.code_store import CodeChanges, CodeKeeper
from curidask.session.facts import SessionFacts, no_such_stage
from curidask.session.logging import RunLog, log_file
from curidask.session.publisher import Publisher
from curidask.session.resolver import ArtifactResolver
from curidask.session.runner import Runner
from curidask.session.stage_code import StageCodes
from curidask.session.tracer import Tracer
from curidask.staging import DEFINED
from curidask.store.base import Store, without_cache
from curidask.store.claims import Claims
from curidask.store.factory import open_store


class ArtifactManager(SessionFacts, Displays, NearNames):
    """A session that keeps track of records and artifacts.

    One made by hand, in a notebook or a script, is live: each stage runs when it is called. The one that an
    experiment's ``run(param_sets, manager)`` gets collects the stages and executes them together.

    Parameters
    ----------
    experiment_name : str
        Names the run; also the beginning of its artifacts' names unless `prefix` is given.
    cache : str or Path, optional
        Folder or URL of the artifact store, or several with commas between them, the fastest first. (`cache_path` is a
        synonym.)
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
    store_full : bool
        Put all that the session used and made into a folder of its own when it is closed, see
        `curidask.session.export`.
    notes : str, optional
        What to keep with the run, its first line as title.
    runs_path, logs_path, reports_path, notebooks_path, report_css_path : str, optional
        Instead of what the configuration says.
    suppress_live_log : bool
        Write no log file of a live session.
    live_log_debug : bool
        Put DEBUG messages into it too.
    disable_non_cf_loggers : bool
        False puts into it what all packages log, not only curidask and the project's own files.
    parallel_mode : bool
        Keep no record of the run and put its parameter sets into no registry: it only fills the cache.
    run_line : str, optional
        The command that the run record names; by default that of this process.
    accept_code : sequence of str
        Stages of which the results that are cached are taken as made by today's code; ``"all"`` for all of them. See
        ``--accept-code`` in ``docs/cli.md``.
    check_determinism : bool
        Call every stage twice on its inputs and tell what comes out another time, and which stages change their inputs;
        see ``--check-determinism`` in ``docs/cli.md``.
    parallel_lock, manager_cache_path, status_override
        Without effect: processes may use one cache at the same time without a lock, what is kept of runs is below
        `runs_path`, and `live` says what kind of session it is.

    Attributes
    ----------
    records : list of Record
    reference : str
        Names this run: experiment, number, time.
    store : Store
    graph : Graph
    reader : ArtifactResolver
        Gives what states refer to.
    full_store : Path or None
        The folder that gets a copy of all that the run uses, for a store-full run.
    is_recorded : bool
        Whether the run has a record.
    codes : StageCodes
        The code of the stages that were called.
    determinism : DeterminismCheck or None
        What was found, where stages are called twice.
    """

    @keywords(cache_path="cache", overwrite_stage="overwrite_stages")
    def __init__(
        self,
        experiment_name: str | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
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
        store_full: bool = False,
        notes: str | None = None,
        runs_path: str | Path | None = None,
        logs_path: str | Path | None = None,
        reports_path: str | Path | None = None,
        notebooks_path: str | Path | None = None,
        report_css_path: str | Path | None = None,
        suppress_live_log: bool = False,
        live_log_debug: bool = False,
        disable_non_cf_loggers: bool = True,
        parallel_mode: bool = False,
        run_line: str | None = None,
        accept_code: Sequence[str] = (),
        check_determinism: bool = False,
        parallel_lock: Any = None,
        manager_cache_path: str | Path | None = None,
        status_override: str | None = None,
    ) -> None:
        experiment_name = "session" if experiment_name is None else experiment_name
        check_name(experiment_name, "the experiment's name")
        check_name(prefix or experiment_name, "--prefix")
        self.config = (config or load_config()).with_paths(
            runs=runs_path,
            logs=logs_path,
            reports=reports_path,
            notebooks=notebooks_path,
            report_css=report_css_path,
        )
        self.experiment_name = experiment_name
        self.prefix = prefix or experiment_name
        self.records: list[Record] = []
        self.hashes_in_use = HashesInUse()
        self.full_store: Path | None = None
        self.graph = Graph()
        self._code_keeper: CodeKeeper | None = None
        self._lineage_keeper: LineageKeeper | None = None
        self.determinism = DeterminismCheck(lambda text: self.runner.bus.warned(text)) if check_determinism else None
        self.live = live
        self.dry = dry or map_only
        self.dry_cache = dry_cache
        self.is_recorded = not (self.dry or parallel_mode)
        settings = self.config.store_settings(cache_mode)
        places = None if cache is None else os.fspath(cache)
        self.store: Store = open_store(self.config.cache_urls(places), settings, writable=not (self.dry or dry_cache))
        self._n_sets = n_sets
        self._placement = ExecutorFactory(
            self.config,
            self.store,
            live=live,
            cluster=cluster,
            parallel=parallel,
            insecure=insecure,
            resources=resources,
            restarts=restarts,
        )
        runs = self.config.path(self.config.runs)
        number, self.reference = run_records.new_reference(experiment_name, runs, reserve=self.is_recorded)
        command = shlex.split(run_line) if run_line else sys.argv
        self.run_record = run_records.RunRecord(experiment_name, number, self.reference, self.store.url, command)
        self.run_record.prefix = self.prefix
        self.run_record.overwrites = ["*"] if overwrite else sorted(overwrite_stages)
        self.notes = notes
        if store_full and not self.dry:
            self.full_store = self.run_folder
        self._cache = RunCache(
            self.store,
            self.run_record,
            project=self.config.root,
            lease_seconds=self.config.lease_seconds,
            use_is_told_late=live and self.store.local_root is not None,
        )
        self.reported = ReportCollector(runs / self.reference if self.is_recorded else None)
        self._keeper = RunRecorder(
            self.run_record,
            self.graph,
            self.store,
            self.reported,
            self.records,
            lambda task: self.runner.now(task),
            runs=runs,
            log=self.config.path(self.config.logs) / f"{self.reference}.log",
        )
        self._status = (
            StatusWriter(self.run_record, self.run_folder, self._keeper.save_so_far) if self.is_recorded else None
        )
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
                accept_code=frozenset(accept_code),
                check_determinism=check_determinism,
            ),
            self.prefix,
            self._make_executor,
            EventBus(self.graph, self._listeners(listeners)),
            None if self.claims is None else Waiting(self.store, self.claims),
            before_look=self._cache.use.before_look,
            facts=self._facts,
        )
        self.runner.bus.warned_once(self._cache.notices)
        self.codes = StageCodes(self.config.code, self.config.root)
        self._tracer = Tracer(
            self.graph,
            self.prefix,
            lazy=True if lazy else False if ignore_lazy else None,
            share=lambda task: not self.runner.has_failed(task),
            strict_names=not live,
            current=self.runner.current,
            find_given=GivenFiles(self.config.root).find,
            is_anew=lambda stage: live and self.runner.policy.force.names_stage(stage),
            code=self.codes.of,
        )
        self.runner.reduce = self._tracer.reduce
        self.runner.find_record = self._find_record
        self.reader = ArtifactResolver(self.runner, self.run_record, map_only=map_only, work=self._cache.work)
        self._known_facts: ManagerFacts | None = None
        self._closed = False
        self._ending: Ending | None = None
        self._ends_as = ""
        self._log = ExitStack()
        if live:
            close_abandoned()
            log = self.config.path(self.config.logs) / f"{self.reference}.log"
            self._log.enter_context(
                log_file(
                    None if self.dry or suppress_live_log else log,
                    self.config.root,
                    everything=not disable_non_cf_loggers,
                    when_needed=True,
                    level=logging.DEBUG if live_log_debug else logging.INFO,
                )
            )
            close_at_exit(self)
        self._is_made = True

    # --- as a context manager -----------------------------------------------------------------------------------------
    def __reduce__(self) -> NoReturn:
        raise BoundToSessionError(
            "An artifact manager is a session, and can be neither copied nor sent away.",
            fix="make another one with the same arguments; give a stage what it needs of it as a keyword argument",
        )

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
        self._ends_as = status
        with ExitStack() as steps:  # the last one first, and each of them, whatever those before it raised
            steps.callback(self._fill_full_store)
            steps.callback(self._log.close)
            steps.callback(self._save_end)
            steps.callback(self._keep_code)
            steps.callback(self._keep_lineage)
            steps.callback(self._cache.end_use, self.graph)
            for record in reversed(self.records):
                steps.callback(record.store_tracked_paths)
            steps.callback(self._cache.remove_work, self.graph)
            steps.callback(self._close_runner)
            if self.live and status == "done":
                steps.callback(self._finish_session)

    def _finish_session(self) -> None:
        try:
            self.runner.wait(range(len(self.graph)))
        except BaseException as error:
            self._ends_as = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            raise
        self._warn_of_untold_failures()
        self._warn_of_uncalled_stages()

    def _keep_code(self) -> None:
        if self._code_keeper is not None:
            with without_cache(self.runner.bus.warned, "the code of stages was not kept"):
                self._code_keeper.finish()

    def _keep_lineage(self) -> None:
        if self._lineage_keeper is not None:
            with without_cache(self.runner.bus.warned, "what artifacts were made from was not kept for plans"):
                self._lineage_keeper.finish()

    def _close_runner(self) -> None:
        self.runner.close(now=self._ends_as == "interrupted")

    def _save_end(self) -> None:
        if not self.run_record.decisions:
            run_records.drop_unused(self.run_folder)
            return
        is_failed = self.runner.failures and self._ends_as == "done"
        self.run_record.status = "failed" if is_failed else self._ends_as
        self.run_record.ended_at = time.time()
        if self._status is not None:
            try:
                self.save_run()
            finally:
                self._status.close(self.run_record.status)

    def _fill_full_store(self) -> None:
        if self.live and self.full_store is not None:
            for text in run_export.fill(self):
                warnings.warn(text, stacklevel=levels_to_user())

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self.live:
            close_later(self)

    def _warn_of_untold_failures(self) -> None:
        failures = self.runner.failures.untold
        if failures:
            told = [f"\n  {failure.where}: {failure.what}" for failure in failures[:SHOWN_FAILURES]]
            told += [f"\n  and {len(failures) - SHOWN_FAILURES} more"] if len(failures) > SHOWN_FAILURES else []
            stages = "1 stage" if len(failures) == 1 else f"{len(failures)} stages"
            text = f"{stages} failed, whose outputs nobody asked for:{''.join(told)}"
            warnings.warn(text, stacklevel=levels_to_user())

    @classmethod
    def running(cls) -> ArtifactManager | None:
        """The manager of the experiment whose ``run()`` is being traced here; None outside of one."""
        return _running.get()

    @contextmanager
    def as_running(self) -> Iterator[None]:
        """Let `running` give this manager while the block runs."""
        token = _running.set(self)
        try:
            yield
        finally:
            _running.reset(token)

    def save_run(self) -> Path:
        """Write the run record as it is now, and the parameter sets into the registry; the record's path."""
        return self._keeper.save()

    def describe_run(self) -> dict[str, Any]:
        """The run record as it is now, as plain JSON values."""
        return self._keeper.as_dict()

    @property
    def claims(self) -> Claims | None:
        """The right to compute; None where nobody else could want to compute the same, or where it cannot be had."""
        return self._cache.claims

    def check_cache(self) -> None:
        """Look whether results can be stored, before anything is computed.

        Where a shared cache lets this user only read, nothing is stored, and a warning says so.

        Raises
        ------
        CacheError
        """
        self._cache.check()
        self.runner.policy.writable = self.writable

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
            if not (self.dry or self.run_record.decisions):  # before the first stage, and not where nothing is logged
                run_records.warn_without_repository(self.config.root)
            self.runner.demand([task.id])
            if self._placement.parallel == 0:
                try:
                    self.runner.ensure(task.id)
                finally:
                    self._cache.tidy()

    def info_of(self, record: Record) -> RecordInfo:
        """A record as the tasks of another carry it that it went into; see `curidask.session.tracer.Tracer.info`."""
        return self._tracer.info(record, alone=True)

    def _find_record(self, info: RecordInfo) -> Record | None:
        """The record that a stage knew as `info`, maybe in an earlier run."""
        there = 0 <= info.index < len(self.records)
        candidates = [self.records[info.index], *self.records] if there else self.records
        return next((r for r in candidates if (r.name, r.get_hash()) == (info.name, info.params_hash)), None)

    def finish(self) -> Plan:
        """Execute all that is traced and wait for it.

        Raises
        ------
        RunFailedError
            When stages failed; the independent ones have finished.
        """
        plan = self.runner.finish()
        self.raise_failures()
        return plan

    def raise_failures(self) -> None:
        """Raise when stages failed."""
        self.runner.failures.raise_all(stopped=self.runner.state.is_stopped)

    def go_on_where_broken_off(self) -> None:
        """Keep what runs have computed anew that were broken off, where this one would do it once more."""
        references = broken_off(self.run_record, self.config.path(self.config.runs)) if self.is_recorded else []
        if references:
            self.runner.keep_fresh(references)
            self.runner.bus.warned(
                f"going on where {references[0]} was broken off: what it has computed anew is not computed once more"
            )

    def check_accepted(self, defined: Collection[str] = ()) -> None:
        """Refuse names of stages whose code is to be accepted that were neither called nor are defined.

        Raises
        ------
        SelectionError
        """
        there = list(dict.fromkeys(task.spec.name for task in self.graph))
        for name in sorted(self.runner.policy.accept_code - {ALL, *there, *defined}):
            raise no_such_stage(name, there, where="--accept-code, or `accept_code`")

    def plan(self) -> Plan:
        """What executing all that is traced would do."""
        return self.runner.plan(self.graph.targets(), from_scratch=True)

    # --- parts --------------------------------------------------------------------------------------------------------
    def _listeners(self, others: Sequence[Listener]) -> list[Listener]:
        """Who is told what happens, in that order."""
        told: list[Listener] = [self.run_record, self.reported, *others]
        if self.live:
            told.append(RunLog())
        if self._status is not None:
            told.append(self._status)
        if not self.live and any(one.wants_causes for one in others):
            from curidask.session.explain.run_causes import RunCauses

            told.append(RunCauses(self.store, lambda: self.codes.by_key, self._tell_causes))
        if self.determinism is not None:
            told.append(self.determinism)
        told.append(CodeChanges(self.store, lambda text: self.runner.bus.warned(text)))
        if self.writable:
            self._code_keeper = CodeKeeper(self.store, lambda: self.codes.by_key, late=self.live)
            self._lineage_keeper = LineageKeeper(self.store, self.prefix)
            told += [self._code_keeper, self._lineage_keeper]
            told.append(Publisher(self.store, self.config.root, lambda text: self.runner.bus.warned(text)))
        return told

    def _tell_causes(self, lines: Sequence[str], n_more: int) -> None:
        self.runner.bus.tell(Listener.told_causes, lines, n_more)

    def _make_executor(self) -> Executor:
        if self._closed and self._ending is None:  # somebody goes on with a session that is over
            self._ending = Ending(self._close_runner)
            close_at_exit(self._ending)
        if not self.live:
            self.check_stages_to_overwrite()
        self.check_accepted(defined=DEFINED)
        env = Environment(
            self.store,
            self.reference,
            portable=False,
            claims=self.claims,
            work=self._cache.work,
            facts=self._facts(),
        )
        n_sets = len(self.records) if self._n_sets is None else self._n_sets
        return self._placement.executor(env, self.runner.bus, n_sets)

    def _facts(self) -> ManagerFacts:
        if self._known_facts is None:
            self._known_facts = ManagerFacts.of(self)
        return self._known_facts


SHOWN_FAILURES = 5

_running: ContextVar[ArtifactManager | None] = ContextVar("running", default=None)
