"""What of a script or a project its workers did not get, to be told to whom misses it."""

from __future__ import annotations

from collections.abc import Mapping

_names: dict[str, str] = {}
_modules: dict[str, str] = {}


def set_names(reasons: Mapping[str, str]) -> None:
    """Know why names of the script that is set up are not defined here."""
    _names.clear()
    for name, reason in reasons.items():
        _names[name] = (
            f"the script's {name} was left out when its code was sent to the worker ({reason}): make it inside of the "
            "stage or in a module that the script imports, or run in this process with --parallel 0"
        )


def set_modules(files: Mapping[str, str], root: str) -> None:
    """Know which modules the driver has that did not come with the project."""
    _modules.clear()
    for name, file in files.items():
        _modules[name] = (
            f"{file} lies outside of the project's folder {root}, which is all that travels to workers that do not see "
            "it: move it into the project, install it on the workers, or have curidask.toml in a folder around both"
        )


def what_to_do(error: BaseException) -> str:
    """What to do about a name or a module that did not come; empty for other errors."""
    if isinstance(error, NameError):
        return _names.get(error.name or "", "")
    return _modules.get(error.name or "", "") if isinstance(error, ModuleNotFoundError) else ""
