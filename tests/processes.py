"""Long-running programs for tests: started as children, never left behind, found to be ready by looking."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

STOP_SECONDS = 10.0


def wait_for(condition: Callable[[], object], seconds: float = 30.0, what: str = "it") -> None:
    """Return when a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.02)


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(host: str, port: int) -> bool:
    """Whether something listens on a port."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def install(*packages: str, command: str) -> None:
    """Install Debian packages when a command is missing.

    Tests on the real thing need it; where it cannot be had, they fail and say what is missing.
    """
    if shutil.which(command) is not None:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise AssertionError(f"the command {command} is missing; these tests need the Debian packages {packages}")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        # Another test process may be installing just now; apt waits for its lock.
        command_line = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments]
        done = subprocess.run(command_line, capture_output=True, text=True, env=env, check=False)
        assert done.returncode == 0, f"{' '.join(command_line)} failed: {done.stderr}"
    assert shutil.which(command) is not None, f"the packages {packages} brought no {command}"


class Processes:
    """Programs that run until the block ends, each in a group of its own, with their output in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            self.stop(process)

    def start(
        self, name: str, command: Sequence[str | Path], *, env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program."""
        # A test run that is killed takes the program with it, where the system can do that.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [*guard, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd or self.folder,
                env=env,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def said(self, name: str) -> str:
        """What a program has written so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    @staticmethod
    def stop(process: subprocess.Popen[Any], sent: signal.Signals = signal.SIGTERM) -> None:
        """End a program with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)


def race(script: str, *arguments: Sequence[str]) -> list[str]:
    """Run a script in several processes that go on together once each has printed ``ready``; what they printed then.

    Parameters
    ----------
    script : str
        Prints ``ready`` and reads a line before it begins.
    *arguments : sequence of str
        One for each process.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, *own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for own in arguments
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return printed
