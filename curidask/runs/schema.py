"""A run's record as it is read again: every field of the type that a run writes, whoever wrote the file.

Run folders are shared and copied, so what is in one may be anybody's. What is of another type counts as not said: a
row without what it needs is left out, and one odd run hides no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from curidask.core.artifact_names import is_object_name
from curidask.errors import ProjectError
from curidask.store.manifest import (
    LARGE_BYTES,
    is_count,
    is_list_of,
    is_map_of,
    is_name,
    is_named_texts,
    is_number,
    is_pid,
    is_seconds,
    is_text,
    is_texts,
    parse_object,
    read_file,
)

FILE = "run.json"

Check = Callable[[Any], bool]
Form = Mapping[str, Check]


def _is_int(value: Any) -> bool:
    return type(value) is int and is_number(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_long_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_stem(value: Any) -> bool:
    return is_text(value) and is_object_name(value)


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


_are_ints = is_list_of(_is_int)

_DESCRIBED: Form = {
    **dict.fromkeys(("preview", "digest", "run"), is_text),
    "size_bytes": is_count,
    "files": is_texts,
}
_ERROR: Form = dict.fromkeys(("type", "message", "traceback", "output"), _is_long_text)
_NO_ERROR = {"type": "Error", "message": "", "traceback": ""}
_NEEDED_OF_TASK: Form = {
    "id": _is_int,
    "record": _is_int,
    **dict.fromkeys(("stage", "set", "hash"), is_text),
}
_OF_TASK: Form = {
    **dict.fromkeys(("key", "action", "reason", "status", "worker"), is_text),
    "after": _are_ints,
    "inputs": is_map_of(_are_ints),
    "outputs": is_texts,
    "artifacts": is_list_of(_or_none(_is_stem)),
    "marker": _is_stem,
    "described": lambda value: isinstance(value, dict),
    "seconds": is_seconds,
    "peak_bytes": is_count,
    "error": lambda value: isinstance(value, dict),
}
_OF_RECORD: Form = {
    "index": _is_int,
    **dict.fromkeys(("name", "hash"), is_text),
    "aggregate": _is_flag,
    **dict.fromkeys(("inputs", "tasks"), _are_ints),
}
_OF_REPORTABLE: Form = {
    "task": _or_none(_is_int),
    "record": _is_int,
    **dict.fromkeys(("stage", "set", "hash", "name", "group", "kind", "folder"), is_text),
    "files": is_map_of(is_text),
}
_OF_STAGE: Form = {"doc": is_text, "place": is_text, "aggregate": _is_flag, "cachers": is_named_texts}
_OF_GIT: Form = {"commit": is_text, "changed": _is_flag, "repository": _is_flag}
_OF_SET: Form = {"name": is_text, "values": lambda value: isinstance(value, dict)}
_TEXTS = (
    "name", "status", "prefix", "notes", "started", "cache", "executor", "user", "host", "python", "curidask",
    "platform", "folder", "log",
)  # fmt: skip
_OF_RUN: Form = {
    **dict.fromkeys(_TEXTS, _is_long_text),
    "version": _is_int,
    "number": _is_int,
    "seconds": is_number,
    "pid": is_pid,
    **dict.fromkeys(("command", "reproduce", "warnings", "overwrites"), is_list_of(_is_long_text)),
    **dict.fromkeys(("options", "param_sets", "stages", "git"), lambda value: isinstance(value, dict)),
    "packages": is_named_texts,
    **dict.fromkeys(("records", "tasks", "reportables"), lambda value: isinstance(value, list)),
}

LINE: Form = {
    "reference": is_name,
    **dict.fromkeys(("name", "status", "started", "user", "host", "title"), _is_long_text),
    **dict.fromkeys(("number", "sets", "reportables"), is_count),
    "seconds": is_number,
    "looks": is_map_of(is_count),
}
"""What a list of runs shows of one."""


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a run, out of its folder or that of its report.

    Raises
    ------
    ProjectError
        When there is none, or it cannot be read.
    """
    path = folder / FILE
    try:
        data = parse_object(read_file(path), LARGE_BYTES)
    except OSError as error:
        raise ProjectError(
            f"There is no run record: {error.strerror or error}.",
            where=str(path),
            fix="name a run by its folder, or by its reference, as in the folder of runs",
        ) from None
    except ValueError as error:
        raise ProjectError(f"The run record is damaged: {error}.", where=str(path)) from None
    reference = data.get("reference")
    if not is_name(reference) or reference.startswith((".", "_")):
        raise ProjectError(
            f"The file is no run record: its reference is {reference!r:.80}, which is no name of a folder.",
            where=str(path),
        )
    return {"reference": reference, **_checked(data)}


def _checked(data: Mapping[str, Any]) -> dict[str, Any]:
    found = fitting(data, _OF_RUN)
    found["tasks"] = [task for row in found.get("tasks", ()) if (task := _task(row)) is not None]
    for name, form in (("records", _OF_RECORD), ("reportables", _OF_REPORTABLE)):
        if name in found:
            found[name] = [row for row in found[name] if _fits(row, form)]
    for name, form in (("stages", _OF_STAGE), ("param_sets", _OF_SET)):
        found[name] = {key: fitting(row, form) for key, row in found.get(name, {}).items() if isinstance(row, dict)}
    found["param_sets"] = {key: made for key, made in found["param_sets"].items() if len(made) == len(_OF_SET)}
    found["git"] = fitting(found.get("git", {}), _OF_GIT)
    return found


def _task(row: Any) -> dict[str, Any] | None:
    if not _fits(row, _NEEDED_OF_TASK):
        return None
    found = fitting(row, _NEEDED_OF_TASK) | fitting(row, _OF_TASK)
    described = found.get("described", {})
    found["described"] = {name: fitting(one, _DESCRIBED) for name, one in described.items() if isinstance(one, dict)}
    if "error" in found:
        found["error"] = _NO_ERROR | fitting(found["error"], _ERROR)
    return found


def _fits(row: Any, form: Form) -> bool:
    return isinstance(row, dict) and all(name in row and is_right(row[name]) for name, is_right in form.items())


def fitting(row: Mapping[str, Any], form: Form) -> dict[str, Any]:
    """What of a row is of the type that it should be."""
    return {name: row[name] for name, is_right in form.items() if name in row and is_right(row[name])}
