"""A cacher for the cells of a notebook."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from curidask.caching.base import Cacheable
from curidask.core.json_text import to_json
from curidask.errors import CacheError

__all__ = ["RawJupyterNotebookCacher"]

FIELDS = {
    "code": {"cell_type", "source", "metadata", "id", "outputs", "execution_count"},
    "markdown": {"cell_type", "source", "metadata", "id", "attachments"},
    "raw": {"cell_type", "source", "metadata", "id", "attachments"},
}
MARK = "curidask"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class RawJupyterNotebookCacher(Cacheable):
    """Stores a list of cells as a notebook that Jupyter opens.

    A cell is a text (Python code), a list of lines of code, or a dict with ``cell_type`` (``"code"``, ``"markdown"``
    or ``"raw"``) and ``source`` (a text or a list of lines), and whatever else the notebook format knows of a cell.
    What is missing for a valid notebook is filled in, and left out again when the list is loaded.

    Of a notebook that something else wrote, code cells load as texts, others as dicts of type and source.
    """

    extension = ".ipynb"

    def save(self, obj: Any) -> str:
        """Write the cells as a notebook in format 4.5; the path.

        Raises
        ------
        CacheError
            Naming the cell that is none.
        NotJsonError
            When a cell holds what JSON cannot express.
        """
        if not isinstance(obj, list | tuple):
            raise CacheError(
                f"The value is a {type(obj).__name__}, not a list of cells.",
                where=self.name or "",
                fix="return a list of code texts, of lists of lines, or of dicts with 'cell_type' and 'source'",
            )
        cells = [self._cell(number, cell) for number, cell in enumerate(obj)]
        self._refuse_equal_ids(cells)
        notebook = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
        to_json(notebook, "The notebook", where=self.name or "")  # says where it cannot be written
        path = self.get_path()
        with open(path, "w", encoding="utf-8") as file:
            json.dump(notebook, file, indent=1)
        return path

    def load(self) -> list[Any]:
        """Read the cells."""
        with open(self.get_path(), encoding="utf-8") as file:
            return [_value(cell) for cell in json.load(file)["cells"]]

    def _cell(self, number: int, cell: Any) -> dict[str, Any]:
        if isinstance(cell, str):
            return _filled(number, {"cell_type": "code", "source": cell}, {})
        if isinstance(cell, list | tuple):
            return self._cell_of_lines(number, cell)
        if isinstance(cell, Mapping):
            return self._cell_of_fields(number, cell)
        raise self._bad_cell(number, f"is a {type(cell).__name__}")

    def _cell_of_fields(self, number: int, cell: Mapping[str, Any]) -> dict[str, Any]:
        known = FIELDS.get(str(cell.get("cell_type")))
        if known is None:
            raise self._bad_cell(number, f"has the cell_type {cell.get('cell_type')!r}")
        if not _is_source(cell.get("source")):
            raise self._bad_cell(number, "has no source that is a text or a list of texts")
        if strange := set(cell) - known:
            raise self._bad_cell(number, f"has {sorted(strange, key=str)[0]!r}, which such a cell cannot have")
        if not isinstance(cell.get("metadata", {}), Mapping) or MARK in cell.get("metadata", {}):
            raise self._bad_cell(number, f"has metadata that is no dict, or that has the key {MARK!r}, which is taken")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(cell.get("id", "x"))):
            raise self._bad_cell(number, f"has the id {cell['id']!r}; 1 to 64 letters, digits, '-' and '_' make one")
        return _filled(number, dict(cell), {MARK: {"given": list(cell)}})

    def _cell_of_lines(self, number: int, lines: Sequence[Any]) -> dict[str, Any]:
        for place, line in enumerate(lines):
            if not isinstance(line, str):
                raise self._bad_cell(number, f"has as line {place} a {type(line).__name__}")
        source = [f"{line}\n" for line in lines[:-1]] + list(lines[-1:])
        return _filled(number, {"cell_type": "code", "source": source}, {MARK: {"lines": True}})

    def _bad_cell(self, number: int, problem: str) -> CacheError:
        return CacheError(
            f"Cell {number} of the notebook {problem}.",
            where=self.name or "",
            fix="give a code text, a list of lines, or a dict such as {'cell_type': 'markdown', 'source': '# Title'}",
        )

    def _refuse_equal_ids(self, cells: list[dict[str, Any]]) -> None:
        seen: dict[str, int] = {}
        for number, cell in enumerate(cells):
            if cell["id"] in seen:
                raise self._bad_cell(number, f"has the id {cell['id']!r} of cell {seen[cell['id']]}")
            seen[cell["id"]] = number


def _filled(number: int, cell: dict[str, Any], mark: dict[str, Any]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"id": f"cell-{number}", "metadata": {}}
    if cell["cell_type"] == "code":
        defaults |= {"execution_count": None, "outputs": []}
    filled = defaults | cell
    return filled | {"metadata": dict(filled["metadata"]) | mark}


def _value(cell: dict[str, Any]) -> Any:
    """The cell as it was given."""
    mark = cell.get("metadata", {}).pop(MARK, {})
    if "given" in mark:
        return {name: cell[name] for name in mark["given"] if name in cell}
    if "lines" in mark:
        return _lines(cell["source"])
    source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
    return source if cell["cell_type"] == "code" else {"cell_type": cell["cell_type"], "source": source}


def _lines(source: str | list[str]) -> list[str]:
    """The lines of a cell; Jupyter writes a source anew, as a list of its lines or as one text."""
    if isinstance(source, str):
        return source.split("\n")
    return [line.removesuffix("\n") for line in source[:-1]] + source[-1:]


def _is_source(source: Any) -> bool:
    return isinstance(source, str) or (isinstance(source, list) and all(isinstance(line, str) for line in source))
