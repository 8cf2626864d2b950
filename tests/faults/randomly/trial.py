"""Running a scenario, and looking at all that must hold then."""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.randomly.damage import SECRET
from tests.faults.randomly.injection import Injector, Rule, hurry
from tests.faults.randomly.scenario import KEY, Scenario
from tests.faults.randomly.world import EXPERIMENT, Journal

PATIENCE_SECONDS = 40
HURRY = 30.0
LEASE_SECONDS = 0.3
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]|\r(?!\n)")
OURS = re.compile(r'File "[^"]*/curidask/[^"]*\.py", line|please report this as a defect|Exception ignored in')
LEFT = (".claim", ".work-", ".tmp-", ".probe", ".gc/")
PARTS = ("project/data/cache", "team", "project/data/runs")


@dataclass
class Ended:
    """How a command ended, and what it said."""

    code: int
    output: str
    journal: Journal
    changed: list[str]
    alive: bool
    seconds: float


@dataclass
class Trial:
    """A scenario in folders of its own.

    Attributes
    ----------
    scenario : Scenario
    root : Path
    main : callable
        ``curidask``, with `sys.argv`.
    problems : list of str
        What should not be.
    calls : set of str
        The numbers of all calls of stages there were.
    """

    scenario: Scenario
    root: Path
    main: Callable[[], Any]
    parallel: int = 0
    problems: list[str] = field(default_factory=list)
    calls: set[str] = field(default_factory=set)
    _number: int = 0

    # --- folders -----------------------------------------------------------------------------------------------------
    @property
    def cache(self) -> Path:
        return self.root / PARTS[0]

    @property
    def team(self) -> Path:
        return self.root / PARTS[1]

    @property
    def damaged(self) -> Path:
        """The tier that is damaged."""
        return self.cache if self.scenario.tiers == "one" or len(self.scenario.faults) % 2 else self.team

    @property
    def areas(self) -> dict[str, Path]:
        project = self.root / "project"
        return {
            "cache": self.cache, "team": self.team, "runs": project / "data/runs", "logs": project / "logs",
            "reports": project / "reports", "near": self.root / "near", "tmp": self.root / "tmp",
            "stage": self.root / "journal",
        }  # fmt: skip

    def prepare(self, templates: Path) -> None:
        """Make the folders: empty, or as an undisturbed run left them."""
        for name in ("home", "tmp", "journal", "outside/folder", "project/experiments"):
            (self.root / name).mkdir(parents=True)
        for name in ("secret", "folder/inner"):
            (self.root / "outside" / name).write_text(SECRET)
        (self.root / "project/experiments/faults.py").write_text(EXPERIMENT)
        mode = 'cache_mode = "rw,ro"\n' if self.scenario.tiers == "read-only" else ""
        lease = 60 if self.scenario.claims else 0
        text = f"cache = {json.dumps(self.tiers())}\n{mode}lease_seconds = {lease}\n"
        (self.root / "project/curidask.toml").write_text(text)
        if self.scenario.warm:
            self._warm(templates)
        for folder in (self.cache, self.team):
            if self.scenario.open:
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o777)
        self.settle()

    def tiers(self) -> list[str]:
        """What the project has as its cache."""
        return ["data/cache"] if self.scenario.tiers == "one" else ["data/cache", "../team"]

    def settle(self) -> None:
        """What was done to the files of a tier has been done."""

    def elsewhere(self) -> list[str]:
        """What lies in a tier that is no folder."""
        return []

    def _warm(self, templates: Path) -> None:
        template = templates / f"{self.scenario.shape}-{self.scenario.key}"
        if not template.exists():
            self._make_template(template)
        self.calls |= {*(template / "calls").read_text().split()}
        shutil.copytree(template / "runs", self.root / PARTS[2], symlinks=True)
        if self.scenario.tiers != "read-only" or Random(self.scenario.seed).random() < 0.5:
            shutil.copytree(template / "new", self.cache)
        if self.scenario.tiers != "one":
            shutil.copytree(template / "new", self.team)

    def _make_template(self, template: Path) -> None:
        plain = Scenario("", self.scenario.shape, ("score", "table"), warm=False, key=self.scenario.key)
        made = Trial(plain, template / "made", self.main)
        made.prepare(template)
        calls: set[str] = set()
        for kept, arguments in (("old", ()), ("new", ("--overwrite",))):
            ended = made.run("run", "faults", *arguments)
            assert ended.code == 0, ended
            shutil.copytree(made.cache, template / kept)
            calls |= ended.journal.made()
        shutil.copytree(made.root / PARTS[2], template / "runs", symlinks=True)
        (template / "calls").write_text(" ".join(calls))

    # --- processes ---------------------------------------------------------------------------------------------------
    def run(
        self,
        *arguments: str,
        rules: Sequence[Rule] = (),
        streams: str = "file file",
        clock: str = "",
        times: int = 1,
        beside: Sequence[str] = (),
    ) -> Ended:
        """Run a command in a process of its own, several times if need be; what it said all in all."""
        self._number += 1
        said = self.root / "journal" / f"{self._number}.said"
        asked, answers = os.pipe(), os.pipe()
        started = time.monotonic()
        pid = os.fork()
        if not pid:
            os.close(asked[0])
            os.close(answers[1])
            with last_word(said):
                self._enter(said, streams, clock, rules, (answers[0], asked[1]))
                self._command(arguments, times)
        os.close(asked[1])
        os.close(answers[0])
        try:
            code = self._attend(pid, asked[0], answers[1], beside)
            if os.environ.get("SHOW"):
                print(arguments, code, round(time.monotonic() - started, 3), clock, file=sys.stderr)
        finally:
            os.close(asked[0])
            os.close(answers[1])
        return self._ended(pid, code, said, time.monotonic() - started)

    def _ended(self, pid: int, code: int, said: Path, seconds: float) -> Ended:
        output = said.read_text(errors="replace") if said.exists() else ""
        changes = said.with_suffix(".changed")
        changed = [json.loads(line) for line in changes.read_text().splitlines()] if changes.exists() else []
        alive = is_there(pid, 5 if self.parallel else 0)
        journal = Journal.read(self.scenario.shape, said.with_suffix(".journal"))
        self.calls |= journal.made()
        return Ended(code, output, journal, changed, alive, seconds)

    def _attend(self, pid: int, asked: int, answers: int, beside: Sequence[str]) -> int:
        """Wait for a process, and do what it asks for: let somebody else run beside it, or while it sleeps."""
        until = time.monotonic() + PATIENCE_SECONDS
        other = 0
        asleep = False
        while time.monotonic() < until:
            ready, _, _ = select.select([asked], [], [], 0.002 if other else 0.2)
            what = os.read(asked, 1) if ready else b""
            if what:
                asleep = what == b"a"
                if asleep:
                    os.kill(pid, signal.SIGSTOP)
                other = self._start_beside(beside)
            if other and os.waitpid(other, os.WNOHANG)[0]:
                other = 0
                if asleep:
                    os.kill(pid, signal.SIGCONT)
                with suppress(BrokenPipeError):
                    os.write(answers, b".")
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._end(other)
                return os.waitstatus_to_exitcode(status)
            if ready and not what:
                select.select([], [], [], 0.005)  # it has closed its end, and is about to end
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGABRT)  # says where it stands
        os.waitpid(pid, 0)
        self._end(other)
        self.problems.append(f"it did not end within {PATIENCE_SECONDS} s")
        return -signal.SIGABRT

    def _end(self, other: int) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while other and time.monotonic() < until:
            if os.waitpid(other, os.WNOHANG)[0]:
                return
            time.sleep(0.002)
        if other:
            self.problems.append("who ran beside it did not end")
            os.kill(other, signal.SIGABRT)
            os.waitpid(other, 0)

    def _start_beside(self, arguments: Sequence[str]) -> int:
        said = self.root / "journal" / "beside.said"
        pid = os.fork()
        if not pid:
            pipe = os.pipe()
            with last_word(said):
                self._enter(said, "file file", "lease", (), pipe)
                self._command(arguments, 1)
        return pid

    def beside(self) -> Ended | None:
        """How whoever ran beside has ended."""
        said = self.root / "journal" / "beside.said"
        return self._ended(1 << 22, int(said.with_suffix(".code").read_text()), said, 0) if said.exists() else None

    def _enter(self, said: Path, streams: str, clock: str, rules: Sequence[Rule], pipes: tuple[int, int]) -> None:
        """Become the process of a command."""
        os.setsid()
        tempfile.tempdir = None
        project = self.root / "project"
        os.chdir(project)
        environment = {
            "HOME": self.root / "home",
            "TMPDIR": self.root / "tmp",
            "CURIDASK_NEAR_CACHE": self.root / "near",
        }
        environment |= {"FAULTS_JOURNAL": said.with_suffix(".journal"), "FAULTS_SHAPE": self.scenario.shape}
        os.environ.update({name: str(value) for name, value in environment.items()})
        os.environ["FAULTS_READS"] = " ".join(self.scenario.reads)
        if self.scenario.key:
            os.environ["CURIDASK_CACHE_KEY"] = KEY
        open_streams(said, *streams.split())
        if clock == "hurry":
            hurry(HURRY)
        if clock == "lease":
            shorten_leases()
        writable = [*self.areas.values(), self.root / "journal", project / "data", project / "notebooks"]
        changed = said.with_suffix(".changed")
        Injector(rules, self.areas, writable, changed, pipes).install()

    def _command(self, arguments: Sequence[str], times: int) -> None:
        extra = ["--parallel", str(self.parallel)] if arguments[0] == "run" and "--map" not in arguments else []
        sys.argv = ["/usr/bin/curidask", *arguments, *extra]
        for _ in range(times - 1):
            try:
                self.main()
            except SystemExit as error:
                if error.code:
                    raise
            print("again", file=sys.stderr)
            note = json.dumps({"event": "again"}) + "\n"
            with open(os.environ["FAULTS_JOURNAL"], "a") as file:
                file.write(note)
            for name in [name for name in sys.modules if name.partition(".")[0] in ("experiments", "faults")]:
                del sys.modules[name]
        self.main()


