"""The code of a run is that of its start, whatever is edited meanwhile and whatever workers ran before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from curidask.clusters.local import local
from tests.conftest import Project, clean_environment

EDITED = """
import os, time
from pathlib import Path
import curidask as cf
import helper

ROOT = Path.cwd()

def edit():
    for name in ("helper", "late"):
        (ROOT / f"{name}.py").write_text("K = 'edited'")
    (ROOT / "experiments/edited.py").write_text("raise RuntimeError('edited')")
    (ROOT / "gone.py").unlink()

@cf.stage(None, ["first"])
def first(record):
    return helper.K

@cf.stage(["first"], ["second"])
def second(record, first):
    import late, gone
    if os.environ.get("DIES") and not (ROOT / "died").exists():
        (ROOT / "died").touch()
        os._exit(1)  # the worker that is started in its place imports what the run began with
    return [first, helper.K, late.K, gone.K, Path(helper.__file__).parent == ROOT]

def get_params():
    return [cf.ExperimentParameters("a")]

def run(param_sets, manager):
    record = first(cf.Record(manager, param_sets[0]))
    print(record.output)
    edit()
    print(second(record).output)
"""


@pytest.mark.parametrize("parallel", ["0", "1"])
def test_an_edit_in_the_middle_of_a_run_reaches_no_task(project: Project, parallel: str) -> None:
    project.write("experiments/edited.py", EDITED)
    for name in ("helper", "late", "gone"):
        project.write(f"{name}.py", "K = 'as it began'")
    done = project.experiment("edited", "--parallel", parallel, env={"DIES": "1"} if parallel == "1" else {})
    assert done.stdout.splitlines() == [
        "as it began",
        "['as it began', 'as it began', 'as it began', 'as it began', True]",
    ], done.stderr


VERSION = """
import joblib
import curidask as cf
from curidask.caching import PickleCacher
import helper

@cf.stage(None, ["out"], [PickleCacher])
def make(record):
    in_children = joblib.Parallel(n_jobs=2)(joblib.delayed(helper.version)() for _ in range(2))
    return [helper.Model({version}).told(), in_children, helper.changed()]

def get_params():
    return [cf.ExperimentParameters("a")]

def run(param_sets, manager):
    print(make(cf.Record(manager, param_sets[0])).output)
"""
HELPER = """
import logging, logging.config, os, sys, time, warnings
import matplotlib as mpl
class Model:
    def __init__(self, n):
        self.n = n
    def told(self):
        return [self.n, {version}]
def version():
    return {version}

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())
if {version} == 1:
    os.environ["SET_BY_THE_FIRST"] = os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    os.umask(0o077)
    sys.setrecursionlimit(2345)
    warnings.filterwarnings("error", message="of the first")
    mpl.rcParams["figure.dpi"] = 77
    logging.config.dictConfig({{"version": 1, "root": {{"handlers": []}}, "loggers": {{"library": {{"level": 7}}}}}})

def changed():
    umask = os.umask(0o022)
    os.umask(umask)
    return [
        os.environ.get("SET_BY_THE_FIRST"), time.localtime(0).tm_hour == 9, umask == 0o077,
        mpl.rcParams["figure.dpi"] == 77, sys.getrecursionlimit() == 2345,
        any(shown[1] is not None and shown[1].match("of the first") for shown in warnings.filters),
        logging.getLogger("library").level == 7, bool(logging.getLogger().handlers), len(log.handlers),
    ]
