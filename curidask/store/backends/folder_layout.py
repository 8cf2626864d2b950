"""What files alone do not tell of a folder: which of them can be run, and which folders in it are empty.

An object store keeps neither. So where there is any, a small file beside the others says it; it is one of the
artifact's files as they are, so it is verified, signed, copied and removed with them.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from curidask.core.artifact_names import LAYOUT_SUFFIX, is_object_name
from curidask.store.untrusted import LARGE_BYTES, is_texts, parse_object, read_file

_RUN = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Layout:
    """What to keep of folders beside their files.

    Attributes
    ----------
    executable : tuple of str
        Files that their owner may run.
    folders : tuple of str
        Folders in which nothing is.
    """

    executable: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    def write(self, path: str, start: str) -> bool:
        """Write it into a file, names without the `start` they have in common; False when there is nothing to say."""
        with suppress(FileNotFoundError):
            os.unlink(path)
        if not self.executable and not self.folders:
            return False
        executable, folders = (
            [name.removeprefix(start) for name in names] for names in (self.executable, self.folders)
        )
        with open(path, "x", encoding="ascii") as file:
            if os.fstat(file.fileno()).st_mode & _RUN:  # here everything seems so: this file system does not keep it
                executable = []
            json.dump({"executable": sorted(executable), "folders": sorted(folders)}, file)
        if executable or folders:
            return True
        os.unlink(path)
        return False


def is_executable(path: str) -> bool:
    """Whether its owner may run a file."""
    return bool(os.stat(path).st_mode & stat.S_IXUSR)


def layout_of(folder: str, name: str) -> Layout:
    """What such a file in a folder says, with whole names; nothing when it is not of the right form.

    Parameters
    ----------
    folder : str
    name : str
        Of the file, with ``/`` between folders.
    """
    start = name.removesuffix(LAYOUT_SUFFIX)
    try:
        said = parse_object(read_file(f"{folder}/{name}", LARGE_BYTES), LARGE_BYTES)
    except (OSError, ValueError):
        return Layout()
    lists = [said.get(each) for each in ("executable", "folders")]
    found = [tuple(start + rest for rest in each if is_object_name(start + rest)) for each in lists if is_texts(each)]
    return Layout(*found) if len(found) == len(lists) else Layout()


def lay_out(folder: str, names: Collection[str]) -> Iterator[str]:
    """Give files in a folder, and the folders beside them, the form that they had; the names of those folders.

    Parameters
    ----------
    folder : str
    names : collection of str
        The files, verified.
    """
    for layout in [layout_of(folder, name) for name in names if name.endswith(LAYOUT_SUFFIX)]:
        for name in set(names).intersection(layout.executable):
            with suppress(PermissionError):  # another user's: he has made it so himself
                _let_run(f"{folder}/{name}")
        for name in layout.folders:
            if _make_folder(folder, name):
                yield name


def without_layout(names: Iterable[str]) -> Iterator[str]:
    """The names of files that somebody wrote."""
    return (name for name in names if not name.endswith(LAYOUT_SUFFIX))


def _let_run(path: str) -> None:
    found = os.stat(path)
    if found.st_mode & stat.S_IXUSR:
        return
    mode = stat.S_IMODE(found.st_mode) | (found.st_mode & 0o444) >> 2
    if found.st_nlink == 1:
        os.chmod(path, mode)
        return
    # The content has other names, which are nobody's to run.
    own = f"{path}.{os.urandom(4).hex()}"
    shutil.copyfile(path, own)
    os.chmod(own, mode)
    os.replace(own, path)


def _make_folder(folder: str, name: str) -> bool:
    path, root = Path(folder, name), Path(folder).resolve()
    if not path.parent.resolve().is_relative_to(root):
        return False
    with suppress(PermissionError, FileExistsError, NotADirectoryError):
        path.mkdir(parents=True, exist_ok=True)
    return path.is_dir() and not path.is_symlink()
