"""Nothing leaks from stage to stage: what one changes of its process is as before in the next, here and on workers."""

from __future__ import annotations

import bdb
import contextlib
import decimal
import gc
import io
import locale
import logging
import logging.config
import multiprocessing
import os
import pickle
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

import curidask as cf
from curidask.clusters.base import Connection
from curidask.clusters.local import local
from curidask.execution.process.process_state import Kept
from tests.conftest import Project
from tests.prepared import COMMANDS
from tests.terminals import on_a_terminal, screen

mpl.use("agg")


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@pytest.fixture(scope="module")
def workers() -> Iterator[Connection]:
    """Two workers that all sessions of this file share."""
    with local(2) as connection:
        yield connection


@pytest.fixture(params=["in process", "2 workers"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    where: dict[str, Any] = {"parallel": 0}
    if request.param == "2 workers":
        where = {"cluster": request.getfixturevalue("workers").client}
    with cf.ArtifactManager("leaks", cache=str(tmp_path / "cache"), **where) as made:
        yield made


@pytest.fixture
def here(tmp_path: Path) -> Iterator[cf.ArtifactManager]:
    """A session whose stages run in this process."""
    with cf.ArtifactManager("leaks", cache=str(tmp_path / "cache"), parallel=0) as made:
        yield made


# --- what a stage changes, and how the next one sees it --------------------------------------------------------------
def environment() -> dict[str, str]:
    return dict(os.environ) | {"local hour": time.strftime("%H", time.localtime(0))}


def change_environment() -> None:
    os.environ["LEAKED"] = "yes"
    os.environ["PATH"] += ":/leaked"
    os.environ.pop("HOME", None)
    os.environ["TZ"] = "Etc/GMT-5" if os.environ.get("TZ") != "Etc/GMT-5" else "Etc/GMT-7"
    time.tzset()


def file_mode() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.close(os.open(f"{folder}/file", os.O_CREAT | os.O_WRONLY, 0o666))
        return os.stat(f"{folder}/file").st_mode & 0o777


def warning_filters() -> list[str]:
    return [repr(warned) for warned in warnings.filters] + [repr(warnings.showwarning)]


def change_warnings() -> None:
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="leaked")
    logging.captureWarnings(True)


def replace_warnings() -> None:
    warnings.resetwarnings()
    warnings.filters = []  # type: ignore[assignment]  # a list it is


LEAKY = ("", "curidask", "curidask.run", "curidask.stdout", "leaky", "leaky.below", "distributed")


def loggers() -> list[Any]:
    found: list[Any] = [logging.root.manager.disable, repr(logging.getLogRecordFactory())]
    found += [
        repr(logging.getLoggerClass()),
        logging.raiseExceptions,
        logging.getLevelName(17),
        repr(logging.lastResort),
    ]
    for name in LEAKY:
        logger = logging.getLogger(name)
        handlers = [(type(h).__name__, h.level, repr(h.formatter)) for h in logger.handlers]
        found += [name, logger.level, logger.disabled, logger.propagate, list(map(repr, logger.filters)), handlers]
    return found


def change_loggers() -> None:
    root = logging.getLogger()
    for handler in root.handlers:
        handler.setLevel(logging.CRITICAL)
        handler.setFormatter(logging.Formatter("leaked %(message)s"))
    root.addHandler(logging.StreamHandler())
    root.setLevel(logging.ERROR)
    root.addFilter(lambda record: False)
    logging.disable(logging.ERROR)
    usual = logging.getLogRecordFactory()
    logging.setLogRecordFactory(lambda *args, **named: usual(*args, **named))
    logging.setLoggerClass(type("Leaked", (logging.Logger,), {}))
    logging.addLevelName(17, "LEAKED")
    logging.raiseExceptions = False
    logging.lastResort = None
    leaky = logging.getLogger("leaky")
    leaky.setLevel(logging.DEBUG)
    leaky.addHandler(logging.StreamHandler(sys.stderr))
    leaky.propagate = False
    logging.getLogger("leaky.below").disabled = True
    logging.getLogger("distributed").handlers.clear()


def configure_logging() -> None:
    handlers = {"ours": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}
    root = {"handlers": ["ours"], "level": "DEBUG"}
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True, "handlers": handlers, "root": root})


