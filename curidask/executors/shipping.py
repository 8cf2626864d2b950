"""The project's code by value: packed on the driver into bytes, set up on a worker as modules.

Workers need not have the project, and must not use another version of it, so whatever the project's modules hold is
cloudpickled by value once a run. On the worker the objects are put into modules of the same names, so that classes
pickle by reference there and mean the same class on both sides. The bytes are opaque to the scheduler.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import io
import pickle
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import cloudpickle

from curidask.caching import by_value
from curidask.clusters.checks import require_cache
from curidask.errors import UnpicklableError
from curidask.executors import project_files
from curidask.executors.base import Job
from curidask.executors.environment import Environment
from curidask.executors.project_files import Outfit
from curidask.stage_spec import StageSpec

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
    env : Environment
    """

    id: str
    specs: tuple[StageSpec, ...]
    env: Environment


# --- driver ----------------------------------------------------------------------------------------------------------
def pack_code(
    specs: Sequence[StageSpec], env: Environment, modules: Sequence[ModuleType], outfit: Outfit | None = None
) -> tuple[str, bytes]:
    """Pack stages and the project's modules.

    Parameters
    ----------
    specs : sequence of StageSpec
    env : Environment
    modules : sequence of ModuleType
        The project's modules (not installed packages); what they hold goes by value.
    outfit : Outfit, optional
        For workers on other machines.

    Returns
    -------
    tuple of str and bytes
        The digest, and the bytes for `load_code`.

    Raises
    ------
    UnpicklableError
        Naming the stage whose code cannot travel.
    """
    with _by_value(modules):
        contents = {module.__name__: _portable_contents(module) for module in modules}
        paths = _package_paths(modules)
        try:
            data = by_value.dumps((tuple(specs), contents, paths, env, outfit))
        except Exception as error:
            _explain(specs, error)
            raise
    return hashlib.sha256(data).hexdigest()[:32], data


def pack_jobs(
    jobs: Sequence[Job],
    after: Mapping[int, Sequence[int]],
    code_id: str,
    places: Mapping[int, int],
    modules: Callable[[], Sequence[ModuleType]],
) -> bytes:
    """Pack jobs with what each waits for; their stages are named by their places (by ``id(spec)``) in the code.

    Raises
    ------
    UnpicklableError
        Naming the job whose parameters or keyword arguments cannot travel.
    """
    rows = tuple((job, tuple(after.get(job.id, ()))) for job in jobs)
    try:
        return _dump(_JobPickler, rows, code_id, places)
    except Exception:  # a lambda among the parameters, for one: cloudpickle takes it
        with _by_value(modules()):
            try:
                return _dump(_CloudJobPickler, rows, code_id, places)
            except Exception as error:
                for job in jobs:
                    _check_job(job, error)
                raise


def _dump(pickler: type[Any], rows: Sequence[Row], code_id: str, places: Mapping[int, int]) -> bytes:
    buffer = io.BytesIO()
    dumper = pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL)
    dumper.code_id, dumper.places = code_id, places
    dumper.dump(rows)
    return buffer.getvalue()


class _JobPickler(pickle.Pickler):
    """Pickles by reference, stages by their place in the code."""

    code_id: str
    places: Mapping[int, int]

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, StageSpec):
            return _spec_at, (self.code_id, self.places[id(obj)])
        return NotImplemented


class _CloudJobPickler(by_value.Pickler):
    """The same for what only cloudpickle can pickle."""

    code_id: str
    places: Mapping[int, int]

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, StageSpec):
            return _spec_at, (self.code_id, self.places[id(obj)])
        return super().reducer_override(obj)


@contextmanager
def _by_value(modules: Sequence[ModuleType]) -> Iterator[None]:
    registered = []
    known = cloudpickle.list_registry_pickle_by_value()
    for module in modules:
        if module.__name__ != "__main__" and module.__name__ not in known:
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _package_paths(modules: Sequence[ModuleType]) -> dict[str, list[str]]:
    """Where the modules and the packages around them look for submodules, for workers that share the disk."""
    names: dict[str, None] = {}
    for module in modules:
        parts = module.__name__.split(".")
        names.update((".".join(parts[: i + 1]), None) for i in range(len(parts)))
    return {name: list(getattr(sys.modules.get(name), "__path__", [])) for name in names}


