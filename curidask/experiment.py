"""Running an experiment of a project: load, select, trace, execute, record."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curidask import history, run_folder
from curidask.config import Config, load_config
from curidask.errors import ConfigurationError, CuridaskError, RunFailedError, SelectionError, StageFailedError
from curidask.executors.describe import user_traceback
from curidask.listening import Listener
from curidask.loading import load_experiment, load_param_groups
from curidask.logs import FOR_FILE, RunLog, log_file
from curidask.manager import ArtifactManager
from curidask.params import ExperimentParameters, duplicate_names, select
from curidask.reading import MapStop

logger = logging.getLogger("curidask.run")


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """What `run_experiment` gives when the manager is asked for.

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


def run_experiment(
    experiment_name: str,
    params: Sequence[str] = (),
    *,
    names: Sequence[str] = (),
    indices: Sequence[str] = (),
    global_indices: Sequence[str] = (),
    overwrite: bool = False,
    overwrite_stages: Sequence[str] = (),
    cache: str | None = None,
    cache_mode: str | None = None,
    dry: bool = False,
    dry_cache: bool = False,
    prefix: str | None = None,
    no_dag: bool = False,
    lazy: bool = False,
    ignore_lazy: bool = False,
    fail_fast: bool = False,
    keep_going_aggregates: bool = False,
    parallel: int | None = None,
    cluster: Any = None,
    insecure: bool = False,
    restarts: int = 0,
    map_only: bool = False,
    store_full: bool = False,
    notes: str | Callable[[], str] = "",
    report: bool = True,
    on_report: Callable[[Path], None] | None = None,
    log: bool = True,
    log_errors: bool = False,
    all_loggers: bool = False,
    mngr: ArtifactManager | bool | None = None,
    config: Config | None = None,
    listeners: Sequence[Listener] = (),
) -> Any:
    """Run an experiment of the project around the current folder.

    Parameters
    ----------
    experiment_name : str
        ``experiments/NAME.py``, without ``.py``.
    params : sequence of str
        Parameter modules; the experiment's own ``get_params()`` by default.
    names, indices, global_indices : sequence of str
        Which parameter sets, see `curidask.params.select`.
    overwrite, overwrite_stages, cache_mode, dry, dry_cache, no_dag, lazy, ignore_lazy, parallel, config, listeners
        See `ArtifactManager`.
    fail_fast, keep_going_aggregates
        See `ArtifactManager`.
    cluster, insecure, restarts
        See `ArtifactManager`.
    cache : str, optional
        Folder or URL of the artifact store, or the folder of a store-full run.
    prefix : str, optional
        Beginning of the artifacts' names; by default the experiment's name, or that of the run whose folder `cache` is.
    map_only : bool
        Trace and plan only; run nothing and write nothing. Implies that the manager is returned.
    store_full : bool
        Put all that the run used and made into its folder, see `curidask.run_folder`; also when stages failed.
    notes : str or callable
        What to keep with the run, its first line as title; or a function that gives it, called when the parameter sets
        are selected and before anything runs.
    report : bool
        Write the run's report, also when stages failed; not for a dry run.
    on_report : callable, optional
        Is given the report's page when it is written.
    log : bool
        Write a log file.
    log_errors : bool
        Log the tracebacks of stages that fail, and of ``run()``.
    all_loggers : bool
        Log what all packages log, not only curidask and the project.
    mngr : ArtifactManager or bool, optional
        A manager to use; or True to get the one that was used, as ``result.manager``.

    Returns
    -------
    object
        What ``run()`` returns; an `ExperimentResult` with ``mngr=True`` or `map_only`.

    Raises
    ------
    CuridaskError
        For input that cannot be used, before anything runs.
    RunFailedError
        When stages failed; the others have finished and are in the cache.
    """
    config = config or load_config()
    name = experiment_name.removesuffix(".py").replace("/", ".")
    _check_combination(store_full=store_full, dry=dry)
    module = load_experiment(config, experiment_name)
    selection = {"params": params, "names": names, "indices": indices, "global_indices": global_indices}
    param_sets = select_params(config, experiment_name, **selection)
    if isinstance(mngr, ArtifactManager):
        manager = mngr
    else:
        manager = ArtifactManager(
            name,
            cache=cache,
            cache_mode=cache_mode,
            prefix=prefix or _prefix_of_run(config, cache, name),
            parallel=parallel,
            cluster=cluster,
            insecure=insecure,
            restarts=restarts,
            overwrite=overwrite,
            overwrite_stages=overwrite_stages,
            dry=dry,
            dry_cache=dry_cache,
            no_dag=no_dag,
            lazy=lazy,
            ignore_lazy=ignore_lazy,
            fail_fast=fail_fast,
            keep_going_aggregates=keep_going_aggregates,
            config=config,
            live=False,
            map_only=map_only,
            listeners=[*listeners, RunLog(tracebacks=log_errors)],
            n_sets=len(param_sets),
        )
    manager.check_cache()
    if map_only:
        value, stopped_at = _mapped(module.run, param_sets, manager)
        if not stopped_at:
            _check_stage_names(overwrite_stages, manager)
        return ExperimentResult(value, manager, stopped_at)
    if store_full:
        manager.full_store = run_folder.run_path(config, manager.reference)
    manager.run_record.notes = (notes() if callable(notes) else notes).strip()
    manager.run_record.options = {key: list(value) for key, value in selection.items()} | {
        "lazy": lazy, "ignore_lazy": ignore_lazy, "no_dag": no_dag, "keep_going_aggregates": keep_going_aggregates
    }  # fmt: skip
    if store_full:
        manager.run_record.reproduce = run_folder.reproduction(manager, name)
    log_to = run_folder.log_path(config, manager.reference) if log and not manager.dry else None
    with (
        _kept(manager, store_full=store_full, report=report, on_report=on_report),
        log_file(log_to, config.root, everything=all_loggers),
        nullcontext() if manager is mngr else manager,  # one that was given stays open
        _logged_error(wanted=log_errors),
    ):
        if not manager.live:  # which warns itself
            history.warn_without_repository(config.root)
        value, failed = _traced(module.run, param_sets, manager)
        if failed is not None:
            manager.finish()  # what does not depend on the failure finishes first; raises with all failures
            raise failed
        _check_stage_names(overwrite_stages, manager)
        manager.finish()
    return ExperimentResult(value, manager) if mngr is True else value


