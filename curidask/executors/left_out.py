"""What a script holds and its workers did not get, to be told to whom misses it."""

from __future__ import annotations

from collections.abc import Mapping

_reasons: dict[str, str] = {}


def set_to(reasons: Mapping[str, str]) -> None:
    """Know why names of the script that is set up are not defined here."""
    _reasons.clear()
    _reasons.update(reasons)


def what_to_do(error: BaseException) -> str:
    """What to do about a name whose value did not come; empty for other errors."""
    name = isinstance(error, NameError) and error.name
    why = _reasons.get(name or "")
    if why is None:
        return ""
    return (
        f"the script's {name} was left out when its code was sent to the worker ({why}): make it inside of the "
        "stage or in a module that the script imports, or run in this process with --parallel 0"
    )
