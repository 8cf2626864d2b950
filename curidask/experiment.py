"""Running an experiment of a project, and what there is to run."""

from __future__ import annotations

import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from curidask.core.keywords import keywords
from curidask.errors import ConfigurationError
from curidask.execution.listener import Listener
from curidask.experiment_run import ExperimentResult, ExperimentRun
from curidask.manager import ArtifactManager
from curidask.session import project_modules
from curidask.session.attachments import Keeping
from curidask.session.config import Config, load_config
from curidask.session.progress import Progress
from curidask.session.project_modules import ModuleEntry, module_files
from curidask.session.terminal import coloured, shown_logs, shown_warnings

__all__ = ["ExperimentResult", "list_experiments", "list_params", "regex_lister", "run_experiment"]


@keywords(
    param_files="params",
    parameters_list="params",
    overwrite_override="overwrite",
    cache_dir_override="cache",
    store_entire_run="store_full",
    custom_name="prefix",
    stage_overwrites="overwrite_stages",
    param_set_names="names",
    args_names="names",
    param_set_indices="indices",
    args_indices="indices",
    global_param_set_indices="global_indices",
    global_args_indices="global_indices",
    no_map="no_dag",
)
def run_experiment(
    experiment_name: str,
    params: str | Iterable[str] | None = None,
    overwrite: bool | None = False,
    cache: str | os.PathLike[str] | None = None,
    mngr: ArtifactManager | bool | None = None,
    log: bool = True,
    log_debug: bool = False,
    dry: bool = False,
    dry_cache: bool = False,
    store_full: bool = False,
    log_errors: bool = False,
    prefix: str | None = None,
    build_docker: bool = False,
    build_notebook: bool = False,
    run_string: str | None = None,
    overwrite_stages: str | Iterable[str] | None = None,
    names: str | Iterable[str] | None = None,
    indices: str | int | Iterable[str | int] | None = None,
    global_indices: str | int | Iterable[str | int] | None = None,
    parallel: int | None = None,
    parallel_mode: bool = False,
    parallel_lock: None = None,
    parallel_queue: None = None,
    run_num_override: None = None,
    run_ts_override: None = None,
    lazy: bool = False,
    ignore_lazy: bool = False,
    report: bool = True,
    no_dag: bool = False,
    map_only: bool = False,
    hashes_only: bool = False,
    paths_only: bool = False,
    print_params: bool | str | None = False,
    no_color: bool = False,
    quiet: bool | None = None,
    progress: bool = False,
    plain: bool = False,
    notes: str | None = None,
    all_loggers: bool = False,
    *,
    cache_mode: str | None = None,
    fail_fast: bool = False,
    keep_going_aggregates: bool = False,
    cluster: Any = None,
    insecure: bool = False,
    restarts: int = 0,
    accept_code: str | Iterable[str] | None = None,
    check_determinism: bool = False,
    on_report: Callable[[Path], None] | None = None,
    config: Config | None = None,
    listeners: Sequence[Listener] = (),
) -> Any:
    """Run an experiment of the project around the current folder.

    ``experiment NAME`` on the command line is this function. The names of older projects are accepted for its keywords:
    ``param_files`` or ``parameters_list`` for `params`, ``param_set_names`` or ``args_names`` for `names`, and so on.

    Parameters
    ----------
    experiment_name : str
        ``experiments/NAME.py``, without ``.py``.
    params : sequence of str, optional
        Parameter modules; the experiment's own ``get_params()`` by default.
    overwrite : bool
        Recompute everything.
    cache : str or path, optional
        Folder or URL of the artifact store, or the folder of a store-full run.
    mngr : ArtifactManager or bool, optional
        A manager to use; or True to get the one that was used, as ``result.manager``.
    log : bool
        Write a log file.
    log_debug : bool
        Show what curidask and the experiment log.
    dry, dry_cache : bool
        Write nothing at all; or nothing to the cache.
    store_full : bool
        Put all that the run used and made into its folder, see `curidask.session.export`; also when stages failed.
    log_errors : bool
        Log the tracebacks of stages that fail, and of ``run()``.
    prefix : str, optional
        Beginning of the artifacts' names; by default the experiment's name, or that of the run whose folder `cache` is.
    build_docker : bool
        Make a build folder, and the image where an engine answers; implies `store_full` and `build_notebook`.
    build_notebook : bool
        Write a notebook that reloads the run.
    run_string : str, optional
        The command that the run record names; by default that of this process.
    overwrite_stages : sequence of str, optional
        Recompute these stages and what depends on them.
    names, indices, global_indices : sequence of str, optional
        Which parameter sets, see `curidask.params.select`.
    parallel : int, optional
        Worker processes on this machine; 0 for this process.
    parallel_mode : bool
        Only fill the cache: no report, no run record, nothing in the registry of parameter sets.
    parallel_lock, parallel_queue, run_num_override, run_ts_override : None
        What processes told each other where each ran a part of an experiment. There are no such processes here.
    lazy, ignore_lazy, no_dag
        See `ArtifactManager`.
    report : bool
        Write the run's report, also when stages failed; not for a dry run.
    map_only : bool
        Trace and plan only: print the plan, run nothing and write nothing. Gives an `ExperimentResult`.
    hashes_only : bool
        Only print hash and name of each selected set. Gives a dict of hash to name.
    paths_only : bool
        Only print every path in the cache that the run would use. Gives a list of them.
    print_params : bool or str
        Only print the selected sets in full, and give them in a list; or, for a text, the one set of that name, or
        whose hash begins so, also one of an earlier run, which is given as a dict. With `log_debug` also how each field
        enters the hash.
    no_color, plain : bool
        Show things without colour; without moving lines, too.
    quiet : bool, optional
        Show only what the experiment prints, warnings and errors; what is looked at is given and not printed. False
        shows what the command line shows. By default a run shows no more than when quiet, unless `progress`, `plain` or
        `log_debug` is given.
    progress : bool
        Show moving lines, also where the output is no terminal and when `quiet`.
    notes : str, optional
        What to keep with the run, its first line as title; an empty text opens an editor.
    all_loggers : bool
        Log what all packages log, not only curidask and the project.
    cache_mode, fail_fast, keep_going_aggregates, cluster, insecure, restarts, accept_code, \
check_determinism
        See `ArtifactManager`.
    on_report : callable, optional
        Is given the report's page when it is written.
    config : Config, optional
        Of the project around the current folder by default.
    listeners : sequence of Listener
        Who is told what happens.

    Returns
    -------
    object
        What ``run()`` returns; an `ExperimentResult` with ``mngr=True`` or `map_only`; what was looked at.

    Raises
    ------
    CuridaskError
        For input that cannot be used, before anything runs.
    RunFailedError
        When stages failed; the others have finished and are in the cache.
    NotDeterministicError
        When `check_determinism` found something; all has finished and is in the cache.
    """
    _check_parts_of_processes(parallel_lock, parallel_queue, run_num_override, run_ts_override)
    looks = {"--map": map_only, "--hashes": hashes_only, "--paths": paths_only, "--print-params": print_params}
    look = [flag for flag, value in looks.items() if value is not None and value is not False]
    _check_combinations(
        {
            **dict.fromkeys(look, True),
            "--lazy": lazy,
            "--ignore-lazy": ignore_lazy,
            "--dry": dry,
            "--parallel-safe": parallel_mode,
            "--store-full": store_full,
            "--notebook": build_notebook,
            "--docker": build_docker,
        }
    )
    selection = {
        "params": _listed(params),
        "names": _listed(names),
        "indices": _listed(indices),
        "global_indices": _listed(global_indices),
    }
    session = {
        "cache": None if cache is None else os.fspath(cache),
        "cache_mode": cache_mode,
        "prefix": prefix,
        "parallel": parallel,
        "parallel_mode": parallel_mode,
        "cluster": cluster,
        "insecure": insecure,
        "restarts": restarts,
        "overwrite": bool(overwrite),
        "overwrite_stages": tuple(_listed(overwrite_stages)),
        "dry": dry,
        "dry_cache": dry_cache,
        "no_dag": no_dag,
        "lazy": lazy,
        "ignore_lazy": ignore_lazy,
        "fail_fast": fail_fast,
        "keep_going_aggregates": keep_going_aggregates,
        "accept_code": tuple(_listed(accept_code)),
        "check_determinism": check_determinism,
        "map_only": map_only or paths_only,
    }
    keeping = Keeping(
        store_full=(store_full and not dry) or build_docker,
        report=report,
        notebook=build_notebook or build_docker,
        docker=build_docker,
        log=log,
        all_loggers=all_loggers,
        log_debug=log_debug,
    )
    given = mngr if isinstance(mngr, ArtifactManager) else None
    display = None
    if quiet is not None or progress or plain or log_debug:
        moving = True if progress and not plain else None
        display = Progress(quiet=bool(quiet or look), plain=plain, moving=moving, experiment=experiment_name)
    with _shown(display, plain=plain or no_color):
        config = config or (given.config if given else load_config())
        run = ExperimentRun(
            config, experiment_name, selection, session, mngr, listeners, display, tracebacks=log_errors
        )
        verbose = log_debug and not look
        logs = (
            nullcontext()
            if display is None
            else shown_logs(display.line, config.root, verbose=verbose, everything=all_loggers, notices=not quiet)
        )
        with logs:
            if look:
                return _look(run, look[0], print_params, say_it=not quiet, with_hashed=log_debug)
            command = None if run_string is None else shlex.split(run_string)
            return run.execute(keeping, notes=notes, command=command, on_report=on_report)


