"""Where the stages of a session run: in this process, in worker processes of this machine, or on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from curidask import clusters
from curidask.core.spec import resources_problem
from curidask.errors import CacheError, ConfigurationError
from curidask.execution.base import Environment, Executor
from curidask.execution.inprocess import InProcessExecutor
from curidask.execution.process.context import NOTHING
from curidask.execution.process.tee import ConsoleTee
from curidask.execution.project.project_files import ProjectFiles
from curidask.session.config import Config
from curidask.session.events import EventBus
from curidask.store.base import Store
from curidask.store.interrupts import held_back


class ExecutorFactory:
    """Chooses where stages run, and makes the executor that runs them there.

    Parameters
    ----------
    store : Store
        A store that lives in one process keeps the stages there too.
    live : bool
        A live session uses this process unless something else is asked for.
    cluster, parallel, insecure, resources, restarts
        As `curidask.manager.ArtifactManager` was given them.

    Attributes
    ----------
    parallel : int
        Worker processes of this machine; 0 for this process, -1 for as many as fit, or for a cluster.

    Raises
    ------
    ConfigurationError, CacheError
        When what is asked for does not go together.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        *,
        live: bool,
        cluster: Any = None,
        parallel: int | None = None,
        insecure: bool = False,
        resources: Mapping[str, float] | None = None,
        restarts: int = 0,
    ) -> None:
        self._config = config
        self._live = live
        self._resources = _checked_resources(config.resources if resources is None else resources)
        self._restarts = restarts
        self._open_cluster = self._choose_cluster(cluster, parallel, insecure)
        self.parallel = self._choose_parallel(parallel, store)

    def _choose_cluster(self, asked: Any, parallel: int | None, insecure: bool) -> clusters.Opener | None:
        if asked is not None and parallel is not None:
            raise ConfigurationError(
                "Both a cluster and a number of local worker processes are asked for.",
                where="--cluster or --scheduler with --parallel",
                fix="leave one of them out; the size of a cluster is set in the configuration",
            )
        if asked is None and parallel is None and not self._live:
            asked = self._config.default_cluster or None
        if asked is None:
            return None
        config = self._config
        folder = config.path(config.logs) / "clusters"
        return clusters.choose(
            asked, config.cluster, root=config.root, source=config.source, folder=folder, insecure=insecure
        )

    def _choose_parallel(self, asked: int | None, store: Store) -> int:
        if not store.objects.shared:
            if asked or self._open_cluster is not None:
                raise CacheError(
                    f"The cache {store.url} lives in one process, so worker processes cannot share it.",
                    fix="use a folder as cache, or run in this process with --parallel 0",
                )
            return 0
        if asked is not None:
            return asked
        if self._open_cluster is not None:
            return -1
        if self._live:
            return 0
        chosen = self._config.parallel
        return -1 if chosen is None else chosen

    def executor(self, env: Environment, bus: EventBus, n_sets: int) -> Executor:
        """Start what runs the stages.

        Parameters
        ----------
        env : Environment
            As it is for jobs of this process.
        bus : EventBus
            Hears what stages say.
        n_sets : int
            More local worker processes than that are not started, unless their number was asked for.
        """
        files = ProjectFiles(self._config.root, self._config.ship)
        files.project()  # from now on a name means the same here as on workers
        if self.parallel == 0:
            hears = ConsoleTee(bus.hear, bus.before_print) if bus.hears else NOTHING
            # Whoever types in a session wants the code that he edits.
            code = nullcontext() if self._live else files.fixed()
            return InProcessExecutor(env, hears, code)
        from curidask.clusters.local import begin_to_start, local

        project_path = files.project().path()
        if self._open_cluster is None:
            begin_to_start(project_path)  # before dask is imported here
        with held_back():  # in a session the next cell needs dask whole
            from curidask.execution.dask.executor import DaskExecutor

        bus.print_if_nobody_does()
        start = partial(
            DaskExecutor,
            env=replace(env, portable=True),
            files=files,
            hear=bus.hear,
        )
        if self._open_cluster is not None:
            return start(self._open_cluster(), reopen=self._open_cluster, restarts=self._restarts)
        n_workers = self.parallel if self.parallel > 0 else max(1, min(clusters.available_cores(), n_sets))
        return start(local(n_workers, {"resources": dict(self._resources)}, project_path))


def _checked_resources(resources: Mapping[str, float]) -> Mapping[str, float]:
    problem = resources_problem(resources)
    if problem:
        raise ConfigurationError(f"`resources` is {resources!r}.", where="ArtifactManager", fix=problem)
    return resources