@contextmanager
def last_word(said: Path) -> Iterator[None]:
    """End this process as a command would."""
    code = 120
    try:
        try:
            yield
        finally:
            atexit._run_exitfuncs()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        import traceback

        with open(said, "a") as file:
            file.write("it came out of the command:\n" + traceback.format_exc())
        code = 121
    finally:
        Injector.is_on = False
        try:
            for stream in (sys.stdout, sys.stderr):
                try:
                    with suppress(ValueError, AttributeError):  # closed, or none
                        stream.flush()
                except OSError:
                    code = code or 120  # as Python ends then
            said.with_suffix(".code").write_text(str(code))
        finally:
            os._exit(code)


def open_streams(said: Path, output: str, errors: str) -> None:
    """Have standard output and standard error lead to where they are to."""
    import faulthandler
    import io

    for number, kind in enumerate((output, errors), start=1):
        if kind == "closed":
            os.close(number)
            continue
        if kind == "unread":
            reading, writing = os.pipe()
            os.close(reading)
        else:
            path = "/dev/full" if kind == "full" else said
            writing = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.dup2(writing, number)
        os.close(writing)
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False))) if output != "closed" else None  # type: ignore[assignment]
    sys.stderr = (
        io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w", closefd=False)), line_buffering=True)
        if errors != "closed"
        else None  # type: ignore[assignment]
    )
    faulthandler.enable(file=os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666), all_threads=True)


def shorten_leases() -> None:
    """Let claims of this process end soon, and have it wait no longer than that for somebody who hangs."""
    from curidask.store.backends import local
    from curidask.store.claims import Claims

    local.LOCK_PATIENCE_SECONDS = LEASE_SECONDS
    usual = Claims.__init__

    def shorter(self: Claims, objects: Any, session: str, user: str, lease_seconds: float) -> None:
        usual(self, objects, session, user, min(lease_seconds, LEASE_SECONDS))

    Claims.__init__ = shorter  # type: ignore[method-assign]


def is_there(group: int, seconds: float = 0) -> bool:
    """Whether a process of a group lives still, after so many seconds."""
    until = time.monotonic() + seconds
    try:
        while True:
            os.killpg(group, 0)
            if time.monotonic() >= until:
                break
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
