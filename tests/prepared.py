"""Commands in processes forked from one that has imported what they import, which is most of the work of a small run.

Each is a process of its own all the same: with the folder, environment, search path, session and output files that it
would have if it was started. Its worker processes are started as always. Two things are not as in a started command:
Python does not take itself apart at the end, and what is imported early cannot be seen. So the tests of the README, of
the examples and of what commands import, and all that go on beside a command, start it as a user does.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import multiprocessing.process
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

COMMANDS = Path(sys.executable).parent
FORKED = ("curidask", "experiment")
READ_EARLY = {"PYTHONPATH", "PYTHONHASHSEED"}
"""Variables that Python reads when it starts."""


def run(
    name: str, arguments: Sequence[str], folder: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run ``experiment`` or ``curidask`` in a folder, with nothing on standard input."""
    with tempfile.TemporaryDirectory() as output:
        return _run(name, arguments, folder, env, Path(output), timeout)


def _run(
    name: str, arguments: Sequence[str], folder: Path, env: Mapping[str, str], output: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    paths = output / "stdout", output / "stderr"
    process = _context().Process(
        target=_command, args=([str(COMMANDS / name), *arguments], str(folder), dict(env), _search_path(), paths)
    )
    process.start()
    try:
        process.join(timeout)
        if process.exitcode is None:
            raise subprocess.TimeoutExpired([name, *arguments], timeout, *(path.read_text() for path in paths))
    finally:
        _end(process)
    return subprocess.CompletedProcess([name, *arguments], process.exitcode, *(path.read_text() for path in paths))


def _end(process: ForkServerProcess) -> None:
    if process.exitcode is None:
        with contextlib.suppress(ProcessLookupError):  # before it leads a session
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join()


@functools.cache
def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "tests.imported"])
    return context


@functools.cache
def _search_path() -> list[str]:
    """Where an installed command finds modules: not where the tests find theirs."""
    found = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.path[1:], sep='\\n')"],
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        capture_output=True,
        text=True,
        check=True,
    )
    return [str(COMMANDS), *found.stdout.splitlines()]


def _command(
    arguments: list[str], folder: str, env: dict[str, str], search_path: list[str], paths: tuple[Path, Path]
) -> None:
    """Be the command, in a forked process."""
    os.setsid()
    for number, path in enumerate(paths, start=1):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), number)
    os.chdir(folder)
    multiprocessing.process.ORIGINAL_DIR = folder  # where worker processes start
    os.environ.clear()
    os.environ.update(env)
    sys.path[:] = search_path
    sys.argv[:] = arguments
    main = importlib.import_module(f"curidask.cli.{Path(arguments[0]).name}").main
    try:
        sys.exit(main())
    finally:
        atexit._run_exitfuncs()  # which a process of multiprocessing leaves out
