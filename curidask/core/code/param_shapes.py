"""What parameter sets look like: the fields of their classes, and of the classes of what is in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

from curidask.core.hash_fields import BOOKKEEPING, field_values, has_fields, is_parameter_set

Path: TypeAlias = tuple[str, ...]


class Shapes:
    """The classes of some parameter sets and of their parts, by the path of the part.

    Parameters
    ----------
    params : iterable of ExperimentParameters
    """

    def __init__(self, params: Iterable[Any]) -> None:
        self._classes: dict[Path, dict[type, None]] = {}
        self._names: dict[Path, dict[str, None]] = {}
        for value in params:
            self._add(value, ())

    def _add(self, value: Any, path: Path) -> None:
        skipped = BOOKKEEPING if is_parameter_set(value) else ("hash_representations",)
        fields = {name: held for name, held in field_values(value).items() if name not in skipped}
        self._classes.setdefault(path, {})[type(value)] = None
        self._names.setdefault(path, {}).update(dict.fromkeys(fields))
        for name, held in fields.items():
            if has_fields(type(held)):
                self._add(held, (*path, name))

    def __contains__(self, path: Path) -> bool:
        return path in self._classes

    def classes(self, path: Path) -> Collection[type]:
        """The classes of what is there."""
        return self._classes.get(path, {}).keys()

    def fields(self, path: Path) -> Collection[str]:
        """The fields of what is there."""
        return self._names.get(path, {}).keys()

    def sorted(self, paths: Collection[Path], within: Path = ()) -> tuple[list[str], list[str]]:
        """Which fields are among some, and which are not, in the order of the classes; parts where these differ."""
        among: list[str] = []
        others: list[str] = []
        for name in self.fields(within):
            path = (*within, name)
            if path in paths:
                among.append(".".join(path))
            elif any(each[: len(path)] == path for each in paths):
                more, less = self.sorted(paths, path)
                among, others = among + more, others + less
            else:
                others.append(".".join(path))
        return among, others
