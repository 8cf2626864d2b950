"""Workers as jobs of a batch system (SLURM, PBS, SGE, LSF), through dask-jobqueue.

The scheduler runs in this process.
"""

from __future__ import annotations

import contextlib
import functools
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curidask.clusters.base import Connection
from curidask.clusters.kinds import ClusterKind
from curidask.clusters.lifetime import AFTER_DAYS, HOUR, MINUTE, WallTimes, lifetime_arguments, prologue
from curidask.clusters.managed import check_options, managed
from curidask.clusters.settings import ClusterSettings
from curidask.clusters.tls import CA_CERT, CERT, KEY, TlsFiles, find_tls, make_certificates
from curidask.errors import ClusterError, ConfigurationError

LOOPBACK_ONLY = "127.0.0.1:0"
TAIL_LINES = 15
ASK_SECONDS = 10


@dataclass(frozen=True)
class JobQueue(ClusterKind):
    """A batch system.

    Attributes
    ----------
    class_name : str
        dask-jobqueue's.
    submit : str
        The command that submits a job.
    walltimes : WallTimes
        How it writes how long a job may run.
    tells_states : bool
        Whether ``squeue`` tells of its jobs.
    has_driver : bool
        See `ClusterKind`.
    """

    class_name: str
    submit: str
    walltimes: WallTimes
    tells_states: bool = False
    has_driver: bool = False

    def opener(self, settings: ClusterSettings, folder: Path) -> Callable[[], AbstractContextManager[Connection]]:
        """See `ClusterKind.opener`."""
        return functools.partial(job_queue, self, settings, folder)


@contextlib.contextmanager
def job_queue(queue: JobQueue, settings: ClusterSettings, folder: Path) -> Iterator[Connection]:
    """Submit jobs that are workers.

    Parameters
    ----------
    queue : JobQueue
    settings : ClusterSettings
        Its options go to the class of dask-jobqueue; each job runs workers of one thread.
    folder : Path
        Where the jobs' output goes, unless the options say so; it must be on a disk that the nodes share.

    Raises
    ------
    ConfigurationError, ClusterError
        See `managed`. Workers that do not come are reported with the state and the error output of their jobs.
    """
    cluster_class, job_class = _classes(queue, settings)
    check_options(settings, *_signatures(cluster_class, job_class))
    _check_command(queue, settings)
    jobs = Jobs(queue, str(settings.options.get("log_directory", folder / settings.name)))
    with _options(queue, settings, jobs.folder, folder) as options:

        def make() -> Any:
            made = cluster_class(job_cls=_watched(job_class, jobs), **options)
            jobs.cluster = made
            return made

        fix = f"look at the jobs, e.g. with `{queue.submit}` by hand, and at the options of the cluster"
        with managed(make, settings, trouble=jobs, fix=fix) as connection:
            yield connection


class Jobs:
    """What is known of the jobs of a cluster: what submitting them said, their state, their error output."""

    def __init__(self, queue: JobQueue, folder: str) -> None:
        self.queue = queue
        self.folder = folder
        self.refused: list[str] = []
        self.numbers: list[str] = []
        self.cluster: Any = None

    def words(self) -> str:
        """The state of each job, and the end of its error output."""
        states = self._states()
        lines = list(dict.fromkeys(self.refused))[:3]
        for number in self.numbers[-4:]:
            lines.append(f"job {number}: {states.get(number, 'is not in the queue any more')}")
            lines += [f"  {line}" for line in self._error_output(number)]
        return "\n".join(lines)

    def is_final(self) -> bool:
        """Whether all jobs were refused, or have ended."""
        if self.refused and not self.numbers:
            return True
        return self.queue.tells_states and bool(self.numbers) and not self._states()

    def _states(self) -> dict[str, str]:
        """Of the jobs that are in the queue, the state with its reason."""
        if not (self.queue.tells_states and self.numbers):
            return {}
        command = ["squeue", "--noheader", "--format=%i %T (%r)", f"--jobs={','.join(self.numbers)}"]
        # One that is asked about alone, after it is forgotten, makes squeue fail; then none is there.
        listed = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=False).stdout
        rows = (line.split(maxsplit=1) for line in listed.splitlines() if line.strip())
        return {row[0]: row[1] for row in rows if row[1].split()[0] not in ("COMPLETING", "FAILED", "CANCELLED")}

    def _error_output(self, number: str) -> list[str]:
        lines: list[str] = []
        for path in sorted(Path(self.folder).glob(f"*{number}*")):
            with contextlib.suppress(OSError):
                text = path.read_text(errors="replace").rstrip()
                if text:
                    lines += [f"{path}:", *text.splitlines()[-TAIL_LINES:]]
        return lines


def _classes(queue: JobQueue, settings: ClusterSettings) -> tuple[Any, Any]:
    try:
        with _own_interrupt():
            import dask_jobqueue
    except ImportError as error:
        raise ConfigurationError(
            f"A cluster of kind {settings.kind!r} needs the package dask-jobqueue.",
            where=settings.where,
            fix="pip install 'curidask[slurm]'",
        ) from error
    cluster_class = getattr(dask_jobqueue, queue.class_name)
    return cluster_class, cluster_class.job_cls


