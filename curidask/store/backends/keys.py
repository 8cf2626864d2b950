"""Names of objects as keys in a place in the network.

Some clients refuse control characters, text that is not Unicode cannot be sent, and ``?`` begins a version in the
addresses of one client. These take a detour through characters of private use, so that a file name which a folder can
keep, an object store can keep too, and every client finds it under the same key.
"""

from __future__ import annotations

from collections.abc import Iterable

from curidask.core.artifact_names import check_object_name, is_object_name
from curidask.errors import UnsafeNameError

_CONTROLS = [*range(32), 127, ord("?")]
_TO_KEY = {code: 0xF000 + code for code in _CONTROLS} | {code: code + 0x1000 for code in range(0xD800, 0xE000)}
_TO_NAME = {to: code for code, to in _TO_KEY.items()}


def to_key(name: str) -> str:
    """The key for a name, or for the beginning of one."""
    return name if name.isascii() and name.isprintable() and "?" not in name else name.translate(_TO_KEY)


def to_name(key: str) -> str:
    """The name for a key."""
    return key if key.isascii() else key.translate(_TO_NAME)


def is_own_key(key: str, name: str) -> bool:
    """Whether a name that was made of a listed key leads back to it; others may have put anything there."""
    return is_object_name(name) and to_key(name) == key


def checked_key(name: str) -> str:
    """The key for a whole name.

    Raises
    ------
    UnsafeNameError
        For a name that could lead out of the place, or that another name's key would be equal to.
    """
    key = to_key(check_object_name(name))
    if not name.isascii() and to_name(key) != name:
        raise UnsafeNameError(
            f"{name!r} cannot be the name of an object: it has characters of private use.", fix="use other characters"
        )
    return key


def common_beginning(names: Iterable[str]) -> str:
    """What all names begin with."""
    first, last = min(names, default=""), max(names, default="")
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]