def _listed(given: str | int | Iterable[str | int] | None) -> list[str]:
    """Names or indices as a list: one alone is a list of one, None is none."""
    if given is None:
        return []
    return [str(one) for one in ([given] if isinstance(given, str | int) else given)]


def _check_parts_of_processes(*given: object) -> None:
    if any(value is not None for value in given):
        raise ConfigurationError(
            "parallel_lock, parallel_queue, run_num_override and run_ts_override are for processes that each run a "
            "part of an experiment; there are none here.",
            where="run_experiment()",
            fix="leave them out: parallel=N spreads the stages over N processes, and processes of your own may use one "
            "cache at the same time (with parallel_mode=True they keep no records of their own)",
        )


EXCLUSIVE = (
    ("--map", "--hashes", "--paths", "--print-params"),
    ("--lazy", "--ignore-lazy"),
    ("--parallel-safe", "--store-full"),
    *((one, kept) for one in ("--dry", "--parallel-safe") for kept in ("--notebook", "--docker")),
)


def _check_combinations(given: Mapping[str, bool]) -> None:
    for flags in EXCLUSIVE:
        together = [flag for flag in flags if given.get(flag)]
        if len(together) > 1:
            raise ConfigurationError(f"{' and '.join(together)} cannot go together.", fix="leave one of them out")