def streams() -> list[Any]:
    kinds = [type(stream).__name__ for stream in (sys.stdin, sys.stdout, sys.stderr)]
    return [*kinds, sys.stdout.encoding, sys.stdout.closed, sys.stderr.closed]


def change_streams() -> None:
    sys.stdin = sys.stdout = sys.stderr = io.StringIO()


def rewrap_streams() -> None:
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="latin-1")  # which closes what it wraps when it goes
    sys.stderr.close()


def descriptors() -> list[Any]:
    return [os.path.realpath(f"/proc/self/fd/{number}") for number in range(3)]


def change_descriptors() -> None:
    """As to silence a library that is not written in Python."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 0)


def close_descriptors() -> None:
    sys.stdout = os.fdopen(1, "w")  # closes it when it goes
    os.close(2)


def numpy_state() -> list[Any]:
    return [np.geterr(), repr(np.geterrcall()), repr(np.array([1 / 3, 1e9])), np.get_printoptions()["edgeitems"]]


def change_numpy() -> None:
    np.seterr(all="raise")
    np.seterrcall(print)
    np.set_printoptions(precision=2, suppress=True, edgeitems=1)


def figures() -> list[Any]:
    import matplotlib.pyplot as plt

    rc = mpl.rcParams
    return [plt.get_fignums(), rc["lines.linewidth"], list(rc["font.sans-serif"]), repr(rc["axes.prop_cycle"])]


def change_figures() -> None:
    import matplotlib.pyplot as plt

    plt.style.use("ggplot")
    mpl.rcParams["lines.linewidth"] = 17
    mpl.rcParams["font.sans-serif"].insert(0, "Leaked Sans")
    plt.figure()
    plt.plot([1, 2])


def interpreter() -> list[Any]:
    method = multiprocessing.get_start_method(allow_none=True)
    hooks = [sys.excepthook, sys.displayhook, sys.breakpointhook, threading.excepthook]
    numbers = [sys.getrecursionlimit(), sys.getswitchinterval(), sys.get_int_max_str_digits()]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return [*numbers, socket.getdefaulttimeout(), method, gc.isenabled(), *map(repr, hooks), mask]


def change_interpreter() -> None:
    sys.setrecursionlimit(1234)
    socket.setdefaulttimeout(12.5)
    multiprocessing.set_start_method("forkserver", force=True)
    gc.disable()
    sys.excepthook = sys.displayhook = sys.breakpointhook = threading.excepthook = print  # anything will do
    sys.setswitchinterval(0.123)
    sys.set_int_max_str_digits(1000)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])


def trace_nothing(*_: Any) -> None:
    return None


def tracing() -> list[str]:
    """Also what a thread that is started now would have."""
    return [repr(f()) for f in (sys.gettrace, sys.getprofile, threading.gettrace, threading.getprofile)]


def change_tracing() -> None:
    threading.settrace(trace_nothing)
    threading.setprofile(trace_nothing)
    sys.setprofile(trace_nothing)
    sys.settrace(trace_nothing)


LIMITS = {
    resource.RLIMIT_NOFILE: 900,
    resource.RLIMIT_FSIZE: 1 << 46,
    resource.RLIMIT_AS: 1 << 46,
    resource.RLIMIT_CPU: 1 << 30,
}
"""And what a stage sets."""


def sizes() -> list[Any]:
    return [gc.get_threshold(), gc.get_debug(), threading.stack_size(), *map(resource.getrlimit, LIMITS)]


def change_sizes() -> None:
    gc.set_threshold(123, 4, 5)
    gc.set_debug(gc.DEBUG_UNCOLLECTABLE)
    threading.stack_size(1 << 20)
    for number, soft in LIMITS.items():
        resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))


VARIABLE: ContextVar[str] = ContextVar("leaky", default="as it was")


def contexts() -> list[Any]:
    return [VARIABLE.get(), decimal.getcontext().prec]


def change_contexts() -> None:
    VARIABLE.set("leaked")
    decimal.getcontext().prec = 3
    decimal.setcontext(decimal.Context(prec=4))


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "the folder": (os.getcwd, lambda: os.chdir("/")),
    "the environment": (environment, change_environment),
    "the umask": (file_mode, lambda: os.umask(0o077)),
    "the locale": (lambda: locale.setlocale(locale.LC_ALL), lambda: locale.setlocale(locale.LC_ALL, "C")),
    "warnings": (warning_filters, change_warnings),
    "all warnings": (warning_filters, replace_warnings),
    "loggers": (loggers, change_loggers),
    "the root logger": (loggers, lambda: logging.basicConfig(force=True, level=logging.DEBUG)),
    "all of logging": (loggers, configure_logging),
    "streams": (streams, change_streams),
    "wrapped streams": (streams, rewrap_streams),
    "descriptors": (descriptors, change_descriptors),
    "closed descriptors": (descriptors, close_descriptors),
    "numpy": (numpy_state, change_numpy),
    "matplotlib": (figures, change_figures),
    "the interpreter": (interpreter, change_interpreter),
    "contexts": (contexts, change_contexts),
    "tracing": (tracing, change_tracing),
    "sizes and limits": (sizes, change_sizes),
}


def wait() -> None:
    while True:
        time.sleep(0.01)


ENDS: dict[str, Callable[[], Any]] = {
    "returns": lambda: None,
    "raises": lambda: 1 / 0,
    "exits": lambda: sys.exit(3),
    "takes too long": wait,
}


def seen_by_two(manager: cf.ArtifactManager, look: Callable[[], Any], change: Callable[[], Any], end: str) -> list[Any]:
    """What a stage sees before and after it changes something, and what the next one in its process sees."""
    path = Path(os.getcwd()) / "seen"

    @cf.stage(None, ["number"], timeout_seconds=5 if end == "takes too long" else None)
    def first(record: Any) -> Any:
        before = look()
        change()
        path.write_bytes(pickle.dumps((os.getpid(), before, look())))
        return ENDS[end]()

    @cf.stage(None, ["seen"])
    def second(record: Any) -> Any:
        print("which must be possible")
        return os.getpid(), look()

    for attempt in range(20):
        with contextlib.suppress(Exception):  # a live session raises what the stage raised
            first(cf.Record(manager, Params("first", x=attempt))).state["number"]
        pid, before, changed = pickle.loads(path.read_bytes())
        for again in range(5):
            of, after = second(cf.Record(manager, Params("second", x=10 * attempt + again))).state["seen"]
            if of == pid:
                return [before, changed, after]
    raise AssertionError("no two stages ran in one process")


@pytest.mark.parametrize("kind", CHANGES)
def test_the_next_stage_sees_what_the_first_one_saw(manager: cf.ArtifactManager, kind: str) -> None:
    outside = CHANGES[kind][0]()
    before, changed, after = seen_by_two(manager, *CHANGES[kind], "returns")
    assert changed != before
    assert after == before
    assert CHANGES[kind][0]() == outside


@pytest.mark.parametrize("end", ENDS)
def test_however_a_stage_ends(manager: cf.ArtifactManager, end: str) -> None:
    def look() -> list[Any]:
        return [os.getcwd(), dict(os.environ), loggers(), np.geterr(), figures()]

    def change() -> None:
        os.chdir("/")
        os.environ["LEAKED"] = "yes"
        logging.basicConfig(force=True, level=logging.DEBUG)
        np.seterr(all="raise")
        change_figures()

    before, changed, after = seen_by_two(manager, look, change, end)
    assert all(now != then for now, then in zip(changed, before, strict=True))
    assert after == before


def test_a_stage_that_is_interrupted(here: cf.ArtifactManager) -> None:
    @cf.stage(None, ["nothing"])
    def interrupt(record: Any) -> Any:
        os.chdir("/")
        logging.basicConfig(force=True, level=logging.DEBUG)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    before = os.getcwd(), loggers()
    with pytest.raises(KeyboardInterrupt):
        interrupt(cf.Record(here, Params("p"))).state["nothing"]
    assert (os.getcwd(), loggers()) == before


def test_each_attempt_sees_the_same(manager: cf.ArtifactManager, tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"

    @cf.stage(None, ["folder"], retries=1)
    def twice(record: Any) -> Any:
        with attempts.open("a") as file:
            file.write(f"{os.getcwd()}\n")
        os.chdir("/")
        if len(attempts.read_text().splitlines()) == 1:
            raise OSError("once")
        return os.getcwd()

    assert twice(cf.Record(manager, Params("p"))).state["folder"] == "/"
    first, second = attempts.read_text().splitlines()
    assert first == second != "/"


def test_figures_are_there_for_the_reports_of_their_stage(manager: cf.ArtifactManager) -> None:
    class Shown(cf.reporting.Reportable):
        def render(self, folder: Path) -> None:
            import matplotlib.pyplot as plt

            plt.savefig(folder / "shown.png")
            assert plt.gca().get_title() == "of the stage"

        def html(self) -> str:
            return "shown.png"

    @cf.stage(None, ["number"])
    def draw(record: Any) -> Any:
        import matplotlib.pyplot as plt

        plt.title("of the stage")
        record.report(Shown(name="it"))
        return 1

    assert draw(cf.Record(manager, Params("p"))).state["number"] == 1


def test_figures_that_are_open_outside_are_not_drawn_on(here: cf.ArtifactManager) -> None:
    import matplotlib.pyplot as plt

    @cf.stage(None, ["numbers"])
    def draw(record: Any) -> Any:
        plt.plot([1, 2])
        return plt.get_fignums()

    outside = plt.figure(7)
    assert draw(cf.Record(here, Params("p"))).state["numbers"] == [1]
    assert plt.get_fignums() == [7]
    assert plt.gcf() is outside
    assert not outside.axes
    plt.close("all")


# --- random numbers --------------------------------------------------------------------------------------------------
def draws() -> tuple[float, ...]:
    return random.random(), random.gauss(0, 1), float(np.random.rand()), float(np.random.normal())


def test_what_is_drawn_without_a_seed_differs_from_stage_to_stage(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["drawn"])
    def draw(record: Any) -> Any:
        return draws()

    @cf.stage(None, ["drawn"])
    def seed(record: Any) -> Any:
        random.seed(0)
        np.random.seed(0)
        return draws()

    @cf.stage(None, ["drawn"])
    def another(record: Any) -> Any:
        np.random.set_bit_generator(np.random.PCG64(0))
        return draws()

    found = []
    for x in range(4):
        found += [stage(cf.Record(manager, Params("p", x=x))).state["drawn"] for stage in (draw, seed, another)]
    by_stage = [list(zip(*found[place::3], strict=True)) for place in range(3)]
    assert all(len(set(values)) == 4 for values in by_stage[0])
    assert all(len(set(values)) == 1 for values in by_stage[1])
    assert [len(set(values)) for values in by_stage[2]] == [4, 4, 1, 1]


def test_the_draws_of_the_experiment_itself_do_not_depend_on_where_stages_run(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["drawn"])
    def draw(record: Any) -> Any:
        np.random.seed(0)
        random.seed(0)
        return draws()

    random.seed(1)
    np.random.seed(1)
    alone = [draws() for _ in range(3)]
    random.seed(1)
    np.random.seed(1)
    between = []
    for x in range(3):
        between.append(draws())
        draw(cf.Record(manager, Params("p", x=x))).state["drawn"]
    assert between == alone


# --- signals, children, threads --------------------------------------------------------------------------------------
def test_signal_handlers_and_alarms_end_with_their_stage(here: cf.ArtifactManager) -> None:
    rung = []

    @cf.stage(None, ["rung"])
    def ring(record: Any) -> Any:
        signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        while not rung:
            time.sleep(0.001)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        return len(rung)

    numbers = (signal.SIGALRM, signal.SIGUSR1, signal.SIGINT)
    before = list(map(signal.getsignal, numbers))
    timer = signal.getitimer(signal.ITIMER_REAL)
    assert ring(cf.Record(here, Params("p"))).state["rung"] == 1
    assert list(map(signal.getsignal, numbers)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == pytest.approx(timer, abs=10)
    assert bool(timer[0]) is bool(signal.getitimer(signal.ITIMER_REAL)[0])


def test_on_a_worker_a_stage_cannot_handle_signals(workers: Connection, tmp_path: Path) -> None:
    @cf.stage(None, ["nothing"])
    def handle(record: Any) -> Any:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    with (
        cf.ArtifactManager("leaks", cache=str(tmp_path / "cache"), cluster=workers.client) as manager,
        pytest.raises(ValueError, match="main thread"),
    ):
        handle(cf.Record(manager, Params("p"))).state["nothing"]


def test_what_runs_in_parallel_inside_a_stage(manager: cf.ArtifactManager) -> None:
    @cf.stage(None, ["pool", "joblib", "forest", "local"])
    def work(record: Any) -> Any:
        import joblib
        from sklearn.ensemble import RandomForestClassifier

        with multiprocessing.get_context("fork").Pool(2) as pool:
            pooled = pool.map(abs, [-1, -2, -3])
        parallel = joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-x) for x in range(3))
        joblib.externals.loky.get_reusable_executor().shutdown()
        forest = RandomForestClassifier(n_estimators=4, n_jobs=2).fit([[0.0], [1.0]] * 5, [0, 1] * 5)
        local = threading.local()
        local.value = "here"
        seen = []
        threads = [threading.Thread(target=lambda: seen.append(hasattr(local, "value"))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return pooled, parallel, forest.predict([[0.0], [1.0]]).tolist(), [*seen, local.value]

    assert dict(work(cf.Record(manager, Params("p"))).state) == {
        "pool": [1, 2, 3],
        "joblib": [0, 1, 2],
        "forest": [0, 1],
        "local": [False, False, "here"],
    }


def test_a_stage_may_set_the_start_method_each_time(here: cf.ArtifactManager) -> None:
    @cf.stage(None, ["method"])
    def start(record: Any) -> Any:
        multiprocessing.set_start_method("spawn")
        return multiprocessing.get_start_method()

    usual = multiprocessing.get_start_method(allow_none=True)
    try:
        multiprocessing.set_start_method(None, force=True)
        assert {start(cf.Record(here, Params("p", x=x))).state["method"] for x in range(2)} == {"spawn"}
    finally:
        multiprocessing.set_start_method(usual, force=True)


FORKING = """
    import logging, os, signal, sys, time, warnings
    import curidask as cf

    class Params(cf.ExperimentParameters):
        pass

    def child(how):
        pid = os.fork()
        if pid == 0:
            how()
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def talk():
        print("the child prints", flush=True)
        logging.getLogger("project").warning("the child logs")
        warnings.warn("the child warns")
        assert not [h for h in logging.root.handlers if type(h).__module__.startswith("curidask.cli")]

    def end():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    @cf.stage(None, ["codes"])
    def fork(record):
        print("the stage prints")
        return child(talk), child(end)

    @cf.stage(None, ["back"])
    def come_back(record):
        if os.fork() == 0:
            return "the child goes on"
        os.wait()
        return "the parent goes on"

    def get_params():
        return [Params("p")]

    def run(param_sets, manager):
        record = come_back(fork(cf.Record(manager, Params("p"))))
        print("codes", record.state["codes"], record.state["back"])
