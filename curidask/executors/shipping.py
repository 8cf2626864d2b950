"""The code of a run on its way to the workers, as opaque bytes that only our function there unpickles.

A project's modules travel as source and are imported, see `curidask.executors.project_files`; stages and classes in
them are named. By value goes only what has no file: what a script or a notebook defines, which becomes the worker's
``__main__``, and functions that no name leads to, such as lambdas among the parameters. Those have the namespace of
their module there, as here.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import marshal
import pickle
import sys
import threading
import types
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cloudpickle

from curidask.clusters.checks import require_cache
from curidask.errors import CuridaskError, ModuleImportError, UnpicklableError
from curidask.executors import project_files
from curidask.executors.base import Job
from curidask.executors.describe import user_traceback
from curidask.executors.environment import Environment
from curidask.executors.project_files import Place, ProjectCode
from curidask.executors.project_imports import for_project
from curidask.hash_fields import field_values
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
def pack_code(specs: Sequence[StageSpec], env: Environment, place: Place) -> tuple[str, bytes]:
    """Pack stages.

    Parameters
    ----------
    specs : sequence of StageSpec
    env : Environment
    place : Place
        Where the workers are to have the project.

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
        stages = _pickled(_CodePickler, (_main_contents(specs), tuple(specs)))
    except Exception as error:
        _explain(specs, error)
        raise
    data = pickle.dumps((env, place, stages), protocol=pickle.HIGHEST_PROTOCOL)
    return hashlib.sha256(data).hexdigest()[:32], data


def pack_jobs(
    jobs: Sequence[Job], after: Mapping[int, Sequence[int]], code_id: str, places: Mapping[int, int]
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
    except Exception:  # a lambda among the parameters, for one
        try:
            return _dump(_CloudJobPickler, rows, code_id, places)
        except Exception as error:
            for job in jobs:
                _check_job(job, error)
            raise


def _dump(pickler: type[Any], rows: Sequence[Row], code_id: str, places: Mapping[int, int]) -> bytes:
    return _pickled(pickler, rows, code_id=code_id, places=places)


def _pickled(pickler: type[Any], value: Any, **attributes: Any) -> bytes:
    buffer = io.BytesIO()
    dumper = pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL)
    for name, held in attributes.items():
        setattr(dumper, name, held)
    dumper.dump(value)
    return buffer.getvalue()


class _JobPickler(pickle.Pickler):
    """Pickles by reference, stages by their place in the code."""

    code_id: str
    places: Mapping[int, int]

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, StageSpec):
            return _spec_at, (self.code_id, self.places[id(obj)])
        return NotImplemented


class _CodePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles by reference what has a name in a module with a file, and by value what has none."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, StageSpec):
            name = _name_of_stage(obj)
            return NotImplemented if name is None else (_named_stage, name)
        if isinstance(obj, types.FunctionType):
            return NotImplemented if _is_named(obj) else _reduced_function(obj)
        return super().reducer_override(obj)


class _CloudJobPickler(_CodePickler):
    """The same for jobs."""

    code_id: str
    places: Mapping[int, int]

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, StageSpec):
            return _spec_at, (self.code_id, self.places[id(obj)])
        return super().reducer_override(obj)


# --- what has a name -------------------------------------------------------------------------------------------------
def _name_of_stage(spec: StageSpec) -> tuple[str, str] | None:
    """Module and qualified name under which a worker that imports the module finds the stage."""
    module, qualname = getattr(spec.function, "__module__", ""), getattr(spec.function, "__qualname__", "")
    found = _look_up(module, qualname)
    return (module, qualname) if getattr(found, "spec", None) is spec else None


def _is_named(function: types.FunctionType) -> bool:
    return _look_up(function.__module__, function.__qualname__) is function


def _look_up(module: str | None, qualname: str) -> Any:
    found: Any = sys.modules.get(module or "")
    if found is None or module == "__main__" or getattr(found, "__file__", None) is None:
        return None
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _named_stage(module: str, qualname: str) -> StageSpec:
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    spec: StageSpec = found.spec
    return spec


# --- functions by value ----------------------------------------------------------------------------------------------
def _reduced_function(function: types.FunctionType) -> tuple[Any, ...]:
    """A function by its code, with the namespace of the module that it was made in.

    What it refers to is filled in afterwards, since that may be the function itself.
    """
    module = str(function.__globals__.get("__name__", "__main__"))
    if getattr(sys.modules.get(module), "__dict__", None) is not function.__globals__:
        module = "__main__"  # made by exec() in a namespace of its own: the names it uses are those of the script
    cells = function.__closure__ or ()
    made = (marshal.dumps(function.__code__), module, function.__name__, len(cells))
    filled = {
        "cells": [_cell_contents(cell) for cell in cells],
        "__qualname__": function.__qualname__,
        "__module__": function.__module__,
        "__doc__": function.__doc__,
        "__defaults__": function.__defaults__,
        "__kwdefaults__": function.__kwdefaults__,
        "__annotations__": function.__annotations__,
        "__dict__": dict(function.__dict__),
    }
    return _made_function, made, filled, None, None, _fill_function


