"""What somebody else may have written, checked before anything is done with it: its size, its depth, its types.

Whatever lies in a cache or in the folder of a run may have been put there by anybody who can write there. It is parsed
once, where it comes in; what has another form than we write counts as damaged, and is never used as a path, as markup
or as a control sequence of the terminal.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
from collections.abc import Callable
from typing import Any, TypeGuard

SMALL_BYTES = 1 << 20
"""The most that a note may have: a claim, or what a stage reported."""
LARGE_BYTES = 1 << 28
"""The most that a description may have: a manifest, or the record of a run."""
MOST_DEPTH = 100
MOST_CHARACTERS = 100_000
MOST_BYTES = 1 << 62
LAST_SECOND = 1e11
"""A time in seconds since 1970 that no clock shows."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CONTROLS = re.compile(r"\x1b\[[\d;]*m|[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE = re.compile(r"[/\\\0]|\A\.{0,2}\Z")


# --- JSON ------------------------------------------------------------------------------------------------------------
def parse_json(data: bytes | str, most_bytes: int = SMALL_BYTES) -> Any:
    """Parse JSON of a bounded size and depth.

    Raises
    ------
    ValueError
    """
    if len(data) > most_bytes:
        raise ValueError(f"it has {len(data)} bytes")
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    brackets = (b"{", b"[") if isinstance(data, bytes) else ("{", "[")
    if sum(map(data.count, brackets)) > MOST_DEPTH and is_deep(value):  # type: ignore[arg-type]
        raise ValueError("it is nested too deeply")
    return value


def parse_object(data: bytes | str, most_bytes: int = SMALL_BYTES) -> dict[str, Any]:
    """Parse a JSON object; see `parse_json`."""
    value = parse_json(data, most_bytes)
    if not isinstance(value, dict):
        raise ValueError(f"it is a {type(value).__name__}")
    return value


def is_deep(value: Any) -> bool:
    """Whether lists and dicts are nested deeper than anybody needs."""
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        level = [
            child
            for item in level
            if isinstance(item, dict | list | tuple)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


# --- types -----------------------------------------------------------------------------------------------------------
def is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a text of a length that people write."""
    return isinstance(value, str) and len(value) <= MOST_CHARACTERS


def is_digest(value: Any) -> TypeGuard[str]:
    """Whether it is a SHA-256 in 64 small hex digits."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def is_name(value: Any) -> TypeGuard[str]:
    """Whether it can be the name of a file in a folder: no separators, not ``.`` or ``..``."""
    return is_text(value) and _UNSAFE.search(value) is None


def is_count(value: Any) -> TypeGuard[int]:
    """Whether it is a number of something, or of bytes."""
    return type(value) is int and 0 <= value < MOST_BYTES


def is_pid(value: Any) -> TypeGuard[int]:
    """Whether it can be the number of a process."""
    return is_count(value) and 0 < value < 1 << 31


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number."""
    return type(value) in (int, float) and -MOST_BYTES < value < MOST_BYTES and math.isfinite(value)


def is_seconds(value: Any) -> TypeGuard[float]:
    """Whether it is a time: how long something took, or when it was, since 1970."""
    return is_number(value) and 0 <= value < LAST_SECOND


def is_map_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether it is a dict with such values."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def is_list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether it is a list of such items."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def is_texts(value: Any) -> TypeGuard[list[str]]:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(map(is_text, value))


is_named_texts = is_map_of(is_text)


# --- for people ------------------------------------------------------------------------------------------------------
def printable(text: object) -> str:
    """A text on one line without what moves the cursor, changes colours or turns the direction of what is written."""
    text = str(text)
    return text if text.isprintable() else _CONTROLS.sub("\ufffd", text)


def for_terminal(text: str) -> str:
    """The same for lines that may have colours of our own."""
    return text if text.isprintable() else _CONTROLS.sub(_but_colour, text)


def _but_colour(match: re.Match[str]) -> str:
    return match[0] if match[0] in "\n\t" or match[0].endswith("m") else "\ufffd"


# --- files -----------------------------------------------------------------------------------------------------------
def open_file(path: str) -> io.FileIO:
    """Open a plain file for reading, unbuffered; a pipe or a device in its place is never waited for.

    Raises
    ------
    IsADirectoryError
        For what is no plain file.
    OSError
    """
    _refuse_special(os.stat(path), path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _refuse_special(os.fstat(fd), path)  # it may have been replaced in between
        return io.FileIO(fd)  # as `open` without a buffer gives, at less cost
    except BaseException:
        os.close(fd)
        raise


def _refuse_special(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise IsADirectoryError(21, "It is no plain file", path)


def read_file(path: str | os.PathLike[str], most_bytes: int = LARGE_BYTES) -> bytes:
    """The bytes of a plain file of a bounded size.

    Raises
    ------
    OSError
    ValueError
        When it is larger.
    """
    with open_file(os.fspath(path)) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise ValueError(f"it has {size} bytes")
        return file.read()
