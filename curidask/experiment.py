"""Running an experiment of a project: load, select, trace, execute, record."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from curidask.config import Config, load_config
from curidask.errors import CacheError, SelectionError, StageFailedError
from curidask.loading import load_experiment, load_param_groups
from curidask.manager import ArtifactManager, MapStop, check_stages
from curidask.params import ExperimentParameters, duplicate_names, select
from curidask.runner import Listener

logger = logging.getLogger(__name__)


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
    dry: bool = False,
    dry_cache: bool = False,
    prefix: str | None = None,
    no_dag: bool = False,
    lazy: bool = False,
    ignore_lazy: bool = False,
    parallel: int | None = None,
    cluster: Any = None,
    insecure: bool = False,
    restarts: int = 0,
    map_only: bool = False,
    log: bool = True,
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
    overwrite, overwrite_stages, cache, dry, dry_cache, prefix, no_dag, lazy, ignore_lazy, parallel, config, listeners
        See `ArtifactManager`.
    cluster, insecure, restarts
        See `ArtifactManager`.
    map_only : bool
        Trace and plan only; run nothing and write nothing. Implies that the manager is returned.
    log : bool
        Write a log file.
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
    module = load_experiment(config, experiment_name)
    param_sets = _select(config, experiment_name, params, names, indices, global_indices)
    if isinstance(mngr, ArtifactManager):
        manager = mngr
    else:
        manager = ArtifactManager(
            experiment_name.removesuffix(".py").replace("/", "."),
            cache=cache,
            prefix=prefix,
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
            config=config,
            live=False,
            map_only=map_only,
            listeners=listeners,
            n_sets=len(param_sets),
        )
    if manager.writable:
        manager.store.check_writable()
    if map_only:
        value, stopped_at = _trace(module.run, param_sets, manager)
        return ExperimentResult(value, manager, stopped_at)
    with _log_file(manager, wanted=log and not manager.dry), manager:
        try:
            value = module.run(param_sets, manager)
        except StageFailedError:
            manager.finish()  # what does not depend on the failure finishes first; raises with all failures
            raise
        _check_stage_names(overwrite_stages, manager)
        manager.finish()
    return ExperimentResult(value, manager) if mngr is True else value


def _select(
    config: Config,
    experiment: str,
    params: Sequence[str],
    names: Sequence[str],
    indices: Sequence[str],
    global_indices: Sequence[str],
) -> list[ExperimentParameters]:
    groups = load_param_groups(config, experiment, params)
    selected = select(groups, names=names, indices=indices, global_indices=global_indices)
    for name, sets in duplicate_names(selected).items():  # hashes every set, so one that cannot be is refused here
        hashes = ", ".join(params.params_hash()[:8] for params in sets)
        warnings.warn(f"{len(sets)} different parameter sets are named {name!r} (hashes {hashes})", stacklevel=3)
    return selected


def _trace(run: Any, param_sets: list[ExperimentParameters], manager: ArtifactManager) -> tuple[Any, str]:
    try:
        return run(param_sets, manager), ""
    except MapStop as stop:
        return None, stop.artifact


def _check_stage_names(names: Sequence[str], manager: ArtifactManager) -> None:
    unknown = check_stages(names, manager.graph)
    if unknown:
        there = dict.fromkeys(task.spec.name for task in manager.graph)
        raise SelectionError(
            f"The experiment has no stage {unknown[0]!r}.", where="--overwrite-stage", fix=f"it has: {', '.join(there)}"
        )


@contextmanager
def _log_file(manager: ArtifactManager, *, wanted: bool) -> Iterator[None]:
    """Write what is logged during a run to the project's log folder."""
    if not wanted:
        yield
        return
    folder = manager.config.path(manager.config.logs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(folder / f"{manager.reference}.log", encoding="utf-8", delay=True)
    except OSError as error:
        raise CacheError(
            f"The log cannot be written: {error.strerror or error}.",
            where=str(folder),
            fix="make the folder writable, set `logs` in the configuration, or use --no-log",
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s [%(levelname)s] %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO) if level else logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