"""
RUN = """
import sys
import curidask as cf
cf.run_experiment("exp", cache=sys.argv[2], cluster=sys.argv[1], insecure=True, report=False, log=False)
"""


def test_a_long_lived_worker_runs_each_version_of_a_project(project: Project, tmp_path: Path) -> None:
    """Each time with its own code, in its child processes too, and in a process that no other version has set up."""
    with local(1, {"protocol": "tcp://", "security": None}) as connection:
        told = []
        for version in (1, 2, 1):
            project.write("experiments/exp.py", VERSION.format(version=version))
            project.write("helper.py", HELPER.format(version=version))
            address = connection.client.scheduler.address
            done = subprocess.run(
                [sys.executable, "-c", RUN, address, str(tmp_path / f"cache{len(told)}")],
                cwd=project.root,
                env=clean_environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            told.append(done.stdout.strip())
    first = "[[1, 1], [1, 1], ['Asia/Tokyo', True, True, True, True, True, True, True, 1]]"
    second = "[[2, 2], [2, 2], [None, False, False, False, False, False, False, True, 1]]"
    assert told == [first, second, first]


def test_what_a_script_defines_has_one_namespace_on_workers(project: Project) -> None:
    project.write("helper.py", "K = 3\n")
    project.write(
        "script.py",
        """
        import threading
        import curidask as cf
        import helper
        LOCK = threading.Lock()
        K = 1
        class Model:
            def told(self):
                return [K, helper.K]
        def set_global(n):
            global K
            K = n
        @cf.stage(None, ["out"])
        def use(record, how=None):
            set_global(5)
            return [K, Model().told(), how(1), __name__]
        if __name__ == "__main__":
            with cf.ArtifactManager("script", parallel=1) as manager:
                print(use(cf.Record(manager, None), how=lambda x: x + K).output)
        """,
    )
    assert project.script("script.py") == ["[5, [5, 3], 6, '__main__']"]


BY_MULTIPROCESSING = """
if __name__ == "__main__":
    if len(sys.argv) > 2:
        import multiprocessing
        process = multiprocessing.get_context(sys.argv[2]).Process(target=go, args=(int(sys.argv[1]),))
        process.start()
        process.join()
        sys.exit(process.exitcode)
    go(int(sys.argv[1]))
"""
"""The end of a script that uses its session in itself or in a child process, where it is ``__mp_main__`` too."""

WHERE = pytest.mark.parametrize("where", ["0", "1", "1 spawn"])


@WHERE
def test_what_scripts_define_works_on_workers(project: Project, where: str) -> None:
    project.write("helper.py", "from contextvars import ContextVar\nVAR = ContextVar('v')\nHELD = []\n")
    project.write("script.py", DEFINING + BY_MULTIPROCESSING)
    done = project.command("python", "script.py", *where.split())
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert {name for name, worked in seen.items() if worked is not True} == set(), seen


DEFINING = """
import abc, collections, contextvars, enum, functools, json, pathlib, pickle, sys, threading, typing
from dataclasses import dataclass
import attrs
import curidask as cf
from curidask.caching import PickleCacher
from helper import HELD, VAR
import helper

class Point(typing.NamedTuple):
    x: int
Pair = collections.namedtuple("Pair", "a b")
PAIR = Pair(1, 2)
@attrs.frozen
class Frozen:
    x: int = 1
@attrs.define
class Defined:
    x: int = 1
@functools.lru_cache(maxsize=3)
def remembered(x): return x * FACTOR
FACTOR = 2
UserId = typing.NewType("UserId", int)
Spec = typing.ParamSpec("Spec")
@dataclass(slots=True, order=True)
class Slotted:
    a: int = 1
class Private:
    __slots__ = ("__a", "b")
    def __init__(self): self.__a = self.b = 1
    def both(self): return self.__a + self.b
class Lazy:
    @functools.cached_property
    def once(self): return FACTOR
    @functools.lru_cache
    def kept(self): return OTHER
OTHER = 3
@functools.singledispatch
def kind(x): return "other"
@kind.register
def _(x: Slotted): return "slotted"
OWN = contextvars.ContextVar("own", default=5)
LOCK = threading.Lock()
LOCAL = threading.local()
NAMES = []
class Base:
    def __init_subclass__(cls, **named): NAMES.append(cls.__name__)
class Child(Base): pass
MADE = []
class Meta(abc.ABCMeta):
    def __new__(kind, name, bases, contents):
        MADE.append(name)
        return super().__new__(kind, name, bases, contents)
class ByMeta(metaclass=Meta):
    @abc.abstractmethod
    def f(self): ...
class Color(enum.Enum):
    RED = 1
HERE = pathlib.Path(__file__).name
ONLY_BY_NAME = 7
TABLE = {"f": lambda: BEHIND}
BEHIND = 8
GIVEN, FURTHER, OF_SETS, SCALE, RENAMED = 9, 10, 11, 12, {"own": lambda x: x}
TABLES = [RENAMED]
def further(x): return x * FURTHER
class Op:
    def __init__(self, f): self.f = f
def scaled():
    class Scaled:
        def of(self, x): return x * SCALE
    return Scaled()
@dataclass
class Params(cf.ExperimentParameters):
    op: object = None

def by_name(): return globals()["ONLY_BY_NAME"] + eval("ONLY_BY_NAME")

