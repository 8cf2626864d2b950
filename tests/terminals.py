"""Commands on a terminal, with somebody who types, and what then stands on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import clean_environment, end_group

ROWS, COLUMNS = 50, 100

MOVE = re.compile(r"\x1b\[(\d*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


def on_a_terminal(
    command: Sequence[str | Path], folder: Path, typed: Sequence[tuple[str, str]] = (), timeout: float = 90
) -> tuple[int, str]:
    """Run a command on a terminal.

    Parameters
    ----------
    command : sequence of str or Path
    folder : Path
    typed : sequence of tuple
        What to wait for on the terminal, and what to type then, one after the other.
    timeout : float
        In seconds.

    Returns
    -------
    tuple of int and str
        The exit code and what was written to the terminal.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    env = clean_environment() | {"TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen(
        list(map(str, command)), cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        shown = _read(ours, list(typed), time.monotonic() + timeout)
        return process.wait(timeout=30), shown.decode()
    finally:
        end_group(process)
        os.close(ours)


def _read(terminal: int, typed: list[tuple[str, str]], end: float) -> bytes:
    shown = b""
    looked = 0
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if typed and typed[0][0].encode() in shown[looked:]:
            looked = len(shown)
            os.write(terminal, typed.pop(0)[1].encode())
    return shown


def screen(shown: str) -> list[str]:
    """The lines that stand on a terminal of any height after it was written to."""
    lines, row, column = [""], 0, 0
    for found in MOVE.finditer(shown):
        text, count, move = found[0], int(found[1] or 1) if (found[1] or "").isdigit() else 1, found[2]
        if text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif move == "A":
            row = max(row - count, 0)
        elif move == "J":
            lines[row:] = [lines[row][:column]]
        elif not move:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
    return [line.rstrip() for line in lines]
