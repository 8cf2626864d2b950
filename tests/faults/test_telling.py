"""What cannot be told never stops what is computed."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import curidask as cf
from curidask.cli.run import main
from curidask.core.graph import Graph
from curidask.errors import CacheError
from curidask.execution.listener import Listener
from curidask.execution.process.context import ERR, LOG, OUT, WARNING, Spoken
from curidask.session.events import EventBus
from curidask.session.logging import log_file
from curidask.session.progress import Progress
from tests.conftest import Project

EXPERIMENT = """
import curidask as cf
from curidask.caching import JsonCacher


@cf.stage(None, ["value"], [JsonCacher])
def load(record):
    print("said \\ud800 by the stage")
    return record.params.name


def get_params():
    return [cf.ExperimentParameters("one")]


def run(param_sets, manager):
    for params in param_sets:
        load(cf.Record(manager, params))
"""
WITH_CHILDREN = EXPERIMENT.replace(
    'print("said \\ud800 by the stage")',
    """import subprocess
    assert subprocess.run(["echo", "1"], capture_output=True).stdout == b"1\\n"
    subprocess.run(["cat"], check=True)""",
)
COMMAND = "from curidask.cli.commands import main; main()"


def run(
    project: Path,
    redirected: str,
    *arguments: str,
    text: str = EXPERIMENT,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run the experiment by a shell, with streams as it redirects them."""
    (project / "experiments").mkdir(exist_ok=True)
    (project / "experiments" / "telling.py").write_text(text)
    line = f'exec "$0" -c "$1" run telling --no-report {" ".join(arguments)} {redirected}'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        ["sh", "-c", line, sys.executable, COMMAND],
        cwd=project, env=environment, stdout=stdout, stderr=stderr, encoding="utf-8", errors="replace",
        timeout=150, check=False,
    )  # fmt: skip


def n_stored(project: Path) -> int:
    return len(list((project / "data" / "cache").glob("telling_*_metadata.json")))


LOST = ["2>/dev/full", ">/dev/full", "2>&-", ">&-", ">&- 2>&-", ">/dev/full 2>&1"]


@pytest.mark.parametrize(
    ("redirected", "unbuffered"), [*((each, "") for each in LOST), *((each, "1") for each in LOST if "full" in each)]
)
def test_streams_that_are_full_or_closed(
    tmp_path: Path, redirected: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)  # as images of containers do
    done = run(tmp_path, redirected, "--parallel", "0")
    assert (done.returncode, n_stored(tmp_path)) == (0, 1), done.stdout + done.stderr
    if redirected in ("2>/dev/full", ">/dev/full"):
        assert (done.stdout + done.stderr).count("is lost from here on: No space left on device") == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr


def test_that_standard_error_is_lost_is_told_after_what_the_experiment_prints(tmp_path: Path) -> None:
    text = EXPERIMENT + '    print("first")\n    manager.finish()\n    print("last")\n'
    done = run(tmp_path, "2>/dev/full", "--parallel", "0", text=text)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("said")]
    assert lines[:2] == ["first", "last"]
    assert len(lines) == 3
    assert "<stderr> is lost" in lines[2]


RUNNING = "run telling --parallel 0 --no-report"
LOOKING = (
    "run telling --map", "run telling --print-params", "run telling --hashes", "run telling --paths", "ls", "runs",
    "cache ls --json", "cache du", "explain telling", "completion bash", "--help", "--version",
)  # fmt: skip


def test_commands_that_only_tell_fail_where_nothing_can_be_told(in_project: Project) -> None:
    (in_project.root / "experiments" / "telling.py").write_text(EXPERIMENT)
    with open("/dev/full", "wb", buffering=0) as full:
        script = "\n".join(
            [
                "import os, sys",
                "from curidask.cli.commands import main",
                "def code(*words):",
                "    child = os.fork()",
                "    if not child:",
                "        sys.argv = ['curidask', *words]",
                "        main()",
                "    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])",
                f"for words in {(RUNNING, *LOOKING)}:",
                "    print(words, code(*words.split()), file=sys.stderr)",
            ]
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=in_project.root, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=90,
            check=True,
        )  # fmt: skip
    codes = dict(re.findall(r"^(.*) (\d+)$", done.stderr, re.M))
    assert codes == {RUNNING: "0", **dict.fromkeys(LOOKING, "1")}