@cf.stage(None, ["seen", "slotted", "private"], [PickleCacher] * 3)
def use(record):
    import __main__
    LOCAL.x = 1
    seen = {
        "named tuples": (Point(3).x, PAIR.b) == (3, 2) and Point(1)._replace(x=2) == Point(2),
        "attrs": (Frozen(2).x, Defined(3).x) == (2, 3),
        "caches": [remembered(3), remembered.cache_parameters()["maxsize"], Lazy().kept()] == [6, 3, 3],
        "new types": UserId(3) == 3 and Spec.__name__ == "Spec",
        "slots": not hasattr(Slotted(), "__dict__") and Private().both() == 2,
        "cached properties": Lazy().once == 2,
        "single dispatch": [kind(Slotted()), kind(1)] == ["slotted", "other"],
        "context variables": OWN.get() == 5 and VAR is helper.VAR,
        "values of modules": HELD is helper.HELD,
        "locks": LOCK.acquire(blocking=False) and LOCAL.x == 1,
        "registered once": NAMES == ["Child"] and MADE == ["ByMeta"],
        "metaclasses": type(ByMeta) is Meta and ByMeta.__abstractmethods__ == {"f"},
        "enumerations": Color(1) is Color.RED,
        "files": [HERE, pathlib.Path(__file__).name] == ["script.py"] * 2,
        "by name": by_name() == 14 and __main__.ONLY_BY_NAME == 7,
        "in tables": TABLE["f"]() == 8,
    }
    return seen, Slotted(3), Private()

@cf.stage(None, ["called"], [PickleCacher])
def call(record, given=None, own=None, plain=None):
    op = record.params.op
    return {
        "lambdas of arguments": [given[0](1), given[1](1), given[2].of(1)] == [9, 10, 12],
        "lambdas of parameters": op.f(1) == 11 and type(op) is Op and type(record.params) is Params,
        "the same lambda": own is RENAMED["own"] and plain is further and TABLES[0] is RENAMED,
    }

def go(parallel):
    with cf.ArtifactManager("defining", parallel=parallel) as manager:
        state = use(cf.Record(manager, None)).state
        given = [lambda x: x * GIVEN, functools.partial(lambda f, x: f(x), lambda x: further(x)), scaled()]
        record = cf.Record(manager, Params("a", op=Op(lambda x: x * OF_SETS)))
        seen = call(record, given=given, own=RENAMED["own"], plain=further).output
        print(json.dumps(state["seen"] | seen | {"stored": (state["slotted"].a, state["private"].both()) == (3, 2)}))
"""


@WHERE
def test_what_a_script_defines_again_reaches_its_stages(project: Project, where: str) -> None:
    """And what it changes in place: a stage sees the script as it is when it is called."""
    project.write("script.py", CHANGING + BY_MULTIPROCESSING)
    assert project.script("script.py", *where.split()) == ["[10, 1, 1, 0]", "[20, 1, 1, 0]", "[-20, 2, 2, 1]"]


CHANGING = """
import sys
import curidask as cf
class Params(cf.ExperimentParameters): pass
class Settings:
    lr = 1
K = 10
OPTIONS = {"lr": 1}
SEEN = []
def helper(v): return v * K

@cf.stage(None, ["out"])
def use(record):
    return [helper(1), Settings.lr, OPTIONS["lr"], len(SEEN)]

def go(parallel):
    global K, helper
    with cf.ArtifactManager("changing", parallel=parallel) as manager:
        print(use(cf.Record(manager, Params("a"))).output)
        K = 20
        print(use(cf.Record(manager, Params("b"))).output)
        def helper(v): return -v * K
        Settings.lr = OPTIONS["lr"] = 2
        SEEN.append(1)
        print(use(cf.Record(manager, Params("c"))).output)
"""


@pytest.mark.parametrize("parallel", ["0", "1"])
def test_a_module_that_is_run_has_its_package_and_its_pools(project: Project, parallel: str) -> None:
    project.write("package/__init__.py", "")
    project.write("package/late.py", "LATE = 3")
    project.write("package/run.py", RUN_AS_A_MODULE)
    done = project.command("python", "-m", "package.run", parallel)
    assert done.stdout == "[3, 3, [10, 20], 'package']\n", done.stderr


RUN_AS_A_MODULE = """
import multiprocessing, sys
import curidask as cf
from .late import LATE
FACTOR = 10
def scaled(x): return x * FACTOR

@cf.stage(None, ["seen"])
def use(record):
    from . import late
    with multiprocessing.Pool(1) as pool:
        return [LATE, late.LATE, pool.map_async(scaled, [1, 2]).get(30), __package__]

