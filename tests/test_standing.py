"""What stands in a module under another name than its own is that very object for whoever imports the module."""

from __future__ import annotations

import enum
import functools
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from curidask.caching import files
from curidask.caching.code_pickler import StandingPickler
from curidask.core.code import code_locations
from curidask.errors import ModuleImportError
from curidask.execution.project.by_value import CodePickler, pickled
from curidask.hashing import digest

REGISTRY = """
FOUND, NAMED = {}, {}
def register(cls):
    class Registered(cls): pass
    FOUND[cls] = NAMED[cls.__name__] = Registered
    return Registered
def enter(name):
    return lambda f: FOUND.setdefault(name, f)
"""

MODELS = """
import enum, functools, threading, types, typing
from standing_registry import enter, register

@register
class Ridge: pass
class Hidden: pass
register(Hidden)  # is nowhere but in the other module's tables
def double(x): return 2 * x
renamed, double = double, None
Modes = None
Mode = enum.Enum("Modes", "FAST SLOW")
Other = type("Elsewhere", (), {"held": lambda self: 1})
UserId = typing.NewType("Id", int)
def make(n=3):
    lock = threading.Lock()
    class Local:
        def __init__(self, k=n): self.k = k
        @staticmethod
        def locked(): return lock
    return Local
Local = make()
class Outer: pass
Outer.Inner = make(1)
Outer.call = staticmethod(lambda: 1)
enter("late")(lambda x: x + 1)
class Table:
    def __init__(self): self.items = {("a", 1): [lambda x: x], types: lambda x: -x}
table = Table()
cached = functools.lru_cache(lambda x: x)
once = [functools.cached_property(lambda self: 1)]
cycle = [once]
cycle.append(cycle)
long = [0] * 1000 + [lambda: 1]
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A project's modules, which are imported anew when they are read."""
    (tmp_path / "standing_registry.py").write_text(REGISTRY)
    (tmp_path / "standing_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("standing_models")
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith("standing_")]:
        del sys.modules[name]


def _read(data: bytes) -> tuple[Any, Any]:
    """What another process reads, and what it gets by importing."""
    _forget()
    found = files.loads(data)
    return found, importlib.import_module("standing_models")


Find = Callable[[Any], Any]

FOUND: dict[str, Find] = {
    "by a class decorator": lambda m: m.Ridge,
    "nowhere but in a table of another module": lambda m: next(c for c in m.Hidden.__subclasses__()),
    "a function under another name": lambda m: m.renamed,
    "an enumeration under another name": lambda m: m.Mode,
    "a class by type()": lambda m: m.Other,
    "a method of such a class": lambda m: m.Other.held,
    "a new type": lambda m: m.UserId,
    "a class made in a function": lambda m: m.Local,
    "an attribute of a class": lambda m: m.Outer.Inner,
    "a static method": lambda m: m.Outer.call,
    "a lambda in a table of another module": lambda m: m.enter("late")(None),
    "in an object": lambda m: m.table.items["a", 1][0],
    "under a key that is no plain value": lambda m: list(m.table.items.values())[1],
    "remembered results": lambda m: m.cached,
    "a cached property": lambda m: m.once[0],
}


@pytest.mark.parametrize("find", FOUND.values(), ids=FOUND.keys())
@pytest.mark.parametrize("pickler", [StandingPickler, CodePickler])
def test_what_stands_in_a_module_is_what_is_there(models: Any, find: Find, pickler: Any) -> None:
    before = find(models)
    found, imported = _read(pickled(pickler, [before, before]))
    assert found[0] is found[1]
    assert found[0] is not before
    assert found[0] is find(imported)


