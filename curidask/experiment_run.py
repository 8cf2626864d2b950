"""One run of an experiment: selecting parameter sets, making its manager, looking at it or executing it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from curidask.core.keywords import CheckedCalls
from curidask.errors import CacheError, ConfigurationError, CuridaskError, StageFailedError
from curidask.execution.listener import Listener
from curidask.execution.tracebacks import first_line, user_traceback
from curidask.manager import ArtifactManager
from curidask.params import ExperimentParameters, duplicate_names, fill_hash, select
from curidask.runs import record as run_records
from curidask.runs.param_registry import ParamSet
from curidask.runs.record import RunRecord
from curidask.session import attachments, queries
from curidask.session import export as run_export
from curidask.session.attachments import Keeping
from curidask.session.config import Config
from curidask.session.events import show_warning
from curidask.session.facts import check_loaded_stages, no_such_stage
from curidask.session.logging import FOR_FILE, RunLog, log_file
from curidask.session.progress import Progress
from curidask.session.project_modules import load_experiment, load_param_groups
from curidask.session.resolver import MapStop
from curidask.session.terminal import say

logger = logging.getLogger("curidask.run")

KEPT_OPTIONS = ("lazy", "ignore_lazy", "no_dag", "keep_going_aggregates")
"""What decides what is computed, beside the selection of parameter sets."""

SAME_ON_BOTH = ("dry", "prefix")
"""What may be given beside a manager that has it."""


@dataclass(frozen=True, slots=True)
class ExperimentResult(CheckedCalls):
    """What `run_experiment` gives when the manager is asked for; ``value, manager = result`` takes it apart.

    Attributes
    ----------
    value : object
        What ``run()`` returned.
    manager : ArtifactManager
        With its records, closed.
    stopped_at : str
        For a map: the artifact whose value the experiment reads next and which would have to be computed.
    """

    value: Any
    manager: ArtifactManager
    stopped_at: str = ""

    def __iter__(self) -> Iterator[Any]:
        return iter((self.value, self.manager))

    def __len__(self) -> int:
        return 2

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, place: int | slice) -> Any:
        return (self.value, self.manager)[place]


class ExperimentRun:
    """A run of an experiment that has not begun yet.

    Parameters
    ----------
    config : Config
    experiment : str
        As it was asked for.
    selection : mapping of str to list of str
        ``params``, ``names``, ``indices`` and ``global_indices``, see `select_params`.
    session : mapping
        What the manager is made with, as `ArtifactManager` takes it.
    mngr : ArtifactManager or bool or None
        See `curidask.experiment.run_experiment`.
    listeners : sequence of Listener
        Who is told what happens.
    progress : Progress, optional
        What shows it to the user.
    tracebacks : bool
        Whether the log has the tracebacks of what fails.

    Raises
    ------
    ConfigurationError
        When a manager is given, and in `session` what it should have been made with.
    """

    def __init__(
        self,
        config: Config,
        experiment: str,
        selection: Mapping[str, list[str]],
        session: Mapping[str, Any],
        mngr: ArtifactManager | bool | None = None,
        listeners: Sequence[Listener] = (),
        progress: Progress | None = None,
        *,
        tracebacks: bool = False,
    ) -> None:
        self.config = config
        self.experiment = experiment
        self._name = experiment.removesuffix(".py").replace("/", ".")
        self._selection = selection
        self._session = session
        self._given = mngr if isinstance(mngr, ArtifactManager) else None
        self._gives_manager = mngr is True
        self._listeners = [*listeners, *([progress] if progress is not None else [])]
        self._progress = progress if self._given is None else None  # one that is given tells its own listeners
        self._tracebacks = tracebacks
        if self._given is not None:
            _check_given(self._given, listeners=list(listeners), **session)

    # --- looking -----------------------------------------------------------------------------------------------------
    def look_at_map(self, say_it: bool) -> ExperimentResult:
        """Make the plan."""
        result = self._mapped()
        if say_it:  # what is cached is read only then
            _print(queries.map_lines(result.manager, result.manager.plan(), result.stopped_at))
        return result

    def look_at_paths(self, say_it: bool) -> Any:
        """Every path in the cache that the run would use."""
        result = self._mapped()
        if say_it and result.stopped_at:
            say(
                f"run() reads {result.stopped_at!r}, which has to be computed first; "
                "the paths of what it makes after that are missing"
            )
        paths = queries.paths(result.manager)
        _print(paths if say_it else ())
        return ExperimentResult(paths, result.manager) if self._gives_manager else paths

    def look_at_hashes(self, say_it: bool) -> Any:
        """Hash and name of each selected set."""
        sets = self._select()
        _print(f"{params.params_hash()} {params.name}" for params in (sets if say_it else ()))
        return self._looked({params.params_hash(): params.name for params in sets}, sets)

    def look_at_params(self, say_it: bool, wanted: str | None = None, *, with_hashed: bool = False) -> Any:
        """The selected sets, or the one that is wanted, printed in full."""
        sets = self._select()
        shown = sets if wanted is None else [queries.find_set(wanted, sets, self.config)]
        for params in shown if say_it else ():
            if isinstance(params, ParamSet):
                say(f"{params.name} is a set of {params.run}")
            _print(queries.set_lines(params, with_hashed=with_hashed))
        value = shown if wanted is None else shown[0]
        return self._looked(dict(value.values) if isinstance(value, ParamSet) else value, sets)

    def _mapped(self) -> ExperimentResult:
        with _asked_for():
            return self._planned()

    def _planned(self) -> ExperimentResult:
        module = load_experiment(self.config, self.experiment)
        param_sets = self._select()
        manager = self._opened(param_sets)
        try:
            with manager.as_running():
                value, stopped_at = module.run(param_sets, manager), ""
        except MapStop as stop:
            value, stopped_at = None, stop.artifact
        if stopped_at:
            manager.check_stages_to_overwrite()
        else:
            _check_stage_names(self._session["overwrite_stages"], manager)
            manager.check_accepted()
        return ExperimentResult(value, manager, stopped_at)

    def _looked(self, value: Any, sets: list[ExperimentParameters]) -> Any:
        return ExperimentResult(value, self._manager(sets, map_only=True)) if self._gives_manager else value

    # --- executing ---------------------------------------------------------------------------------------------------
    def execute(
        self,
        kept: Keeping,
        *,
        notes: str | None,
        command: Sequence[str] | None,
        on_report: Callable[[Path], None] | None,
    ) -> Any:
        """Execute the experiment, and keep what is to be kept.

        Parameters
        ----------
        kept : Keeping
        notes : str or None
            See `curidask.session.attachments.ask_for_notes`.
        command : sequence of str, optional
            What the run record names as the command instead of that of this process.
        on_report : callable, optional
            Is given the report's page when it is written.
        """
        module = load_experiment(self.config, self.experiment)
        recorded = not (self._session["dry"] or self._session["parallel_mode"])
        ask = attachments.ask_for_notes(notes, kept=recorded)
        param_sets = self._select()
        with _asked_for():
            manager = self._opened(param_sets)
        self._describe(manager.run_record, ask(), command)
        manager.go_on_where_broken_off()
        if kept.store_full:
            manager.full_store = run_export.run_path(self.config, manager.reference)
            manager.run_record.reproduce = run_export.reproduction(manager, self._name)
        reports: list[str] = []

        def reported(path: Path) -> None:
            reports.append(f"report: {path}")
            if on_report is not None:
                on_report(path)

        lines: list[str] = []
        with _shown(self._progress, reports, lines):
            with (
                attachments.kept(manager, kept, reported),
                log_file(
                    self._log_path(manager, kept),
                    self.config.root,
                    everything=kept.all_loggers,
                    level=logging.DEBUG if kept.log_debug else logging.INFO,
                ),
                nullcontext() if self._given else manager,  # one that was given stays open
                _logged_error(wanted=self._tracebacks),
            ):
                if not manager.live:  # which warns itself
                    run_records.warn_without_repository(self.config.root)
                value, failed = _traced(module.run, param_sets, manager)
                if failed is not None:
                    manager.finish()  # what does not depend on the failure finishes first; raises with all failures
                    raise failed
                _check_stage_names(self._session["overwrite_stages"], manager)
                manager.check_accepted()
                manager.finish()
            lines += attachments.places(manager)
            lines += reports
            lines += attachments.keep(manager, kept, quiet=self._progress is None or self._progress.quiet)
            if manager.determinism is not None and not manager.determinism.found:
                lines.append(f"checked: {manager.determinism.told}, nothing differed")
        if manager.determinism is not None:
            manager.determinism.raise_found()
        return ExperimentResult(value, manager) if self._gives_manager else value

    def _describe(self, record: RunRecord, notes: str, command: Sequence[str] | None) -> None:
        record.notes = notes or record.notes
        record.options = {key: list(value) for key, value in self._selection.items()}
        record.options |= {name: self._session[name] for name in KEPT_OPTIONS}
        if command is not None:
            record.command = command

    def _log_path(self, manager: ArtifactManager, kept: Keeping) -> Path | None:
        if not kept.log or manager.dry:
            return None
        path = run_export.log_path(self.config, manager.reference)
        # Runs that have no record do not count as runs, so several at a time may have one reference.
        return path if manager.is_recorded else path.with_name(f"{manager.reference}_p{os.getpid()}.log")

    # --- parts -------------------------------------------------------------------------------------------------------
    def _select(self) -> list[ExperimentParameters]:
        return select_params(self.config, self.experiment, **self._selection)

    def _opened(self, param_sets: list[ExperimentParameters]) -> ArtifactManager:
        """The manager, when what was asked for can be done as far as is known before ``run()`` is called."""
        check_loaded_stages(self._session["overwrite_stages"], self.config.root)
        manager = self._manager(param_sets)
        manager.check_cache()
        return manager

    def _manager(self, param_sets: list[ExperimentParameters], **settings: Any) -> ArtifactManager:
        if self._given is not None:
            return self._given
        session = {**self._session, **settings}
        cache = session["cache"]
        session["prefix"] = session["prefix"] or _prefix_of_run(self.config, cache, self._name)
        return ArtifactManager(
            self._name,
            config=self.config,
            live=False,
            listeners=[*self._listeners, RunLog(tracebacks=self._tracebacks)],
            n_sets=len(param_sets),
            **session,
        )


def select_params(
    config: Config,
    experiment: str,
    params: Sequence[str] = (),
    names: Sequence[str] = (),
    indices: Sequence[str] = (),
    global_indices: Sequence[str] = (),
) -> list[ExperimentParameters]:
    """The parameter sets that an experiment would run over, with their hashes; see `run_experiment`.

    Warns
    -----
    UserWarning
        When sets of different values have one name.
    """
    groups = load_param_groups(config, experiment, params)
    selected = select(groups, names=names, indices=indices, global_indices=global_indices)
    for selected_set in selected:  # one that cannot be hashed is refused here
        fill_hash(selected_set)
    for name, sets in duplicate_names(selected).items():
        hashes = ", ".join(params.params_hash()[:8] for params in sets)
        warnings.warn(f"{len(sets)} different parameter sets are named {name!r} (hashes {hashes})", stacklevel=3)
    return selected


def _check_given(manager: ArtifactManager, **settings: Any) -> None:
    """Refuse what would be without effect, since the manager is made."""
    for name, value in settings.items():
        is_given = value is not None if name == "parallel" else bool(value)
        if is_given and not (name in SAME_ON_BOTH and getattr(manager, name) == value):
            raise ConfigurationError(
                f"{name!r} is decided by the manager that is given.",
                where="run_experiment()",
                fix=f"make the manager with it, as in ArtifactManager(..., {name}={value!r}), or leave mngr out",
            )


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        say(line, err=False)


@contextmanager
def _asked_for() -> Iterator[None]:
    """Say of an error of the cache that nothing was run when it came up."""
    try:
        yield
    except CacheError as error:
        error.ran_nothing = True
        raise


@contextmanager
def _shown(progress: Progress | None, reports: Sequence[str], lines: Sequence[str]) -> Iterator[None]:
    """Show in the end what came out of it: of a run that failed the report, of another all the lines."""
    try:
        yield
    except BaseException:
        _show_end(progress, reports, failed=True)
        raise
    _show_end(progress, lines, failed=False)


def _show_end(progress: Progress | None, lines: Sequence[str], *, failed: bool) -> None:
    if progress is None:
        return
    try:
        progress.close(lines, failed=failed)
    except Exception as error:
        show_warning(f"{progress.told_as} failed at the end: {first_line(error)}")


def _prefix_of_run(config: Config, cache: str | None, name: str) -> str | None:
    if cache is None or not config.is_run_folder(cache):
        return None
    return run_export.prefix_of(config.path(cache), name)


def _traced(
    run: Any, param_sets: list[ExperimentParameters], manager: ArtifactManager
) -> tuple[Any, StageFailedError | None]:
    # The failure is given back, since what runs while it is handled would show it as its own errors' context.
    try:
        with manager.as_running():
            return run(param_sets, manager), None
    except StageFailedError as error:
        return None, error


def _check_stage_names(names: Sequence[str], manager: ArtifactManager) -> None:
    set_by_run = [] if manager.live else manager.overwrite_stages
    there = list(dict.fromkeys(task.spec.name for task in manager.graph))
    unknown = [name for name in (*names, *set_by_run) if name not in there]
    if unknown:
        raise no_such_stage(unknown[0], there)


@contextmanager
def _logged_error(*, wanted: bool) -> Iterator[None]:
    """Log what the experiment's own ``run()`` raises; failed stages log themselves."""
    try:
        yield
    except CuridaskError:
        raise
    except Exception as error:
        text = user_traceback(error).rstrip() if wanted else f"{type(error).__name__}: {error}"
        logger.error("run() raised\n%s", text, extra=FOR_FILE)
        raise