if __name__ == "__main__":
    with cf.ArtifactManager("module", parallel=int(sys.argv[1])) as manager:
        print(use(cf.Record(manager, None)).state["seen"])
"""


def test_a_name_of_a_script_that_cannot_travel_is_told(project: Project) -> None:
    project.write(
        "script.py",
        """
        import curidask as cf
        OPEN = (x for x in range(3))
        @cf.stage(None, ["out"])
        def use(record):
            return next(OPEN)
        if __name__ == "__main__":
            with cf.ArtifactManager("script", parallel=1) as manager:
                try:
                    use(cf.Record(manager, None)).output
                except NameError as error:
                    print(error, error.__notes__)
        """,
    )
    (line,) = project.script("script.py")
    for text in ("'OPEN' is not defined", "left out", "cannot pickle 'generator' object", "inside of the stage"):
        assert text in line


def test_a_module_that_cannot_be_imported_on_a_worker_is_named(project: Project) -> None:
    project.write(
        "helper.py", "import os\nif os.getpid() != int(os.environ['DRIVER']):\n    raise OSError('only there')\n"
    )
    project.write(
        "script.py",
        """
        import os
        os.environ["DRIVER"] = str(os.getpid())
        import curidask as cf
        import helper
        @cf.stage(None, ["out"])
        def use(record):
            return helper.__name__
        with cf.ArtifactManager("script", parallel=1) as manager:
            try:
                print(use(cf.Record(manager, None)).output)
            except cf.CuridaskError as error:
                print(str(error).splitlines()[0])
        """,
    )
    (line,) = project.script("script.py")
    assert "only there" in line


@pytest.mark.parametrize("parallel", ["0", "1"])
def test_what_a_script_imported_under_the_name_of_a_package_is_what_its_stages_import(
    project: Project, parallel: str
) -> None:
    """It keeps what Python gave it, and dask gets the package."""
    project.write("yaml.py", "WHO = 'ours'")
    project.write("secrets.py", "WHO = 'ours'")
    project.write("script.py", OWN_YAML)
    assert project.command("python", "script.py", parallel).stdout == "ours ['ours', 'ours', False]\n"


@pytest.mark.parametrize("parallel", ["0", "1"])
@pytest.mark.parametrize("handler", ["StreamHandler()", "FileHandler('its.log')"])
def test_a_project_that_sets_up_logging_hears_all_once(project: Project, parallel: str, handler: str) -> None:
    path = project.write("experiments/exp.py", LOGGING.replace("HANDLER", handler))
    done = project.experiment("exp", "--parallel", parallel)
    assert done.returncode == 0, done.stderr
    said = (done.stdout + done.stderr).splitlines()
    log = next(iter((project.root / "logs").glob("*.log"))).read_text().splitlines()

    def count(text: str, lines: list[str]) -> int:
        return sum(line.endswith(text) for line in lines)

    assert count("said by run()", said) == 1, said
    for name in "ab":
        assert count(f"{name} printed", said) == 1, said
        assert count(f"{name} logged", said) == handler.count("Stream"), said
        assert [count(f"{name} {text}", log) for text in ("printed", "logged")] == [1, 1], log
        assert count(f"own: {name} logged by its own", said) == 1, said
        for file in ("own.log", "of the run.log"):
            assert count(f"{name} logged by its own", (project.root / file).read_text().splitlines()) == 1
        for text, times in (("is odd", 1), ("is odd twice", 2)):
            line = next(n for n, line in enumerate(LOGGING.splitlines(), 1) if f'{text}")' in line)
            warned = f"{path}:{line}: UserWarning: a number {text}"
            prefix = "" if parallel == "0" else f"[{name} talk] "
            assert said.count(prefix + warned) == times * (2 if parallel == "0" else 1), said
            assert count(f"curidask.stderr: [{name} talk] {warned}", log) == times, log


LOGGING = """
import logging, os, warnings
from dataclasses import dataclass
import curidask as cf

logging.basicConfig(level=logging.WARNING, handlers=[logging.HANDLER], force=True)
own = logging.getLogger("own")
own.setLevel(logging.DEBUG)
own.addHandler(logging.StreamHandler())
own.handlers[0].setFormatter(logging.Formatter("own: %(message)s"))
own.addHandler(logging.FileHandler("own.log"))

@dataclass
class Params(cf.ExperimentParameters):
    x: int = 0