def _cell_contents(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not filled yet
        return ()


def _made_function(code: bytes, module: str, name: str, n_cells: int) -> types.FunctionType:
    namespace = vars(importlib.import_module(module))
    cells = tuple(types.CellType() for _ in range(n_cells))
    moved = project_files.moved_code(marshal.loads(code), _home[0], _home[1]) if _home else marshal.loads(code)
    return types.FunctionType(moved, namespace, name, None, cells)


def _fill_function(function: types.FunctionType, filled: dict[str, Any]) -> None:
    for cell, contents in zip(function.__closure__ or (), filled.pop("cells"), strict=True):
        if contents:
            cell.cell_contents = contents[0]
    function.__dict__.update(filled.pop("__dict__"))
    for name, value in filled.items():
        setattr(function, name, value)


# --- scripts and notebooks -------------------------------------------------------------------------------------------
def _main_contents(specs: Iterable[StageSpec]) -> dict[str, Any]:
    """What of ``__main__`` stages may need: its functions and classes, and what those name.

    What cannot travel, such as an open file or a lock, is left out.
    """
    held = vars(sys.modules["__main__"])
    defined = {n: v for n, v in held.items() if getattr(v, "__module__", None) == "__main__" and _is_code(v)}
    pending = [*defined.values(), *(spec.function for spec in specs)]
    found: dict[str, Any] = dict(defined)
    seen: set[int] = set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        for name in _names_in(value):
            if name in held and name not in found and not name.startswith("__"):
                found[name] = held[name]
                pending.append(held[name])
    return {name: value for name, value in found.items() if _travels(value)}


def _is_code(value: Any) -> bool:
    return isinstance(value, types.FunctionType | type)


def _names_in(value: Any) -> set[str]:
    """The global names in the code of a function or of a class's functions, and of what they wrap."""
    if isinstance(value, type):
        members = [m.__func__ if isinstance(m, classmethod | staticmethod) else m for m in vars(value).values()]
        members = [getattr(m, "fget", m) for m in members]
        return {name for member in members if isinstance(member, types.FunctionType) for name in _names_in(member)}
    wrapped = getattr(value, "__wrapped__", None)
    names = _names_in(wrapped) if wrapped is not None else set()
    code = getattr(value, "__code__", None)
    return names | _names_of(code) if isinstance(code, types.CodeType) else names


def _names_of(code: types.CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names_of, inner))


def _travels(value: Any) -> bool:
    try:
        _pickled(_CodePickler, value)
    except Exception:
        return False
    return True


def _explain(specs: Sequence[StageSpec], error: Exception) -> None:
    for spec in specs:
        try:
            _pickled(_CodePickler, spec)
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
    for kind, values in (("parameter", fields), ("keyword argument", given)):
        for name, value in values.items():
            try:
                _pickled(_CodePickler, value)
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
_project: list[str] = []
"""What identifies the project's code that is imported."""
_home: list[str] = []
"""The project's folder on the driver, and here."""
_main_names: list[str] = []
"""What came into ``__main__`` with the code."""


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
            found = load_code(code_id, code, project, scratch), load_jobs(batch_id, batch)
        yield found


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
    _enter_project(project, place, env.run, scratch)
    contents, specs = _imported(stages)
    main = vars(sys.modules["__main__"])
    for name in _main_names:
        main.pop(name, None)
    main.update(contents)
    _main_names[:] = contents
    _codes[code_id] = Code(code_id, specs, env)
    _active[:] = [code_id]
    return _codes[code_id]


def _enter_project(project: bytes, place: Place, run: str, scratch: str) -> None:
    """Import from the project as it was then, unless that is so already."""
    wanted = [hashlib.sha256(project).hexdigest(), run]
    if _project == wanted:
        return
    _project.clear()
    code: ProjectCode = pickle.loads(project)
    _home[:] = [code.root, project_files.enter(code, place, run, scratch)]
    _project[:] = wanted


def _imported(stages: bytes) -> Any:
    try:
        with for_project():
            return pickle.loads(stages)
    except CuridaskError:
        raise
    except Exception as error:
        raise ModuleImportError(
            f"The project's code cannot be imported on a worker: {type(error).__name__}: {error}",
            where=_home[1],
            fix="a module is imported on each worker: keep what works on one machine only out of its top level",
            traceback_text=user_traceback(error),
        ) from error


def load_jobs(batch_id: str, data: bytes) -> tuple[Row, ...]:
    """Unpack a batch of jobs; the code they name must be the current one."""
    jobs = _batches.get(batch_id)
    if jobs is None:
        with for_project():
            jobs = _batches[batch_id] = pickle.loads(data)
        if len(_batches) > KEPT_BATCHES:
            _batches.popitem(last=False)
    return jobs


def _spec_at(code_id: str, place: int) -> StageSpec:
    return _codes[code_id].specs[place]
