"""What a stage reported, kept beside its artifacts: written by the worker, read when a later run reuses the stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from curidask.executors.base import Reported
from curidask.store.manifests import safe_part
from curidask.store.workspaces import Workspace

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
    """
    index = tracked.get(index_name(marker))
    if index is None:
        return []
    reported = []
    for row in json.loads(index.read_text(encoding="utf-8")):
        files = {name: (index.parent / kept).read_bytes() for name, kept in row["files"].items()}
        place = row.get("input_record")
        place = place if isinstance(place, int) else None
        reported.append(Reported(row["name"], row["group"], row["kind"], row["html"], files, place))
    return reported
