"""What a stage reported, kept beside its artifacts: written by the worker, read when a later run reuses the stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from curidask.core.artifact_names import safe_part
from curidask.errors import ArtifactDamagedError
from curidask.execution.base import Reported
from curidask.store.untrusted import LARGE_BYTES, MOST_BYTES, is_named_texts, is_text, parse_json, read_file
from curidask.store.workspace import Workspace

FOLDER = ".reported"
"""Follows the marker in the names; what a stage writes itself has an underscore there."""


def index_name(marker: str) -> str:
    """The object that lists what a stage reported."""
    return f"{marker}{FOLDER}/index.json"


def write(reported: Sequence[Reported], files: Workspace) -> None:
    """Put reportables among the files of a stage.

    Parameters
    ----------
    reported : sequence of Reported
    files : Workspace
        Of the stage's tracked files.
    """
    if not reported:
        return
    folder = files.path(files.basename + FOLDER)
    folder.mkdir()
    rows = []
    for number, item in enumerate(reported):
        names = {name: f"{number}-{safe_part(name)}" for name in item.files}
        for name, data in item.files.items():
            (folder / names[name]).write_bytes(data)
        row = {"name": item.name, "group": item.group, "kind": item.kind, "html": item.html, "files": names}
        rows.append(row if item.input_record is None else {**row, "input_record": item.input_record})
    (folder / "index.json").write_text(json.dumps(rows), encoding="utf-8")


def read(marker: str, tracked: Mapping[str, Path]) -> list[Reported]:
    """The reportables among the verified tracked files of a stage.

    Parameters
    ----------
    marker : str
        The store name of the stage's tracked files.
    tracked : mapping of str to Path
        Their names in the store, and where they lie.

    Raises
    ------
    ArtifactDamagedError
        When the list of them has another form, or names what is no file of the stage.
    """
    index = tracked.get(index_name(marker))
    if index is None:
        return []
    try:
        rows = parse_json(read_file(index), LARGE_BYTES)
        if not isinstance(rows, list):
            raise ValueError("it is no list")
        return [_reported(marker, row, tracked) for row in rows]
    except (OSError, ValueError) as error:
        raise ArtifactDamagedError(f"What it reported cannot be read: {error}.", where=marker) from error


def _reported(marker: str, row: Any, tracked: Mapping[str, Path]) -> Reported:
    if not isinstance(row, dict) or not all(is_right(row.get(name)) for name, is_right in _IS_RIGHT.items()):
        raise ValueError("it has another form")
    # Only files of the stage itself, by their names in the store: a name is never made into a path.
    places = {name: tracked.get(f"{marker}{FOLDER}/{kept}") for name, kept in row["files"].items()}
    files = {}
    for name, place in places.items():
        if place is None:
            raise ValueError(f"there is no file {name!r:.80}")
        files[name] = read_file(place, MOST_BYTES)
    return Reported(row["name"], row["group"], row["kind"], row["html"], files, row.get("input_record"))


_IS_RIGHT: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("name", "group", "kind"), is_text),
    "html": lambda value: isinstance(value, str),
    "files": is_named_texts,
    "input_record": lambda value: value is None or type(value) is int,
}