"""


@pytest.mark.parametrize("parallel", ["0", "1"])
def test_children_that_a_stage_forks_run_none_of_our_handlers(project: Project, parallel: str) -> None:
    project.write("experiments/forking.py", FORKING)
    done = project.experiment("forking", "--parallel", parallel)
    assert done.returncode == 0, done.stderr
    assert f"codes (0, {-signal.SIGTERM}) the parent goes on" in done.stdout
    said = done.stdout + done.stderr
    for text in ("the child prints", "WARNING project: the child logs", "UserWarning: the child warns"):
        assert said.count(text) == 1
    log = next(iter((project.root / "logs").glob("*.log"))).read_text()
    assert log.count("the stage prints") == 1


def test_threads_that_run_stages_at_the_same_time_leave_all_as_it_was() -> None:
    """Begin and end two stages in turns: the second begins after the first one's change and ends after it."""
    before = os.getcwd()
    begins, ends = threading.Event(), threading.Event()

    def other() -> None:
        with Kept():
            begins.set()
            ends.wait(30)

    thread = threading.Thread(target=other)
    with Kept() as outer:
        os.chdir("/")
        with Kept():
            os.chdir("/tmp")
        assert os.getcwd() == "/"
        with Kept() as inner:
            os.chdir("/tmp")
            thread.start()
            begins.wait(30)
            inner.undo()
        outer.undo()
        assert os.getcwd() == "/tmp", "another stage runs in it"
    assert os.getcwd() == "/tmp"
    ends.set()
    thread.join()
    assert os.getcwd() == before