def test_a_reader_that_has_had_enough_of_a_map_hears_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(tmp_path, "", "--map", stdout=writing)
    os.close(writing)
    assert done.stderr == ""


def test_standard_error_that_nobody_reads_any_more(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(tmp_path, "", "--parallel", "0", stderr=writing)
    os.close(writing)
    assert (done.returncode, n_stored(tmp_path)) == (0, 1), done.stdout
    assert done.stdout.count("is lost from here on: Broken pipe") == 1


@pytest.mark.parametrize(("ending", "code"), [("return record.params.name", 0), ("raise ValueError", 1)])
def test_standard_output_that_nobody_reads_any_more(tmp_path: Path, ending: str, code: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    text = EXPERIMENT.replace("return record.params.name", ending)
    done = run(tmp_path, "", "--parallel", "0", text=text, stdout=writing)
    os.close(writing)
    assert done.returncode == code, done.stderr
    assert "BrokenPipeError" not in done.stderr


@pytest.mark.parametrize("parallel", ["0", "1"])
def test_children_of_stages_where_all_streams_are_closed(tmp_path: Path, parallel: str) -> None:
    done = run(tmp_path, "<&- >&- 2>&-", "--parallel", parallel, text=WITH_CHILDREN)
    log = next((tmp_path / "logs").glob("*.log")).read_text()
    assert (done.returncode, n_stored(tmp_path)) == (0, 1), log
    assert "died" not in log


def test_all_of_it_on_workers(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("logs", "data/runs"):
        (tmp_path / name).touch()
    done = run(tmp_path, ">/dev/full", "--parallel", "1")
    assert (done.returncode, n_stored(tmp_path)) == (0, 1), done.stderr
    assert done.stderr.count("is not written") == 1
    assert done.stderr.count("is lost from here on") == 1
    assert done.stderr.count("nothing is kept of how it went") == 1


def test_logs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    done = run(tmp_path, "", "--parallel", "0")
    assert (done.returncode, n_stored(tmp_path)) == (0, 1), done.stderr
    assert done.stderr.count("is not written: File exists; the run goes on") == 1
    assert "said \\ud800 by the stage" in done.stdout


def test_a_log_that_is_full_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "full.log").symlink_to("/dev/full")
    with log_file(tmp_path / "full.log", tmp_path):
        for number in range(3):
            logging.getLogger("curidask.run").warning("told %d", number)
    told = [record.getMessage() for record in caplog.records]
    assert sum("is not written: No space left on device" in text for text in told) == 1
    assert len(told) == 4


def test_runs_that_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "runs").touch()
    done = run(tmp_path, "", "--parallel", "0")
    assert (done.returncode, n_stored(tmp_path)) == (0, 1), done.stderr
    assert done.stderr.count("nothing is kept of how it went") == 1
    assert "record:" not in done.stderr


# --- whoever is told -------------------------------------------------------------------------------------------------
PLAIN = EXPERIMENT.replace(r" \ud800", "")
EVENTS = ("planned", "started_executor", "ended", "blocked", "waiting", "warned", "said", "before_print")


class Broken(Listener):
    """A listener that raises whatever it is told."""

    def __getattribute__(self, name: str) -> Any:
        if name not in EVENTS:
            return object.__getattribute__(self, name)
        return self._raise

    def _raise(self, *_: Any) -> None:
        raise ValueError("no ink")


@contextmanager
def warned(text: str) -> Iterator[list[str]]:
    """Take down the warnings with that text which Python shows."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield texts
    texts += [str(warning.message) for warning in told if text in str(warning.message)]


def write_experiment(project: Project) -> None:
    project.write("experiments/telling.py", PLAIN)


def test_a_listener_that_raises_fails_no_stage(in_project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_experiment(in_project)
    with warned("no ink") as texts:
        _, manager = cf.run_experiment("telling", parallel=0, listeners=[Broken(), Broken()], mngr=True)
    assert len(texts) == 2  # one for each
    named = "the listener tests.faults.test_telling.Broken failed in {}(): ValueError: no ink; the run goes on"
    assert {named.format("planned"), named.format("warned")} == set(texts)
    assert n_stored(in_project.root) == 1
    record = json.loads((manager.run_folder / "run.json").read_text())
    assert record["status"] == "done"
    assert sum("no ink" in text for text in record["warnings"]) == 2
    assert "said" in capsys.readouterr().out


def test_what_workers_say_to_a_listener_that_raises() -> None:
    bus = EventBus(Graph(), [Broken()])
    with warned("failed in said(): ValueError: no ink") as told:
        for kind in (OUT, ERR, WARNING):
            bus.hear(Spoken(0, kind, "text"))
    assert len(told) == 1


def test_what_workers_log_to_a_handler_that_raises() -> None:
    def broken(_record: logging.LogRecord) -> bool:
        raise ValueError("no ink")

    logger = logging.getLogger("tests.telling")
    logger.addFilter(broken)
    with warned("the logging of what workers log failed in said(): ValueError: no ink") as told:
        for _ in range(2):
            EventBus(Graph()).hear(Spoken(0, LOG, "text", logger="tests.telling", level=logging.ERROR))
    logger.removeFilter(broken)
    assert len(told) == 2  # one for each session


def test_what_workers_log_reaches_the_handlers_that_have_not_had_it_there(tmp_path: Path) -> None:
    kind, texts = "logging.StreamHandler", [io.StringIO() for _ in range(2)]
    logger = logging.getLogger("tests.telling.relayed")
    logger.propagate = False
    handlers = [*map(logging.StreamHandler, texts), logging.FileHandler(tmp_path / "here.log")]
    logger.handlers[:] = handlers
    for text, had in (
        ("by neither", []),
        ("by the first", [[logger.name, kind, ""]]),
        ("by both", [[logger.name, kind, ""]] * 2),
        ("by another logger's", [["", kind, ""]]),
        ("into another file", [[logger.name, "logging.FileHandler", "/there.log"]]),
        ("into the file", [[logger.name, "logging.FileHandler", str(tmp_path / "here.log")]]),
    ):
        EventBus(Graph()).hear(Spoken(0, LOG, text, logger=logger.name, level=logging.ERROR, had=had))
    logger.handlers.clear()
    handlers[-1].close()
    got = [text.getvalue().splitlines() for text in texts] + [(tmp_path / "here.log").read_text().splitlines()]
    others = ["by another logger's", "into another file"]
    assert got[0] == ["by neither", *others, "into the file"]
    assert got[1] == ["by neither", "by the first", *others, "into the file"]
    assert got[2] == ["by neither", "by the first", "by both", *others]


def test_a_live_session_with_a_listener_that_raises(in_project: Project) -> None:
    with warned("no ink") as told, cf.ArtifactManager("live", listeners=[Broken()]) as manager:
        record = cf.Record(manager, cf.ExperimentParameters("one"))
        assert double(record).state["doubled"] == 2
    assert len(told) == 1


@cf.stage(None, ["doubled"])
def double(record: Any) -> int:
    return 2


def test_a_plan_that_cannot_be_meant_is_refused_and_told_to_nobody(in_project: Project) -> None:
    in_project.write("experiments/telling.py", PLAIN.replace("[JsonCacher]", "[JsonCacher(path_override='out/')]"))
    with pytest.raises(CacheError, match="names a folder"):
        cf.run_experiment("telling", parallel=0)
    assert n_stored(in_project.root) == 0


@pytest.mark.parametrize("method", ["ended", "planned", "close", "warned"])
def test_a_display_that_breaks(
    in_project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no screen")

    monkeypatch.setattr(Progress, method, broken)
    write_experiment(in_project)
    assert exit_code_of("telling", "--parallel", "0", "--no-report") == 0
    assert n_stored(in_project.root) == 1
    error = capsys.readouterr().err
    assert error.count("no screen") == (method != "warned")
    if method == "warned":  # it is in no repository
        assert "is in no git repository" in error


def exit_code_of(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["experiment", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RecursionError("too deep"), OSError(28, "No space left")])
def test_a_report_that_cannot_be_made(
    in_project: Project,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    fails: bool,
) -> None:
    def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr("curidask.reporting.index.render", broken)
    code = PLAIN.replace("return record", "return 1 / 0, record") if fails else PLAIN
    in_project.write("experiments/telling.py", code)
    assert exit_code_of("telling", "--parallel", "0") == fails
    told = capsys.readouterr().err
    assert ("ZeroDivisionError" in told) == fails
    is_interrupt = isinstance(error, KeyboardInterrupt)
    assert told.count("the report was interrupted" if is_interrupt else "the report could not be written") == 1
    assert not list(in_project.root.glob("reports/.new-*"))


def test_who_wants_to_know_of_the_report_fails_no_run(in_project: Project) -> None:
    write_experiment(in_project)

    def broken(path: Path) -> None:
        raise ValueError(f"no browser for {path.name}")

    with pytest.warns(UserWarning, match="ValueError: no browser for index.html"):
        cf.run_experiment("telling", parallel=0, report=True, on_report=broken)


# --- the record ------------------------------------------------------------------------------------------------------
UNSHOWABLE = """

class Odd:
    def __init__(self):
        self.number = 1

    def __repr__(self):
        raise RuntimeError("no words")

    def __len__(self):
        raise RuntimeError("no length")

    def __getstate__(self):
        return {"number": 1}

    def __reduce_ex__(self, protocol):
        return Odd, ()


@dataclass
class Params(cf.ExperimentParameters):
    odd: object = field(default_factory=Odd)


@cf.stage(None, ["value"], [PickleCacher])
def load(record):
    return record.params.odd


def get_params():
    return [Params("one")]
"""


def test_values_that_cannot_be_shown_are_computed_and_recorded(in_project: Project) -> None:
    imports = "from dataclasses import dataclass, field\nfrom curidask.caching import PickleCacher\n"
    in_project.write("experiments/telling.py", imports + PLAIN.replace("def get_params", "def older") + UNSHOWABLE)
    _, manager = cf.run_experiment("telling", parallel=0, mngr=True)
    record = json.loads((manager.run_folder / "run.json").read_text())
    assert [task["status"] for task in record["tasks"]] == ["done"]


@pytest.mark.parametrize(
    "part", ["runs.param_registry.add", "runs.recorder.artifact_info", "runs.record.loaded_packages"]
)
def test_a_record_that_cannot_be_made(
    in_project: Project, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def broken(*_: Any) -> None:
        raise TypeError("no pen")

    write_experiment(in_project)
    cf.run_experiment("telling", parallel=0)
    monkeypatch.setattr(f"curidask.{part}", broken)
    _, manager = cf.run_experiment("telling", parallel=0, mngr=True)
    assert sum("TypeError: no pen. The run goes on" in record.getMessage() for record in caplog.records) == 1
    assert (manager.run_folder / "run.json").exists() == (part != "runs.record.loaded_packages")


def test_reportables_that_cannot_be_kept(in_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    code = PLAIN.replace("    print(", "    record.report(HTMLReporter('<p>1</p>'))\n    print(")
    in_project.write("experiments/telling.py", "from curidask.reporting import HTMLReporter\n" + code)

    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("curidask.runs.reportables.ReportCollector._add_of_stage", refuse)
    with pytest.warns(UserWarning, match="the keeping of what stages reported failed in ended.*No space left"):
        cf.run_experiment("telling", parallel=0)
    assert n_stored(in_project.root) == 1