def _portable_contents(module: ModuleType) -> dict[str, Any]:
    """What a module holds and can travel: not what it imported as a module, nor open files, locks and the like."""
    contents = {}
    for name, value in vars(module).items():
        if (name.startswith("__") and name.endswith("__")) or isinstance(value, ModuleType):
            continue
        try:
            by_value.dumps(value)
        except Exception:
            continue
        contents[name] = value
    return contents


def _explain(specs: Sequence[StageSpec], error: Exception) -> None:
    for spec in specs:
        try:
            by_value.dumps(spec)
        except Exception as cause:
            raise UnpicklableError(
                f"The code of stage {spec.name!r} cannot be sent to worker processes: {cause}",
                where=spec.where,
                fix="make what cannot be pickled (a lock, an open file) inside the function instead of at "
                "the top of the module, or run in this process with --parallel 0",
            ) from error


def _check_job(job: Job, error: Exception) -> None:
    fields = {name: getattr(job.record.params, name) for name in getattr(job.record.params, "__dict__", {})}
    for kind, values in (("parameter", fields), ("keyword argument", job.kwargs)):
        for name, value in values.items():
            try:
                by_value.dumps(value)
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


class Gate:
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


gate = Gate()
_loading = threading.Lock()


@contextmanager
def loaded(
    code_id: str, code: bytes, batch_id: str, batch: bytes, *, files: bytes = b"", scratch: str = ""
) -> Iterator[tuple[Code, tuple[Row, ...]]]:
    """The code and the jobs of a batch, set up in this process for as long as jobs of it run.

    Parameters
    ----------
    code_id, code : str and bytes
        See `pack_code`.
    batch_id, batch : str and bytes
        See `pack_jobs`.
    files : bytes
        See `curidask.executors.project_files.ProjectFiles.pack`.
    scratch : str
        The worker's own folder.
    """
    with gate.passed(code_id):
        with _loading:
            found = load_code(code_id, code, files, scratch), load_jobs(batch_id, batch)
        yield found


def load_code(code_id: str, data: bytes, files: bytes = b"", scratch: str = "") -> Code:
    """Set up a run's code in this process, once, and make its modules the current ones."""
    code = _codes.get(code_id)
    if code is None or _active != [code_id]:
        specs, contents, paths, env, outfit = pickle.loads(data)
        _active.clear()
        if outfit is not None:
            require_cache(env.store, outfit.cache_id)
            home = project_files.enter(outfit, env.run, files, scratch)
            paths = {n: [project_files.moved(p, outfit.root, home) for p in path] for n, path in paths.items()}
            objects = [value for objects in contents.values() for value in objects.values()]
            project_files.move_constants([*specs, *objects], outfit.root, home)
        for name, path in paths.items():
            _set_up_module(name, contents.get(name, {}), path)
        # A worker serves one run at a time, so one code is current; another run's comes back from its bytes, never from
        # what is left of an earlier one.
        code = Code(code_id, specs, env)
        _codes.clear()
        _batches.clear()
        _codes[code_id] = code
        _active[:] = [code_id]
    return code


def load_jobs(batch_id: str, data: bytes) -> tuple[Row, ...]:
    """Unpack a batch of jobs; the code they name must be the current one."""
    jobs = _batches.get(batch_id)
    if jobs is None:
        jobs = _batches[batch_id] = pickle.loads(data)
        if len(_batches) > KEPT_BATCHES:
            _batches.popitem(last=False)
    return jobs


def _spec_at(code_id: str, place: int) -> StageSpec:
    return _codes[code_id].specs[place]


def _set_up_module(name: str, objects: Mapping[str, Any], path: list[str]) -> None:
    if name == "__main__":
        vars(sys.modules["__main__"]).update(objects)
        return
    parent, _, child = name.rpartition(".")
    module = ModuleType(name)
    spec = importlib.machinery.ModuleSpec(name, None, is_package=bool(path))
    if path:
        spec.submodule_search_locations = list(path)
        module.__path__ = list(path)
    module.__spec__ = spec
    module.__package__ = name if path else parent
    vars(module).update(objects)
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], child, module)