@contextlib.contextmanager
def _own_interrupt() -> Iterator[None]:
    """Keep what Ctrl-C does: importing dask-jobqueue makes it end the process as if all were well."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGINT, before)


def _signatures(cluster_class: Any, job_class: Any) -> list[Any]:
    classes = [*cluster_class.__mro__, *job_class.__mro__]
    return [c.__init__ for c in classes if c.__module__.startswith("dask_jobqueue") and "__init__" in vars(c)]


def _check_command(queue: JobQueue, settings: ClusterSettings) -> None:
    command = queue.submit
    if shutil.which(command) is None:
        raise ConfigurationError(
            f"There is no command {command} on this machine, which submits the jobs.",
            where=settings.where,
            fix="run this on a machine of the cluster from which jobs can be submitted",
        )


@contextlib.contextmanager
def _options(queue: JobQueue, settings: ClusterSettings, log_folder: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The options with what we add: one thread a worker, TLS, nothing open but what workers must reach."""
    options = dict(settings.options)
    options.setdefault("cores", 1)
    options.setdefault("processes", options["cores"])
    options["log_directory"] = log_folder
    options["python"] = f"{_python(settings)} -P"  # a job starts in the project's folder, which may have a queue.py
    scheduler = {"dashboard_address": LOOPBACK_ONLY} | dict(options.get("scheduler_options", {}))
    options["scheduler_options"] = scheduler
    arguments = list(options.get("worker_extra_args", ()))
    if "--dashboard-address" not in arguments:
        arguments += ["--dashboard-address", LOOPBACK_ONLY]
    seconds = _walltime(queue, settings)
    if seconds is not None:
        arguments += lifetime_arguments(seconds, arguments)
        options["job_script_prologue"] = [prologue(seconds), *options.get("job_script_prologue", ())]
    options["worker_extra_args"] = arguments
    with contextlib.ExitStack() as stack:
        if not settings.insecure and "security" not in options:
            options |= _secured(settings, options, folder, stack)
        yield options


def _python(settings: ClusterSettings) -> str:
    """The interpreter of the jobs, as these options or dask-jobqueue's own configuration say."""
    import dask

    given = settings.options.get("python") or dask.config.get(f"jobqueue.{settings.kind}.python", None)
    return str(given or shlex.quote(sys.executable))


def _walltime(queue: JobQueue, settings: ClusterSettings) -> int | None:
    """How long a job may run, as these options or dask-jobqueue's own configuration say."""
    import dask

    given = settings.options.get("walltime", dask.config.get(f"jobqueue.{settings.kind}.walltime", None))
    return None if given is None else queue.walltimes.seconds(str(given), settings.where)


def _secured(
    settings: ClusterSettings, options: Mapping[str, Any], folder: Path, stack: contextlib.ExitStack
) -> dict[str, Any]:
    """TLS with the user's certificates, or with some that live as long as the cluster."""
    files = find_tls(settings)
    if files is None:
        parent = Path(options.get("shared_temp_directory") or folder).expanduser()
        try:
            parent.mkdir(parents=True, exist_ok=True)
            # The jobs read their key from there; nobody else can enter the folder.
            shared = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".tls-", dir=parent)))
        except OSError as error:
            raise ClusterError(
                f"The certificates of the jobs cannot be written: {error.strerror or error}.",
                where=str(parent),
                fix="give a folder that the nodes share, with `shared_temp_directory`",
            ) from error
        make_certificates(shared)
        files = TlsFiles(*(str(shared / name) for name in (CA_CERT, CERT, KEY)))
    return {"security": files.as_security(), "protocol": "tls://"}


def _watched(job_class: Any, jobs: Jobs) -> Any:
    """The job class, with its numbers and refusals kept: dask-jobqueue only logs them."""

    class Watched(job_class):  # type: ignore[misc]  # dask-jobqueue has no types
        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:
                jobs.refused.append(_said(error))
                raise
            jobs.numbers.append(str(self.job_id))

    return Watched


def _said(error: Exception) -> str:
    """What the command that submits said, out of dask-jobqueue's report."""
    text = str(error)
    said = text.partition("stderr:\n")[2].strip() or text
    return " ".join(said.split())


_SECONDS = {1: (1,), 2: (MINUTE, 1), 3: AFTER_DAYS}

SLURM = JobQueue(
    "SLURMCluster",
    "sbatch",
    WallTimes("slurm", {1: (MINUTE,), 2: (MINUTE, 1), 3: AFTER_DAYS}, takes_days=True),
    tells_states=True,
    has_driver=True,
)
PBS = JobQueue("PBSCluster", "qsub", WallTimes("pbs", _SECONDS))
SGE = JobQueue("SGECluster", "qsub", WallTimes("sge", _SECONDS))
LSF = JobQueue("LSFCluster", "bsub", WallTimes("lsf", {1: (MINUTE,), 2: (HOUR, MINUTE)}, example="hours:minutes"))
