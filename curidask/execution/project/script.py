"""What a script or a notebook defines: packed for workers, watched for changes, and set up as a worker's ``__main__``.

Its functions and classes travel, and the other values that those name. On a worker all of them have one namespace, that
of ``__main__``, as here.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import pickle
import sys
import threading
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import spawn
from pathlib import Path
from typing import Any

from curidask.core.spec import StageSpec
from curidask.execution.project import importer
from curidask.execution.project import project_files as left_out
from curidask.execution.project.by_value import MAIN, CodePickler, names_of, namespace_of_script, pickled
from curidask.execution.project.project_files import is_tool, moved

KEPT = ("__file__", "__package__")
"""What of the names that Python gives to every module is the script's own."""

BY_NAME = frozenset({"globals", "vars", "eval", "exec", "__main__"})
"""Code that uses one of these may get at a value without naming it."""

PLAIN = (int, float, complex, str, bytes, bool, type(None))

Function = types.FunctionType | types.BuiltinFunctionType


@dataclass(frozen=True, slots=True)
class Made:
    """A value that is made on the worker instead of sent."""

    make: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """What a script defines, as far as it travels.

    Attributes
    ----------
    values : mapping of str to object
        By name.
    left_out : mapping of str to str
        Names whose values cannot travel, and why.
    """

    values: Mapping[str, Any]
    left_out: Mapping[str, str]


# --- on the driver ---------------------------------------------------------------------------------------------------
def script_of(specs: Iterable[StageSpec], names: Collection[str] = ()) -> Script:
    """What of ``__main__`` stages may need, and these names."""
    values: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name, value in _with_stand_ins(_reachable(specs, names)).items():
        try:
            pickled(CodePickler, value)
            values[name] = value
        except Exception as error:
            left_out[name] = f"{type(error).__name__}: {error}"
    return Script(values, left_out)


class Watch:
    """Tells whether what a script defines has changed since it was packed.

    Functions and classes are compared by what they are, other values by their contents, since those change in place.
    """

    def __init__(self) -> None:
        self._marks: list[Any] = []

    def has_changed(self, specs: Iterable[StageSpec], names: Collection[str] = ()) -> bool:
        """Whether it has since the last call."""
        marks = list(_marks(_reachable(specs, names)))
        is_same = len(marks) == len(self._marks) and all(
            a is b or (type(a) is bytes and a == b) for a, b in zip(marks, self._marks, strict=True)
        )
        self._marks = marks  # which keeps the objects, so that no new one has the place of an old one
        return not is_same


def script_namespace() -> Mapping[str, Any]:
    """What ``__main__`` holds, where it is a script or a notebook."""
    main = sys.modules["__main__"]
    return {} if is_tool(main) else namespace_of_script(main)


def _reachable(specs: Iterable[StageSpec], names: Collection[str]) -> dict[str, Any]:
    """The functions and classes of ``__main__``, and what they and the stages name."""
    held = script_namespace()
    found = {n: v for n, v in held.items() if getattr(v, "__module__", None) in MAIN and _is_code(v)}
    pending: list[Any] = [*found.values(), *(spec.function for spec in specs)]
    seen: dict[int, Any] = {}

    def add(names: Collection[str]) -> None:
        for name in names if BY_NAME.isdisjoint(names) else [*names, *held]:
            if name in held and name not in found and (not name.startswith("__") or name in KEPT):
                found[name] = held[name]
                pending.extend(_code_in(held[name]))

    add(sorted(names))
    while pending:
        value = pending.pop()
        if id(value) not in seen:
            seen[id(value)] = value
            add(_names_in(value))
    if found:
        found |= {name: held[name] for name in KEPT if name in held}
    return found


def _is_code(value: Any) -> bool:
    return isinstance(value, types.FunctionType | type)


def _code_in(value: Any) -> Iterator[Any]:
    """A value, and what a plain container holds."""
    yield value
    held = value.values() if type(value) is dict else value if type(value) in (list, tuple, set) else ()
    yield from (part for part in held if callable(part))


def _names_in(value: Any) -> set[str]:
    """The global names in the code of a function or of a class's functions, and of what they wrap."""
    if isinstance(value, type):
        members = vars(value).values() if value.__module__ in MAIN else ()
        return {name for member in members for name in _names_in(member) if not isinstance(member, type)}
    names: set[str] = set()
    for attribute in ("__wrapped__", "__func__", "func", "fget", "fset", "fdel"):
        inner = _attribute(value, attribute)
        if isinstance(inner, types.FunctionType) and inner is not value:
            names |= _names_in(inner)
    code = getattr(value, "__code__", None)
    return names | names_of(code) if isinstance(code, types.CodeType) else names


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # an object that is made when it is first looked at
        return None


