"""What else may lie where a file should: pipes, folders, links to where nobody should go."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random


def cleared(path: Path) -> Path:
    """A path at which nothing is."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def special(chance: Random, path: Path, outside: Path) -> str:
    """Put something else in the place of a file."""
    data = path.read_bytes() if path.is_file() else b""
    cleared(path)
    kind = chance.choice([*KINDS, *LINKS])
    if kind in LINKS:
        if kind == "same":
            (outside / "same").write_bytes(data)
        path.symlink_to({"loop": path.name, "nowhere": kind}.get(kind) or outside / kind)
    else:
        KINDS[kind](path)
    return kind


def _put_socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # the path may be longer than a socket's
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s")
    os.rename("s", path.name)
    os.chdir(before)


def _put_folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)
    (path / "inner" / "file").write_text("x")


def _put_much(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(3 << 20)


KINDS: dict[str, Callable[[Path], None]] = {
    "fifo": os.mkfifo, "socket": _put_socket, "folder": Path.mkdir, "full folder": _put_folder, "much": _put_much,
}  # fmt: skip
LINKS = ("loop", "nowhere", "/dev/zero", "/dev/full", "same", "secret", "folder")
