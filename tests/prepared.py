"""Commands in processes forked from one that has imported what they import, which is most of the work of a small run.

Each is a process of its own all the same: with the folder, environment, search path, session and output files that it
would have if it was started. What its workers are forked from is forked before the command begins, and waits until it
is wanted. Three things are not as in a started command: Python does not take itself apart at the end, what is imported
early cannot be seen, and workers have the seed for hashes that the command has. So the tests of the README, of the
examples, of local workers and of what commands import, and all that go on beside a command, start it as a user does.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import multiprocessing.process
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, util
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

COMMANDS = Path(sys.executable).parent
FORKED = {"curidask": "commands", "experiment": "run"}
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
    if "0" not in arguments:  # as in `--parallel 0`, which needs none
        prepare_workers()
    main = importlib.import_module(f"curidask.cli.{FORKED[Path(arguments[0]).name]}").main
    try:
        sys.exit(main())
    finally:
        atexit._run_exitfuncs()  # which a process of multiprocessing leaves out


FORK_SERVER = re.compile(r"from multiprocessing\.forkserver import main; main\((\d+), (\d+), (\[.*?\]), ")
"""How multiprocessing starts one: its sockets, and what it imports."""


def prepare_workers() -> None:
    """Have a process that becomes the first fork server which this one starts, with nothing of a project in it."""
    ours, its = socket.socketpair()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            ours.close()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            _become_fork_server(its)
        os._exit(0)
    its.close()
    started = util.spawnv_passfds

    def become(path: Any, arguments: Sequence[str], handed_on: Sequence[int]) -> int:
        found = FORK_SERVER.search(arguments[-1])
        if not found or ours.fileno() < 0:
            return int(started(path, arguments, handed_on))
        wanted = {"env": dict(os.environ), "imported": json.loads(found[3].replace("'", '"'))}
        with ours:
            socket.send_fds(ours, [json.dumps(wanted).encode()], [int(found[1]), int(found[2])])
        return pid

    util.spawnv_passfds = become


def _become_fork_server(its: socket.socket) -> None:
    """Wait until one is wanted, or the command has ended, and be it."""
    with its:
        said, numbers, _, _ = socket.recv_fds(its, 1 << 20, 2)
    if numbers:
        wanted = json.loads(said)
        os.environ.clear()
        os.environ.update(wanted["env"])
        forkserver.main(*numbers, wanted["imported"])