@contextmanager
def _shown(display: Progress | None, *, plain: bool) -> Iterator[None]:
    """Let the terminal show warnings as the display does, in colour or without."""
    if display is None:
        yield
        return
    with coloured(plain=plain), shown_warnings(display.warned):
        yield


def _look(run: ExperimentRun, flag: str, print_params: bool | str | None, *, say_it: bool, with_hashed: bool) -> Any:
    if flag == "--print-params":
        wanted = print_params if isinstance(print_params, str) else None
        return run.look_at_params(say_it, wanted, with_hashed=with_hashed)
    return {"--map": run.look_at_map, "--hashes": run.look_at_hashes, "--paths": run.look_at_paths}[flag](say_it)


# --- what there is ---------------------------------------------------------------------------------------------------
@keywords()
def list_experiments() -> list[str]:
    """The experiments of the project around the current folder, sorted.

    Returns
    -------
    list of str
        Of each its name, with the first line of its docstring after a dash, or why it cannot be imported in brackets.
    """
    experiments, _ = project_modules.runnable(load_config())
    return sorted(map(_entry_text, experiments))


@keywords()
def list_params() -> list[str]:
    """The modules of the project around the current folder that have parameter sets; see `list_experiments`."""
    _, params = project_modules.runnable(load_config())
    return sorted(map(_entry_text, params))


@keywords()
def regex_lister(module_name: str, regex: str, try_import: bool = True) -> list[str]:
    """The modules of a package of the project in whose source a regular expression matches.

    Parameters
    ----------
    module_name : str
        The package, such as ``experiments``.
    regex : str
        Matched line by line.
    try_import : bool
        Import them, for their docstrings and errors as in `list_experiments`; otherwise their names are listed alone.
    """
    config = load_config()
    folder = module_name.replace(".", "/")
    pattern = re.compile(regex, re.MULTILINE)
    files = module_files(config, folder)
    if not files and not (config.root / folder).is_dir():
        warnings.warn(f"there is no package {module_name!r} in {config.root}, so it has no modules", stacklevel=3)
    found = [name for name, path in files.items() if pattern.search(path.read_text(encoding="utf-8", errors="replace"))]
    return [_entry_text(project_modules.describe(config, folder, name)) for name in found] if try_import else found


def _entry_text(entry: ModuleEntry) -> str:
    if entry.error:
        return f"{entry.name} [ERROR - {entry.error}]"
    return f"{entry.name} - {entry.summary}" if entry.summary else entry.name
