"""A notebook that reloads a run: its records and their states, out of the cache, with nothing computed again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curidask.errors import CacheError
from curidask.manager import ArtifactManager
from curidask.runs import export as run_export

FIND_PROJECT = """\
# The project's folder: this notebook lies below it.
import os
from pathlib import Path

here = Path.cwd()
root = next((p for p in (here, *here.parents) if (p / {experiment!r}).exists()), Path({root!r}))
os.chdir(root)"""

RUN = """\
# The experiment once more, with what selected this run. Everything comes out of the cache; nothing is written.
from curidask import run_experiment

result = run_experiment(
{arguments}
)
manager = result.manager"""

RECORDS = """\
# The records: parameter set, hash, stages, and the names of what their states hold.
for record in manager.records:
    print(record.get_reference_name(), record.get_hash())
    print("   stages:", ", ".join(record.stages))
    print("   state: ", ", ".join(record.state))"""

STATE = """\
# A value is loaded when it is looked at.
record = manager.records[-1]
{name: record.state[name] for name in record.stage_outputs[-1]} if record.stage_outputs else {}"""


def write(manager: ArtifactManager, *, from_folder: bool) -> Path:
    """Write the notebook of a run that has ended.

    Parameters
    ----------
    manager : ArtifactManager
    from_folder : bool
        Read from the run's own folder (a store-full run) instead of from the cache it used.

    Returns
    -------
    Path

    Raises
    ------
    CacheError
        When it cannot be written.
    """
    config = manager.config
    path = config.path(config.notebooks) / f"{manager.reference}.ipynb"
    cache = str(run_export.run_path(config, manager.reference)) if from_folder else manager.store.url
    text = json.dumps(_notebook(manager, _relative(cache, config.root)), indent=1, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CacheError(
            f"The notebook cannot be written: {error.strerror or error}.",
            where=str(path),
            fix="make the folder writable, or set `notebooks` in the configuration",
        ) from error
    return path


def _relative(cache: str, root: Path) -> str:
    """A folder of the project as seen from the project, so that both can be moved together."""
    if "://" in cache or not Path(cache).is_relative_to(root):
        return cache
    return str(Path(cache).relative_to(root))


def _notebook(manager: ArtifactManager, cache: str) -> dict[str, Any]:
    config, record = manager.config, manager.run_record
    file = f"{config.experiments}/{record.name.replace('.', '/')}.py"
    sources = [
        ("markdown", _title(manager)),
        ("code", FIND_PROJECT.format(experiment=file, root=str(config.root))),
        ("code", RUN.format(arguments=_arguments(record.name, record.prefix, cache, record.options))),
        ("code", RECORDS),
        ("code", STATE),
    ]
    return {
        "cells": [_cell(number, kind, source) for number, (kind, source) in enumerate(sources)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    cell["source"] = source.splitlines(keepends=True)
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def _title(manager: ArtifactManager) -> str:
    record = manager.run_record
    lines = [f"# {manager.reference}", "", f"Made by `{shlex.join(map(str, record.command))}`."]
    return "\n".join(lines + (["", record.notes] if record.notes else []))


def _arguments(name: str, prefix: str, cache: str, options: Mapping[str, Any]) -> str:
    selected = {key: value for key, value in options.items() if value}
    arguments = {**selected, "prefix": prefix, "cache": cache, "dry": True, "parallel": 0, "mngr": True}
    return "\n".join([f"    {name!r},", *(f"    {key}={value!r}," for key, value in arguments.items())])
