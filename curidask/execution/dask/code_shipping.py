"""The code of a run on its way to the workers, as opaque bytes that only our function there unpickles.

A project's modules travel as source and are imported, see `curidask.execution.project.project_files`; stages and
classes in them are named. What has no file goes by value, see `curidask.execution.project.by_value`.
"""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from curidask.clusters.preflight import require_cache
from curidask.core.graph import Literal
from curidask.core.hash_fields import field_values
from curidask.core.spec import StageSpec
from curidask.errors import CuridaskError, ModuleImportError, UnpicklableError
from curidask.execution.base import Environment, Job
from curidask.execution.process import monitor
from curidask.execution.process.project_state import Stay
from curidask.execution.project import importer, project_files
from curidask.execution.project.by_value import CodePickler, pickled
from curidask.execution.project.project_files import Place
from curidask.execution.project.script import Script, give_to_children, script_namespace, script_of, set_up
from curidask.execution.tracebacks import user_traceback


# --- who may use a process that others use as well: the jobs of one code at a time -----------------------------------
class CodeLock:
    """Lets the jobs of one code at a time into a process, in the order in which they come.

    A process has one set of modules and one current folder. With one thread a worker nobody ever waits; a scheduler
    that others set up may have workers with more threads, and drivers that use them at the same time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._code_id = ""
        self._n_inside = 0

    @contextmanager
    def passed(self, code_id: str) -> Iterator[None]:
        """Wait for the turn of a job of this code, and hold the turn while it runs."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            # Race: A's jobs keep coming while B's waits. Since B's stands before the later ones of A, it gets its turn.
            self._changed.wait_for(lambda: self._queue[0] is ticket and self._admits(code_id))
            self._queue.popleft()
            self._code_id = code_id
            self._n_inside += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._n_inside -= 1
                self._changed.notify_all()

    def _admits(self, code_id: str) -> bool:
        return not self._n_inside or self._code_id == code_id


# --- code shipping ---------------------------------------------------------------------------------------------------
KEPT_BATCHES = 8
"""Unpacked batches that a worker keeps: the jobs of a batch come to it interleaved with those of a few others."""


Row = tuple[Job, tuple[int, ...]]
"""A job, and the jobs it waits for."""


@dataclass(frozen=True, slots=True)
class Code:
    """What a run needs on a worker before its first job.

    Attributes
    ----------
    id : str
        Digest of the bytes.
    specs : tuple of StageSpec
        The stages; a batch names a stage by its place.
    stay : Stay
        Of the project that the code belongs to.
    """

    id: str
    specs: tuple[StageSpec, ...]
    env: Environment
    stay: Stay


# --- driver ----------------------------------------------------------------------------------------------------------
def pack_code(
    specs: Sequence[StageSpec], env: Environment, place: Place, names: Collection[str] = ()
) -> tuple[str, bytes]:
    """Pack stages.

    Parameters
    ----------
    place : Place
        Where the workers are to have the project.
    names : collection of str
        What jobs need of the script beyond that, see `pack_jobs`.

    Returns
    -------
    tuple of str and bytes
        The digest, and the bytes for `load_code`.

    Raises
    ------
    UnpicklableError
        Naming the stage whose code cannot travel.
    """
    try:
        stages = pickled(CodePickler, (script_of(specs, names), tuple(specs)))
    except Exception as error:
        _explain(specs, error)
        raise
    data = pickle.dumps((env, place, stages), protocol=pickle.HIGHEST_PROTOCOL)
    return hashlib.sha256(data).hexdigest()[:32], data


def pack_jobs(
    jobs: Sequence[Job], after: Mapping[int, Sequence[int]], places: Mapping[int, int]
) -> tuple[bytes, set[str]]:
    """Pack jobs with what each waits for; their stages are named by their places (by ``id(spec)``) in the code.

    Returns
    -------
    bytes and set of str
        And what they need of the script: what functions name that travel with them by value.

    Raises
    ------
    UnpicklableError
        Naming the job whose parameters or keyword arguments cannot travel.
    """
    rows = tuple((job, tuple(after.get(job.id, ()))) for job in jobs)
    names: set[str] = set()
    try:
        return pickled(_JobPickler, rows, places=places), names
    except Exception:  # a lambda among the parameters, for one
        try:
            return pickled(_CloudJobPickler, rows, places=places, script=script_namespace(), names=names), names
        except Exception as error:
            for job in jobs:
                _check_job(job, error)
            raise


class _JobPickler(pickle.Pickler):
    """Pickles by reference, stages by their place in the code."""

    places: Mapping[int, int]

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, StageSpec):
            return _spec_at, (self.places[id(obj)],)
        return NotImplemented


class _CloudJobPickler(CodePickler):
    """The same for jobs."""

    places: Mapping[int, int]

    def by_value(self, obj: Any) -> Any:
        if isinstance(obj, StageSpec):
            return _spec_at, (self.places[id(obj)],)
        return super().by_value(obj)