def _marks(found: Mapping[str, Any]) -> Iterator[Any]:
    for name, value in found.items():
        yield name
        if isinstance(value, type) and value.__module__ in MAIN:
            yield value
            for key, member in vars(value).items():
                yield key
                yield member if not isinstance(member, list | dict | set) else _digest(member)
        elif isinstance(value, PLAIN) or callable(value) or isinstance(value, types.ModuleType):
            yield value
        else:
            yield _digest(value)


def _digest(value: Any) -> Any:
    try:
        return pickled(_StatePickler, value)
    except Exception:  # it does not travel
        return value


class _StatePickler(pickle.Pickler):
    """Takes code by what it is, and everything else by its contents."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | Function | types.ModuleType):
            return id, (id(obj),)
        return NotImplemented


# --- what is made there ----------------------------------------------------------------------------------------------
def _with_stand_ins(found: Mapping[str, Any]) -> dict[str, Any]:
    """Values, with those that came from a module by ``from module import name``, and those that belong to a process."""
    special = {id(v): v for v in found.values() if not isinstance(v, PLAIN) and not _is_code(v)}
    places = _places(special)
    made = {at: Made(_imported, places[at]) if at in places else _fresh(value) for at, value in special.items()}
    return {name: made.get(id(value)) or value for name, value in found.items()}


def _places(values: Mapping[int, Any]) -> dict[int, tuple[str, str]]:
    """Under which names modules hold these values, by their identities."""
    found: dict[int, tuple[str, str]] = {}
    for module, loaded in list(sys.modules.items()) if values else ():
        if not module.startswith("__") and getattr(loaded, "__file__", None):
            for name, value in list(vars(loaded).items()):
                if id(value) in values and not isinstance(value, types.ModuleType):
                    found.setdefault(id(value), (module, name))
    return found


def _imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _fresh(value: Any) -> Made | None:
    if isinstance(value, contextvars.ContextVar):
        try:
            return Made(_context_var, (value.name, contextvars.Context().run(value.get)))
        except LookupError:
            return Made(contextvars.ContextVar, (value.name,))
    for kind in (threading.Lock, threading.RLock, threading.local):
        if type(value) is type(kind()):
            return Made(kind)
    return None


def _context_var(name: str, default: Any) -> contextvars.ContextVar[Any]:
    return contextvars.ContextVar(name, default=default)


# --- on the worker ---------------------------------------------------------------------------------------------------
CHILD = """
from curidask.execution.project.script import set_up_child
globals().update(set_up_child(__file__))
"""
"""What a child process that a stage spawned runs as its ``__main__``."""

_before: dict[str, Any] = {}
"""What ``__main__`` held under the names that came, as far as it did."""
_names: list[str] = []


def set_up(script: Script) -> None:
    """Make this the contents of ``__main__``, in the place of those of an earlier script."""
    main = vars(sys.modules["__main__"])
    for name in _names:
        main.pop(name, None)
    main.update(_before)
    values = {name: v.make(*v.arguments) if isinstance(v, Made) else v for name, v in script.values.items()}
    project = importer.entered()
    if "__file__" in values and project is not None:
        values["__file__"] = moved(values["__file__"], project.origin, str(project.root))
    _names[:] = values
    _before.clear()
    _before.update({name: main[name] for name in values if name in main})
    main.update(values)
    left_out.set_names(script.left_out)


def give_to_children(stages: bytes, scratch: str) -> None:
    """Let processes that stages spawn have the script too: they start with an empty ``__main__``.

    Python would have them run the script's file again, which a worker may not have, and which may have been edited.
    """
    file = Path(scratch, "curidask_script.py")
    file.unlink(missing_ok=True)
    give = functools.partial(_preparation_data, file, stages)
    spawn.get_preparation_data = give if _names else _usual_preparation_data


_usual_preparation_data = spawn.get_preparation_data


def _preparation_data(file: Path, stages: bytes, name: str) -> dict[str, Any]:
    data: dict[str, Any] = _usual_preparation_data(name)
    if not file.exists():
        project = importer.entered()
        file.with_suffix(".pickle").write_bytes(pickle.dumps((project and project.copied(), stages)))
        file.write_text(CHILD, encoding="utf-8")
    data.pop("init_main_from_name", None)
    return data | {"init_main_from_path": str(file)}


def set_up_child(file: str) -> dict[str, Any]:
    """Import from the same sources as the worker, and give what the script defines."""
    project, stages = pickle.loads(Path(file).with_suffix(".pickle").read_bytes())
    if project is not None:
        importer.enter(project)
    set_up(pickle.loads(stages)[0])
    main = vars(sys.modules["__main__"])
    return {name: main[name] for name in _names}
