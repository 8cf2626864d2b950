"""``--detach``: the run goes on in a process of its own, and the command returns."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from curidask.errors import CacheError
from curidask.runs.layout import ANNOUNCE, OUTPUT, output_beside
from curidask.session.terminal import say

if TYPE_CHECKING:
    from curidask.session.config import Config

FLAG = "--detach"

LONGEST_WAIT_SECONDS = 30.0
"""How long to wait for the run to say its name: it has one when its first stages are planned."""

LOOK_SECONDS = 0.05


class Started(Protocol):
    """Something that runs a command for us."""

    @property
    def label(self) -> str:
        """What it is, for the user."""
        ...

    @property
    def how_to_stop(self) -> str:
        """The command that ends it."""
        ...

    def exit_code(self) -> int | None:
        """None while it runs."""
        ...


class Launcher(Protocol):
    """Starts a command that goes on when this process has ended."""

    def __call__(self, command: Sequence[str], output: Path, environment: Mapping[str, str]) -> Started:
        """Start it in the current folder.

        Parameters
        ----------
        command : sequence of str
            A command line.
        output : Path
            A file for what it prints.
        environment : mapping of str to str
            Variables that it gets beside those of this process.
        """
        ...


@dataclass(frozen=True, slots=True)
class LocalProcess:
    """A process of this machine in a session of its own, so that it outlives the terminal."""

    process: subprocess.Popen[bytes]

    @property
    def label(self) -> str:
        """Its number."""
        return f"process {self.process.pid}"

    @property
    def how_to_stop(self) -> str:
        """End it as Ctrl-C would."""
        return f"kill {self.process.pid}"

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll()


def on_this_machine(command: Sequence[str], output: Path, environment: Mapping[str, str]) -> Started:
    """Start a command as a process of this machine."""
    with open(output, "wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            start_new_session=True,
        )
    return LocalProcess(process)


def launcher(config: Config, cluster: str | None) -> Launcher:
    """What starts the driver of a run on a cluster: SLURM, for one of that kind, else this machine.

    Raises
    ------
    ConfigurationError
        For a cluster that is not there, or settings that cannot be used.
    """
    if cluster is None:
        return on_this_machine
    from curidask.clusters.registry import find
    from curidask.clusters.slurm_driver import submit_driver

    settings = find(cluster, config.cluster, root=config.root, source=config.source)
    return partial(submit_driver, settings) if settings.facts.has_driver else on_this_machine


def run_command_line(arguments: Sequence[str], *, is_subcommand: bool) -> list[str]:
    """The command line that runs an experiment attached, out of the arguments of one that detaches.

    Parameters
    ----------
    arguments : sequence of str
        As they were given to ``experiment`` or, after ``run``, to ``curidask``.
    is_subcommand : bool
        Whether it was ``curidask``.
    """
    left = [argument for argument in (arguments[1:] if is_subcommand else arguments) if argument != FLAG]
    return [sys.executable, "-m", "curidask", "run", *left, "--plain"]


def detach(config: Config, command: Sequence[str], launch: Launcher = on_this_machine) -> int:
    """Start a run elsewhere, and return when it is known that it runs, or why it does not.

    Parameters
    ----------
    command : sequence of str
        See `run_command_line`.
    launch : callable
        What starts it.

    Returns
    -------
    int
        The exit code: 0 when it runs; that of the run when it has ended by then.

    Raises
    ------
    CacheError
        When the folder of logs cannot be written.
    """
    logs = config.path(config.logs)
    announced = _announcement(logs)
    try:
        output = announced.with_suffix(OUTPUT)
        started = launch(command, output, {ANNOUNCE: str(announced)})
        reference = _wait(started, announced)
    finally:
        announced.unlink(missing_ok=True)  # a run that begins later finds nobody who waits for its name
    code = started.exit_code()
    if not reference and code is not None:
        sys.stderr.write(_printed(output))
        output.unlink(missing_ok=True)
        return code
    if reference:
        say(f"{reference} runs as {started.label}")
        say(f"  follow: curidask attach {reference}   (Ctrl-C there leaves it alone)")
        output = output_beside(announced, reference)
    else:
        say(f"{shlex.join(command)} was started as {started.label} and has planned nothing yet")
        say("  follow: curidask attach, once `curidask runs` lists it")
    say(f"  stop:   {started.how_to_stop}")
    say(f"  output: {output}")
    return 0


def _announcement(logs: Path) -> Path:
    """An empty file, for the run to write its reference into."""
    try:
        logs.mkdir(parents=True, exist_ok=True)
        file, name = tempfile.mkstemp(dir=logs, prefix="detached-", suffix=".reference")
    except OSError as error:
        raise CacheError(
            f"The folder of logs cannot be written: {error.strerror or error}.",
            where=str(logs),
            fix="make it writable, or set `logs` in the configuration",
        ) from error
    os.close(file)
    return Path(name)


def _wait(started: Started, announced: Path) -> str:
    end = time.monotonic() + LONGEST_WAIT_SECONDS
    while time.monotonic() < end:
        is_over = started.exit_code() is not None
        reference = announced.read_text()
        if reference or is_over:
            return reference
        time.sleep(LOOK_SECONDS)
    return ""


def _printed(output: Path) -> str:
    try:
        return output.read_text(errors="replace")
    except OSError:
        return ""