def _explain(specs: Sequence[StageSpec], error: Exception) -> None:
    for spec in specs:
        try:
            pickled(CodePickler, spec)
        except Exception as cause:
            raise UnpicklableError(
                f"The code of stage {spec.name!r} cannot be sent to worker processes: {cause}",
                where=spec.where,
                fix="make what cannot be pickled (a lock, an open file) inside the function instead of at "
                "the top of the script, or run in this process with --parallel 0",
            ) from error


def _check_job(job: Job, error: Exception) -> None:
    fields = {} if job.record.params is None else field_values(job.record.params)
    given = {name: literal.value for name, literal in job.kwargs.items()}
    state = {name: source.value for name, source in job.inputs.items() if isinstance(source, Literal)}
    for kind, values in (("parameter", fields), ("keyword argument", given), ("value in the state", state)):
        for name, value in values.items():
            try:
                pickled(CodePickler, value)
            except Exception as cause:
                raise UnpicklableError(
                    f"The {kind} {name!r} ({type(value).__name__}) cannot be sent to worker processes: {cause}",
                    where=job.label,
                    fix="use plain data and make the object inside the stage, or run in this process with --parallel 0",
                ) from error


# --- worker ----------------------------------------------------------------------------------------------------------
_codes: OrderedDict[str, Code] = OrderedDict()
_batches: OrderedDict[str, tuple[Row, ...]] = OrderedDict()
_active: list[str] = []
_stays: dict[tuple[str, str], Stay] = {}
"""The project that is imported, if any, by its code and the run."""


gate = CodeLock()
_loading = threading.Lock()


@contextmanager
def loaded(
    code_id: str, code: bytes, project: bytes, batch_id: str, batch: bytes, scratch: str
) -> Iterator[tuple[Code, tuple[Row, ...]]]:
    """The code and the jobs of a batch, set up in this process for as long as jobs of it run.

    Parameters
    ----------
    code_id, code : str and bytes
        See `pack_code`.
    project : bytes
        A pickled `ProjectCode`.
    batch_id, batch : str and bytes
        See `pack_jobs`.
    scratch : str
        The worker's own folder.
    """
    with gate.passed(code_id):
        with _loading:
            found = load_code(code_id, code, project, scratch)
            jobs = found.stay.load(load_jobs, batch_id, batch)
        yield found, jobs


def load_code(code_id: str, data: bytes, project: bytes, scratch: str) -> Code:
    """Set up a run's code in this process, and make its modules the current ones.

    Raises
    ------
    ModuleImportError
        When one of the project's modules cannot be imported here.
    """
    if _active == [code_id]:
        return _codes[code_id]
    # A worker serves one run at a time, so one code is current; another run's comes back from its bytes, never from
    # what is left of an earlier one.
    _active.clear()
    _codes.clear()
    _batches.clear()
    env, place, stages = pickle.loads(data)
    require_cache(env.store, place.cache_id)
    stay = _enter_project(project, place, env.run, scratch)
    specs = stay.load(_set_up, stages)
    give_to_children(stages, scratch)
    monitor.listen_again()
    _codes[code_id] = Code(code_id, specs, env, stay)
    _active[:] = [code_id]
    return _codes[code_id]


def _enter_project(project: bytes, place: Place, run: str, scratch: str) -> Stay:
    """Import from the project as it was then, unless that is so already."""
    wanted = (hashlib.sha256(project).hexdigest(), run)
    stay = _stays.get(wanted)
    if stay is None:
        _leave_project()
        stay = Stay(is_host=monitor.is_host())
        try:
            project_files.enter(pickle.loads(project), place, run, scratch)
        except BaseException:
            stay.end()
            raise
        _stays[wanted] = stay
    return stay


def _leave_project() -> None:
    importer.leave()
    for stay in _stays.values():
        stay.end()
    _stays.clear()


def _set_up(stages: bytes) -> tuple[StageSpec, ...]:
    """Import the stages, and set up what the script defines."""
    try:
        script: Script
        specs: tuple[StageSpec, ...]
        script, specs = pickle.loads(stages)
        set_up(script)
        return specs
    except CuridaskError:
        raise
    except Exception as error:
        raise ModuleImportError(
            f"The project's code cannot be imported on a worker: {type(error).__name__}: {error}",
            where=str(project.root) if (project := importer.entered()) else "",
            fix=project_files.what_to_do(error)
            or "a module is imported on each worker: keep what works on one machine only out of its top level",
            traceback_text=user_traceback(error),
        ) from error


def load_jobs(batch_id: str, data: bytes) -> tuple[Row, ...]:
    """Unpack a batch of jobs; the code they name must be the current one."""
    jobs = _batches.get(batch_id)
    if jobs is None:
        try:
            jobs = _batches[batch_id] = pickle.loads(data)
        except (CuridaskError, ImportError):
            raise
        except Exception as error:
            raise UnpicklableError(
                f"What stages are given (parameters, arguments, values in the state) was sent, but a worker cannot "
                f"make it again: {type(error).__name__}: {error}",
                fix="use plain data and make the object inside the stage, or run in this process with --parallel 0",
            ) from error
        if len(_batches) > KEPT_BATCHES:
            _batches.popitem(last=False)
    return jobs


def _spec_at(place: int) -> StageSpec:
    """A stage of the code that is the current one, which is that of the batch."""
    return _codes[_active[0]].specs[place]