@cf.stage(None, ["nothing"])
def talk(record):
    print(f"{record.name} printed")
    logging.getLogger("library").warning(f"{record.name} logged")
    own.debug(f"{record.name} logged by its own")
    for _ in range(2):
        warnings.warn("a number is odd")
    warnings.simplefilter("always")
    for _ in range(2):
        warnings.warn("a number is odd twice")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # as to silence a library

def get_params():
    return [Params("a", x=1), Params("b", x=2)]

def run(param_sets, manager):
    print("said by run()")
    own.addHandler(logging.FileHandler("of the run.log"))
    for params in param_sets:
        talk(cf.Record(manager, params))
"""


def test_what_stages_started_ends_with_the_workers(project: Project) -> None:
    """Joblib's pool, and what prints nowhere."""
    project.write("experiments/exp.py", LEAVING + ONE_STAGE.format(does="leave()"))
    assert project.experiment("exp", "--parallel", "1").returncode == 0
    pids = [int(line) for line in (project.root / "pids").read_text().split()]
    assert len(pids) == 3
    assert [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"] == []


LEAVING = """
import os, subprocess, sys
import joblib
def leave():
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    pids = joblib.Parallel(n_jobs=2)(joblib.delayed(os.getpid)() for _ in range(2))[:1]
    pids += [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], **quiet).pid for _ in range(2)]
    with open("pids", "w") as file:
        print(*pids, file=file)
"""


def test_own_files_do_not_reach_the_processes_that_start_workers(project: Project) -> None:
    project.write("signal.py", "")
    project.write("experiments/exp.py", ONE_STAGE.format(does="pass"))
    project.started = True
    done = project.experiment("exp", "--parallel", "1")
    assert "None" in done.stdout
    for text in ("Traceback", "resource_tracker"):
        assert text not in done.stderr


ONE_STAGE = """
import curidask as cf

def get_params():
    return [cf.ExperimentParameters("a")]

def run(param_sets, manager):
    print(nothing(cf.Record(manager, param_sets[0])).output)

@cf.stage(None, ["out"])
def nothing(record):
    {does}
"""

OWN_YAML = """
import sys, yaml
import curidask as cf

@cf.stage(None, ["seen"])
def look(record):
    import yaml as again
    import secrets  # which the script did not: it is Python's, here and there
    return [yaml.WHO, again.WHO, hasattr(secrets, "WHO")]

if __name__ == "__main__":
    with cf.ArtifactManager("named", parallel=int(sys.argv[1])) as manager:
        print(yaml.WHO, look(cf.Record(manager, None)).state["seen"])
"""


PACKAGES = {
    "lib/__init__.py": "",
    "lib/sub/deep.py": "def f(): return 1",
    "lib/sub/more/__init__.py": "from . import inner\nfrom .low.last import f as g\ndef f(): return inner.f() + g()",
    "lib/sub/more/inner.py": "def f(): return 2",
    "lib/sub/more/low/last.py": "from ...deep import f as up\ndef f(): return 3 + up()",
    "lib/other/late.py": "def f(): return 10",
    "free/plain.py": "def f(): return 20",
    "free/under/plain.py": "import lib.sub.more.low.last\ndef f(): return 30 + lib.sub.more.low.last.f()",
    "free/full/__init__.py": "def f(): return 40",
    "free/full/bare/plain.py": "def f(): return 50",
    "experiments/mixed.py": """
import curidask as cf
import lib.sub.deep, lib.sub.more
import free.plain, free.under.plain, free.full.bare.plain as bare

@cf.stage(None, ["o"])
def s(record):
    import lib.other.late
    top = [lib.sub.deep.f(), lib.sub.more.f(), lib.other.late.f(), free.plain.f(), free.under.plain.f()]
    return [*top, free.full.f(), free.full.bare.plain.f(), bare.f()]

def get_params():
    return [cf.ExperimentParameters("a")]

def run(param_sets, manager):
    print(s(cf.Record(manager, param_sets[0])).output)
""",
}


@pytest.mark.parametrize("parallel", ["0", "1"])
def test_packages_with_and_without_an_init_file_are_imported_in_each_other(project: Project, parallel: str) -> None:
    for name, text in PACKAGES.items():
        project.write(name, text)
    done = project.experiment("mixed", "--parallel", parallel)
    assert done.stdout == "[1, 6, 10, 20, 34, 40, 50, 50]\n", done.stderr