def select_params(
    config: Config,
    experiment: str,
    params: Sequence[str] = (),
    names: Sequence[str] = (),
    indices: Sequence[str] = (),
    global_indices: Sequence[str] = (),
) -> list[ExperimentParameters]:
    """The parameter sets that an experiment would run over; see `run_experiment`.

    Warns
    -----
    UserWarning
        When sets of different values have one name.
    """
    groups = load_param_groups(config, experiment, params)
    selected = select(groups, names=names, indices=indices, global_indices=global_indices)
    for name, sets in duplicate_names(selected).items():  # hashes every set, so one that cannot be is refused here
        hashes = ", ".join(params.params_hash()[:8] for params in sets)
        warnings.warn(f"{len(sets)} different parameter sets are named {name!r} (hashes {hashes})", stacklevel=3)
    return selected


def _check_combination(*, store_full: bool, dry: bool) -> None:
    if store_full and dry:
        raise ConfigurationError(
            "A run cannot be stored in full and be dry.",
            where="--store-full with --dry",
            fix="leave one of them out; --store-full --dry-cache reads the cache and writes the run's folder only",
        )


def _prefix_of_run(config: Config, cache: str | None, name: str) -> str | None:
    if cache is None or not config.is_run_folder(cache):
        return None
    return run_folder.prefix_of(config.path(cache), name)


def _mapped(run: Any, param_sets: list[ExperimentParameters], manager: ArtifactManager) -> tuple[Any, str]:
    try:
        with manager.as_running():
            return run(param_sets, manager), ""
    except MapStop as stop:
        return None, stop.artifact


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
    there = dict.fromkeys(task.spec.name for task in manager.graph)
    unknown = [name for name in names if name not in there]
    if unknown:
        raise SelectionError(
            f"The experiment has no stage {unknown[0]!r}.", where="--overwrite-stage", fix=f"it has: {', '.join(there)}"
        )


@contextmanager
def _kept(
    manager: ArtifactManager, *, store_full: bool, report: bool, on_report: Callable[[Path], None] | None
) -> Iterator[None]:
    """Keep what is to be kept of a run when it has ended, also when stages failed."""
    failed: CuridaskError | None = None
    report = report and not manager.dry
    try:
        yield
    except (RunFailedError, StageFailedError) as error:
        failed = error
    except Exception:
        _report(manager, on_report, wanted=report)
        raise
    _report(manager, on_report, wanted=report)  # before the folder is filled, which gets a copy
    if store_full:
        for text in run_folder.fill(manager):
            warnings.warn(text, stacklevel=2)
        if failed is not None:
            folder = run_folder.run_path(manager.config, manager.reference)
            warnings.warn(f"the run failed; what it has is stored in {folder}", stacklevel=2)
    if failed is not None:
        raise failed


def _report(manager: ArtifactManager, tell: Callable[[Path], None] | None, *, wanted: bool) -> None:
    """Write the report. One that cannot be written fails no run."""
    if not wanted or not manager.run_record.decisions:
        return
    try:
        path = manager.generate_report()
    except Exception as error:
        warnings.warn(f"the report could not be written: {error}", stacklevel=2)
        return
    if tell is not None:
        tell(path)


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