def test_a_module_in_the_place_of_one_that_is_gone_is_another(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.id", lambda obj, own=id: 1 if isinstance(obj, ModuleType) else own(obj))
    assert code_locations.of_own_modules().find(models.Ridge) is not None
    _forget()
    again = importlib.import_module("standing_models")
    assert code_locations.of_own_modules().find(again.Ridge) is not None


def test_objects_are_of_the_classes_that_stand_there(models: Any) -> None:
    found, imported = _read(files.dumps([models.Ridge(), models.Mode.FAST, models.Local(5)]))
    assert [type(value) for value in found] == [imported.Ridge, imported.Mode, imported.Local]
    assert found[1] is imported.Mode.FAST
    assert found[2].k == 5


def test_another_process_finds_it(models: Any, tmp_path: Path) -> None:
    hidden = models.Hidden.__subclasses__()[0]
    (tmp_path / "x.pkl").write_bytes(files.dumps([models.Ridge(), hidden, models.Outer.Inner(2)]))
    code = (
        "import pickle; a, b, c = pickle.load(open('x.pkl', 'rb')); import standing_models as m; "
        "print(type(a) is m.Ridge, b in m.Hidden.__subclasses__(), type(c) is m.Outer.Inner, c.k)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "True True True 2\n", done.stderr


# --- which place -----------------------------------------------------------------------------------------------------
def _place(obj: Any) -> str:
    return str(code_locations.of_own_modules().find(obj))


def test_the_place_is_the_shortest_and_where_it_was_defined(models: Any, tmp_path: Path) -> None:
    importer = "from standing_models import *\nfrom standing_models import table as t, renamed\nLocals = [Local]\n"
    for name in ("standing_a", "standing_z"):
        (tmp_path / f"{name}.py").write_text(importer)
        importlib.import_module(name)
    assert _place(models.Ridge) == "standing_models.Ridge"  # made by a function of the other module
    assert _place(models.Local) == "standing_models.Local"
    assert _place(models.renamed) == "standing_models.renamed"
    assert _place(models.table.items["a", 1][0]) == "standing_models.table.items[('a', 1)][0]"
    assert _place(models.enter("late")(None)) == "standing_registry.FOUND['late']"


def test_data_is_not_looked_into(models: Any) -> None:
    assert len(models.long) > code_locations.MAX_ITEMS
    assert _place(models.long[-1]) == "None"
    found, imported = _read(files.dumps(models.long[-1]))
    assert found() == 1
    assert found is not imported.long[-1]


def test_what_is_named_is_not_looked_for(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(code_locations, "_ways_to_code")
    monkeypatch.setattr(code_locations, "_kept", {})
    values = [models.make, models.Outer(), int, type(None), enum.Enum, functools.reduce, models.Outer]
    for pickler in (StandingPickler, CodePickler):
        pickled(pickler, values)


def test_a_module_that_is_being_imported_is_looked_at_again(models: Any, tmp_path: Path) -> None:
    (tmp_path / "standing_early.py").write_text(
        "from curidask.caching import files\nTABLE = {'first': lambda: 1}\nEARLY = files.dumps(TABLE)\n"
        "TABLE['second'] = lambda: 2\nLATE = None\n"
    )
    early = importlib.import_module("standing_early")
    assert _place(early.TABLE["second"]) == "standing_early.TABLE['second']"
    found, _ = _read(early.EARLY)
    assert found["first"] is sys.modules["standing_early"].TABLE["first"]


def test_what_stands_in_an_installed_module_is_found_from_its_own_only() -> None:
    made = type("Made", (), {"__module__": "sklearn.base"})
    module: Any = importlib.import_module("sklearn.base")
    module.made_for_a_test = made
    try:
        code_locations._kept.pop("sklearn.base", None)
        assert str(code_locations.in_installed(made)) == "sklearn.base.made_for_a_test"
        assert files.loads(files.dumps(made)) is made
    finally:
        del module.made_for_a_test


# --- what stands there only later ------------------------------------------------------------------------------------
def test_what_was_put_there_later_goes_by_value(models: Any) -> None:
    def put(n: int) -> Any:
        class Made:
            def size(self) -> int:
                return n

        return Made

    models.Later = put(4)
    models.table.items["later"] = lambda x: x * 5
    models.Made = ModuleType("standing_none")
    code_locations._kept.clear()
    for value in (models.Later, models.table.items["later"]):
        assert _place(value) != "None"
    found, _ = _read(files.dumps([models.Later(), models.table.items["later"]]))
    assert found[0].size() == 4
    assert type(found[0]).__qualname__ == put.__qualname__ + ".<locals>.Made"
    assert found[1](2) == 10


def test_another_one_in_its_place_is_not_taken_for_it(models: Any, tmp_path: Path) -> None:
    source = "def scaled(k):\n    def f(x): return x * k\n    return f\nf = scaled(2)\n"
    (tmp_path / "standing_scaled.py").write_text(source + "g = scaled(3)\nclass Other: pass\n")
    scaled = importlib.import_module("standing_scaled")
    data = [files.dumps(scaled.f), files.dumps(scaled.g)]
    scaled.f = scaled.scaled(7)
    data.append(files.dumps(scaled.f))
    (tmp_path / "standing_scaled.py").write_text(
        "# edited since then\n" + source + "class g: pass\nclass Other: pass\n"
    )
    importlib.invalidate_caches()
    found = [_read(each)[0](10) for each in data]
    assert found == [20, 30, 70]


def test_what_is_gone_and_cannot_go_by_value_is_named(models: Any, tmp_path: Path) -> None:
    data = files.dumps(models.Local())  # which holds a lock
    (tmp_path / "standing_models.py").write_text("")
    importlib.invalidate_caches()
    _forget()
    with pytest.raises(ModuleImportError, match=r"standing_models\.Local"):
        files.loads(data)


# --- by value --------------------------------------------------------------------------------------------------------
def test_a_class_keeps_its_qualified_name_by_value() -> None:
    class Inner:
        x = 1

    for pickler in (StandingPickler, CodePickler):
        data = pickled(pickler, Inner())
        code = "import sys, pickle; v = pickle.load(sys.stdin.buffer); print(type(v).__qualname__)"
        done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
        assert done.stdout.decode().strip() == Inner.__qualname__, done.stderr


@pytest.mark.parametrize("pickler", [StandingPickler, CodePickler])
@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abc"),
        memoryview(bytearray(b"abc")),
        memoryview(np.arange(6.0).reshape(2, 3)),
        memoryview(np.arange(6)[::2]),
        memoryview(np.array(3)),
    ],
)
def test_a_view_of_memory_stays_one(view: memoryview, pickler: Any) -> None:
    found = files.loads(pickled(pickler, [view]))[0]
    assert type(found) is memoryview
    assert (found.tolist(), found.format, found.readonly) == (view.tolist(), view.format, view.readonly)
    assert digest(found) == digest(view)


def test_a_view_of_what_only_numpy_knows_goes_as_its_bytes() -> None:
    view = memoryview(np.zeros(2, dtype=[("a", "<i4"), ("b", "<f8")]))
    assert files.loads(files.dumps([view])) == [view.tobytes()]