def test_a_thread_has_its_own_tracing_back_while_others_run_stages() -> None:
    before = tracing()[:2]
    begins, ends = threading.Event(), threading.Event()

    def other() -> None:
        with Kept():
            begins.set()
            ends.wait(30)

    thread = threading.Thread(target=other)
    with Kept():
        thread.start()
        begins.wait(30)
        sys.setprofile(trace_nothing)
        sys.settrace(trace_nothing)
    after = tracing()[:2]
    ends.set()
    thread.join()
    assert after == before


def test_a_debugger_that_a_stage_starts_may_stop_in_a_later_one(here: cf.ArtifactManager) -> None:
    debugger = bdb.Bdb()
    debugger.reset()

    @cf.stage(None, ["nothing"])
    def start(record: Any) -> Any:
        sys.settrace(debugger.trace_dispatch)

    before = sys.gettrace()
    try:
        start(cf.Record(here, Params("p"))).state["nothing"]
        assert sys.gettrace() == debugger.trace_dispatch
    finally:
        sys.settrace(before)


def test_what_a_module_sets_up_for_itself_when_it_is_imported_stays(
    here: cf.ArtifactManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import logging\nlogger = logging.getLogger(__name__)\nlogger.addHandler(logging.NullHandler())\n"
    (tmp_path / "set_up_by_itself.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    @cf.stage(None, ["handlers"])
    def use(record: Any) -> Any:
        import set_up_by_itself

        logging.getLogger("set_up_by_stage").addHandler(logging.NullHandler())
        return [len(set_up_by_itself.logger.handlers), len(logging.getLogger("set_up_by_stage").handlers)]

    assert [use(cf.Record(here, Params("p", x=x))).state["handlers"] for x in range(2)] == [[1, 1], [1, 1]]
    sys.modules.pop("set_up_by_itself")


# --- what a stage prints and logs in this process --------------------------------------------------------------------
TALKING = """
    import logging, sys, time
    import curidask as cf
    from dataclasses import dataclass
    from tqdm import tqdm

    @dataclass
    class Params(cf.ExperimentParameters):
        x: int = 0

    @cf.stage(None, ["a"])
    def first(record):
        time.sleep(0.15)  # until the moving lines are drawn again
        return 1

    @cf.stage(["a"], ["b"])
    def second(record, a):
        x = record.params.x
        print("printed", x)
        for _ in tqdm(range(3), desc=f"bar {x}"):
            pass
        logging.getLogger("project").warning("logged before %s", x)
        logging.basicConfig(force=True, format="set up: %(message)s")
        logging.getLogger("project").warning("logged after %s", x)
        sys.stdout.buffer.write(b"bytes %d\\n" % x)
        sys.stdout.flush()
        sys.stderr.writelines([f"line {x}\\n", f"other line {x}\\n"])
        if x == 1:
            breakpoint()
        print("unfinished", x, end="")
        return 2

    def get_params():
        return [Params(f"p{x}", x=x) for x in range(3)]

    def run(param_sets, manager):
        for params in param_sets:
            second(first(cf.Record(manager, params)))
"""

SAID = (
    "printed {x}", "bar {x}: 100%", "logged before {x}", "set up: logged after {x}", "bytes {x}",
    "line {x}", "other line {x}", "unfinished {x}",
)  # fmt: skip


def test_stages_on_a_terminal(project: Project) -> None:
    """Each thing that was said stands there once, though the moving lines come and go."""
    project.write("experiments/talking.py", TALKING)
    command = [COMMANDS / "experiment", "talking", "--parallel", "0"]
    code, shown = on_a_terminal(command, project.root, typed=[("(Pdb) ", "x + 41\n"), ("(Pdb) ", "c\n")])
    assert code == 0, shown
    assert "\x1b[" in shown
    lines = screen(shown)
    said = [text.format(x=x) for x in range(3) for text in SAID]
    times = {text: sum(line.startswith(text) or line.endswith("] " + text) for line in lines) for text in said}
    assert times == dict.fromkeys(said, 1), lines
    assert "42" in lines
    log = next(iter((project.root / "logs").glob("*.log"))).read_text()
    for text in said:
        wanted = text if not text.startswith("bar") else text + "|"
        assert sum(wanted in line for line in log.splitlines()) == (2 if text.startswith("line") else 1), (text, log)
    assert log.count("[INFO] curidask.stderr") == 3 * 4
    assert "RecursionError" not in shown + log
