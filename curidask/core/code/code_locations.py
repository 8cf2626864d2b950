"""Where modules hold functions and classes, whatever those are called: found by identity, named by the way to them.

Code bears the name that it was defined under. What a class decorator returned, what a function made for a module
(``Local = make()``), a lambda in a table stand somewhere else, and whoever imports the module finds them there.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import pickle
import sys
import sysconfig
import types
import typing
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curidask.errors import ModuleImportError

SCRIPTS = ("__main__", "__mp_main__")
"""Modules that nobody can import: a script, and the same in a child process that multiprocessing spawned."""

_FRAMEWORK = "curidask"
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})

MAX_DEPTH = 5
"""Steps from a module to what it holds at most."""

MAX_ITEMS = 1_000
"""Longer containers are data, and not looked into."""

MAX_PLACES = 50_000
"""How many places are looked at in what modules hold, the shortest ways first."""

Code = (
    type,
    types.FunctionType,
    type(functools.cache(len)),
    functools.cached_property,
    typing.NewType,
    typing.ParamSpec,
)
"""What is the same only if it is the same object."""

PLAIN = (int, float, complex, str, bytes, bool, type(None))

_PASSED = frozenset({*PLAIN, types.ModuleType})

Step = tuple[str, Any]
"""``("attribute", name)``, ``("item", key or index)``, or, where a key is not plain, ``("value", its position)``."""

_MISSING = object()


def is_named(obj: Any) -> bool:
    """Whether whoever imports its module finds an object there by its own name."""
    name = getattr(obj, "__qualname__", getattr(obj, "__name__", ""))
    return bool(name) and look_up(getattr(obj, "__module__", None), name) is obj


def look_up(module: str | None, qualname: str) -> Any:
    """What a loaded module with a file has under a qualified name; None for nothing."""
    found: Any = sys.modules.get(module or "")
    if found is None or module in SCRIPTS or getattr(found, "__file__", None) is None:
        return None
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


@dataclass(frozen=True, slots=True)
class Standing:
    """A place in a module."""

    module: str
    steps: tuple[Step, ...]

    def held(self) -> Any:
        """What stands there.

        Raises
        ------
        ImportError, LookupError
        """
        module = sys.modules.get(self.module) or importlib.import_module(self.module)
        return functools.reduce(_after, self.steps, module)

    def __str__(self) -> str:
        return self.module + "".join(f".{key}" if kind == "attribute" else f"[{key!r}]" for kind, key in self.steps)


class Standings:
    """The places of the code that modules hold, at this moment.

    Parameters
    ----------
    modules : mapping of str to mapping of str to object
        What they hold, by name.
    """

    def __init__(self, modules: Mapping[str, Mapping[str, Any]]) -> None:
        self._ways = _ways_to_code(modules)

    def find(self, obj: Any) -> Standing | None:
        """The place of an object: the shortest way, in the module that defined it if there are several."""
        own, bases = str(getattr(obj, "__module__", None)), makers(obj)
        places = [_standing(way) for way in self._ways.get(id(obj), ())]
        for place in sorted(places, key=lambda p: (len(p.steps), p.module != own, p.module not in bases)):
            with contextlib.suppress(LookupError, ImportError):
                if place.held() is obj:
                    return place
        return None


_kept: dict[str, tuple[Any, Standings]] = {}
_own: dict[str, tuple[list[int], list[str]]] = {"": ([], [])}
"""The modules that were loaded, by their identities, and the names of those that are not installed."""


def of_own_modules() -> Standings:
    """The places in all loaded modules that have a file and are not installed."""
    loaded = sys.modules.copy()
    known, names = _own[""]
    if (now := list(map(id, loaded.values()))) != known:
        names = sorted(name for name, module in loaded.items() if is_own(name, module))
        _own[""] = now, names
    return _kept_standings("", {name: loaded[name] for name in names})


def in_installed(obj: Any) -> Standing | None:
    """The place of an object in its own module, where that is installed."""
    name = str(getattr(obj, "__module__", None))
    module = sys.modules.get(name)
    if name in SCRIPTS or getattr(module, "__file__", None) is None or is_own(name, module):
        return None
    return _kept_standings(name, {name: module}).find(obj)


def _kept_standings(name: str, modules: Mapping[str, Any]) -> Standings:
    """The places in modules, made again only when modules were loaded or got other names.

    What is put into a table later is no matter: nobody else who imports the module finds it there.
    """
    # Not by address: another module may come to lie where one was that is gone.
    state = [(name, weakref.ref(module), len(vars(module))) for name, module in modules.items()]
    kept = _kept.get(name)
    if kept is None or kept[0] != state:
        is_whole = not any(getattr(getattr(m, "__spec__", None), "_initializing", False) for m in modules.values())
        kept = state if is_whole else None, Standings({name: vars(module) for name, module in modules.items()})
        _kept[name] = kept
    return kept[1]


def is_own(name: str, module: Any) -> bool:
    """Whether a module has a file and is not installed, nor the script."""
    file = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
    if not isinstance(file, str) or _is_installed(file):
        return False
    return name not in SCRIPTS and name.partition(".")[0] != _FRAMEWORK


def _is_installed(file: str) -> bool:
    return "site-packages" in file or "dist-packages" in file or file.startswith(_INSTALLED)


def makers(obj: Any) -> list[str]:
    """Modules whose import may put an object into another module."""
    bases = obj.__mro__ if isinstance(obj, type) else (obj,)
    names = [getattr(part, "__module__", None) for part in bases]
    names.append(getattr(obj, "__globals__", {}).get("__name__"))
    return [name for name in dict.fromkeys(names) if isinstance(name, str) and is_own(name, sys.modules.get(name))]


# --- the ways to what modules hold -----------------------------------------------------------------------------------
Way = tuple[Any, Step]
"""The way to a holder, or the name of a module, and a step from there."""


def _standing(way: Way) -> Standing:
    steps: list[Step] = []
    before: Any = way
    while not isinstance(before, str):
        before, step = before
        steps.append(step)
    return Standing(before, tuple(reversed(steps)))


def _ways_to_code(modules: Mapping[str, Mapping[str, Any]]) -> dict[int, list[Way]]:
    found: dict[int, list[Way]] = {}
    holders: dict[int, tuple[Any, list[Way]]] = {}
    for module, held in modules.items():
        for name, value in list(held.items()):
            if not name.startswith("__") and type(value) not in _PASSED:
                holders.setdefault(id(value), (value, []))[1].append((module, ("attribute", name)))
    seen: set[int] = set()
    n_ways = 0
    for _ in range(MAX_DEPTH):
        found |= {at: ways for at, (value, ways) in holders.items() if isinstance(value, Code)}
        seen |= holders.keys()
        inside: dict[int, tuple[Any, list[Way]]] = {}
        for holder, ways in holders.values():
            for step, value in _parts(holder, modules):
                if id(value) not in seen and n_ways < MAX_PLACES:
                    inside.setdefault(id(value), (value, []))[1].extend([(way, step) for way in ways])
                    n_ways += len(ways)
        holders = inside
    return found


def _parts(holder: Any, modules: Mapping[str, Any]) -> Iterator[tuple[Step, Any]]:
    """What a container, a class or an object holds, without the many values that nothing can be found in."""
    steps: Iterator[tuple[Step, Any]]
    if isinstance(holder, dict | list | tuple):
        steps = _items(holder) if len(holder) <= MAX_ITEMS else iter(())
    else:
        cls = holder if isinstance(holder, type) else type(holder)
        steps = _attributes(holder) if cls.__module__ in modules or cls is types.SimpleNamespace else iter(())
    return ((step, value) for step, value in steps if type(value) not in _PASSED)


def _items(holder: Any) -> Iterator[tuple[Step, Any]]:
    if not isinstance(holder, dict):
        yield from ((("item", index), value) for index, value in enumerate(holder))
        return
    for position, (key, value) in enumerate(list(dict.items(holder))):
        yield (("item", key) if _is_plain_key(key) else ("value", position)), value


def _is_plain_key(key: Any) -> bool:
    return type(key) in PLAIN or (type(key) is tuple and all(type(part) in PLAIN for part in key))


def _attributes(holder: Any) -> Iterator[tuple[Step, Any]]:
    for name, value in list(_namespace(holder).items()):
        if not name.startswith("__"):
            yield ("attribute", name), _unwrapped(value)


def _namespace(holder: Any) -> Mapping[str, Any]:
    """The attributes of its own that a class, a module or an object has, without what finding them might do."""
    if isinstance(holder, type):
        return vars(holder)
    with contextlib.suppress(AttributeError):
        found: Mapping[str, Any] = object.__getattribute__(holder, "__dict__")
        return found
    return {}


def _unwrapped(value: Any) -> Any:
    return value.__func__ if isinstance(value, staticmethod) else value


def _after(holder: Any, step: Step) -> Any:
    """What a step leads to."""
    kind, key = step
    if kind == "attribute":
        found = _unwrapped(_namespace(holder).get(key, _MISSING))
    elif isinstance(holder, dict):
        values = itertools.islice(holder.values(), key, None) if kind == "value" else iter(())
        found = dict.get(holder, key, _MISSING) if kind == "item" else next(values, _MISSING)
    elif isinstance(holder, list | tuple) and kind == "item":
        found = holder[key]
    else:
        found = _MISSING
    if found is _MISSING:
        raise LookupError(key)
    return found


# --- in a pickle -----------------------------------------------------------------------------------------------------
Marks = Mapping[str, Any]


def reduced(obj: Any, place: Standing, by_value: bytes | None) -> tuple[Any, ...]:
    """How pickle writes what stands somewhere.

    What was put there after the import of the module, by ``run()`` or on demand, is not there for whoever reads it, so
    it goes by value too.
    """
    return _held, (place.module, place.steps, _marks(obj), makers(obj), by_value)


def _held(
    module: str, steps: Sequence[Step], marks: Marks, makers: Sequence[str], by_value: bytes | None
) -> Any:  # its name and its arguments are in stored pickles
    place = Standing(module, tuple(steps))
    for also in (None, *makers):
        with contextlib.suppress(ImportError, LookupError):
            if also is not None:  # a module that enters what it makes in a table of another one
                importlib.import_module(also)
            found = place.held()
            if _is_like(found, marks):
                return found
    if by_value is None:
        raise ModuleImportError(
            f"A value needs {place}, which is not there after {module} was imported.",
            fix="let importing the module define it: what is put into it later does not reach other processes",
        )
    return pickle.loads(by_value)


def _marks(obj: Any) -> Marks:
    """What tells an object from another one that was put in its place: names, and the plain values in its functions.

    Not its code, which may be edited or compiled by another Python before a stored pickle is read.
    """
    functions = vars(obj) if isinstance(obj, type) else {"()": obj}
    made = {name: _made_of(f) for name, f in functions.items() if isinstance(f, types.FunctionType)}
    return {"": (type(obj).__name__, getattr(obj, "__qualname__", getattr(obj, "__name__", ""))), **made}


def _made_of(function: types.FunctionType) -> tuple[str, ...]:
    held: list[Any] = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # not filled yet
            held.append(cell.cell_contents)
    return tuple(repr(value) for value in held if type(value) in PLAIN)


def _is_like(found: Any, marks: Marks) -> bool:
    own = _marks(found)
    return own[""] == marks[""] and all(own.get(name, mark) == mark for name, mark in marks.items())
