"""The parameter sets of all earlier runs, to be found by name or by the beginning of their hash.

Each set is one small file, ``param_sets/EXPERIMENT/HASH+NAME.json`` below the runs folder. Names and hashes are known
from a listing alone, so looking one up stays fast over thousands of runs. A file is written once, beside its place and
then renamed: several runs may write at the same time, and what a crash leaves half is not there.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curidask.core.artifact_names import original_part, safe_part
from curidask.core.hash_fields import BOOKKEEPING, field_values, has_fields
from curidask.core.redaction import hide_secrets
from curidask.errors import CacheError, SelectionError
from curidask.params import ExperimentParameters
from curidask.store.atomic import write_atomically
from curidask.store.manifest import LARGE_BYTES, is_named_texts, is_text, parse_object, read_file

FOLDER = "param_sets"
NAME_BYTES = 120
TEXT_LENGTH = 10_000
"""A value that is no plain data is kept as text, up to here."""

NOT_VALUES = ("name", "hash", "hash_representations", "overwrite")


@dataclass(frozen=True, slots=True)
class ParamSet:
    """A parameter set as displays show it.

    Attributes
    ----------
    values : dict
        Field to value, as plain data or as text.
    hashed : dict of str to str
        Field to what enters the hash of it.
    experiment, run : str
        Where it was used first; empty for a set that is not from the registry.
    """

    hash: str
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    hashed: Mapping[str, str] = field(default_factory=dict)
    experiment: str = ""
    run: str = ""

    def is_right(self) -> bool:
        """Whether all is of the type that it should be, for a set out of a file."""
        texts = (self.hash, self.name, self.experiment, self.run)
        return all(map(is_text, texts)) and isinstance(self.values, dict) and is_named_texts(self.hashed)


def describe(params: ExperimentParameters, experiment: str = "", run: str = "") -> ParamSet:
    """A parameter set in full."""
    values = {name: _plain(value) for name, value in field_values(params).items() if name not in NOT_VALUES}
    entering = params.params_hash(dry=True).items()
    hashed = {name: _hash_text(mechanism, value) for name, (mechanism, value) in entering if name not in BOOKKEEPING}
    return ParamSet(params.params_hash(), params.name, values, hashed, experiment, run)


def _hash_text(mechanism: str, representation: Any) -> str:
    return mechanism if representation is None else _cut(f"{mechanism}: {representation}")


def _plain(value: Any) -> Any:
    """A value as JSON has it: parts and all, with the names of classes and functions."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', None) or 'builtins'}.{value.__qualname__}"
    if has_fields(type(value)):
        value = _fields(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=repr)
    return _plain_object(value)


def _fields(value: Any) -> dict[str, Any]:
    left_out = NOT_VALUES if isinstance(value, ExperimentParameters) else ()
    return {name: part for name, part in field_values(value).items() if name not in left_out}


def _plain_object(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, functools.partial):
        return {"partial": _plain(value.func), "args": _plain(value.args), "keywords": _plain(value.keywords)}
    if hasattr(value, "tolist") and getattr(value, "size", TEXT_LENGTH) < TEXT_LENGTH:  # of numpy, or like it
        return _plain(value.tolist())
    try:
        return _cut(repr(value))
    except Exception:  # of the user's class
        return f"<{type(value).__qualname__} without a repr>"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]}… ({len(text)} characters)"


# --- writing ---------------------------------------------------------------------------------------------------------
def add(runs: Path, experiment: str, run: str, sets: Iterable[ExperimentParameters]) -> None:
    """Take in the parameter sets of a run; those that are known stay as they are.

    Raises
    ------
    CacheError
        When the runs folder cannot be written.
    """
    folder = runs / FOLDER / safe_part(experiment)
    try:
        known = set(os.listdir(folder)) if folder.is_dir() else set()
        for params in sets:
            name = _file_name(params.hash or params.params_hash(), params.name)  # a record has filled the hash in
            if name not in known:
                known.add(name)
                _write(folder / name, describe(params, experiment, run))
    except OSError as error:
        raise CacheError(
            f"The parameter sets of the run cannot be written: {error.strerror or error}.",
            where=str(folder),
            fix="make the folder writable, set `runs` in the configuration, or use --dry",
        ) from error


def _file_name(hash_: str, name: str) -> str:
    return f"{hash_}+{safe_part(name, NAME_BYTES)}.json"


def _write(path: Path, param_set: ParamSet) -> None:
    text = hide_secrets(json.dumps(dataclasses.asdict(param_set), indent=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


# --- looking up ------------------------------------------------------------------------------------------------------
def listing(runs: Path, experiment: str | None = None) -> dict[Path, tuple[str, str]]:
    """The files of the sets of all experiments or of one, with hash and name (a long name is shortened)."""
    root = runs / FOLDER
    folders = [safe_part(experiment)] if experiment is not None else _names(root)
    found = {}
    for folder in folders:
        for name in _names(root / folder):
            hash_, plus, rest = name.removesuffix(".json").partition("+")
            if plus and not name.startswith("."):
                found[root / folder / name] = (hash_, original_part(rest))
    return found


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read(paths: Iterable[Path]) -> list[ParamSet]:
    """The sets in these files; one that cannot be read is passed over."""
    sets = []
    for path in paths:
        try:
            found = ParamSet(**parse_object(read_file(path), LARGE_BYTES))
        except (OSError, ValueError, TypeError):
            continue
        if found.is_right():
            sets.append(found)
    return sets


def find(wanted: str, current: Sequence[ParamSet], runs: Path) -> ParamSet:
    """The one set of that name, or whose hash begins so: of the current ones or of all earlier runs.

    Parameters
    ----------
    current : sequence of ParamSet
        Those that count first.

    Raises
    ------
    SelectionError
        With the near ones when there is none, with the candidates when there are several.
    """
    earlier = listing(runs)
    for matches in (lambda _, name: name == wanted, lambda hash_, _: hash_.startswith(wanted)):
        found = {item.hash: item for item in current if matches(item.hash, item.name)}
        paths = [path for path, (hash_, name) in earlier.items() if hash_ not in found and matches(hash_, name)]
        for item in read(paths):
            found.setdefault(item.hash, item)
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise _ambiguous(wanted, list(found.values()))
    raise _unknown(wanted, [(item.hash, item.name) for item in current] + list(earlier.values()))


def _ambiguous(wanted: str, found: list[ParamSet]) -> SelectionError:
    shown = ", ".join(f"{item.hash} ({item.name})" for item in found[:8])
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return SelectionError(
        f"{wanted!r} stands for {len(found)} parameter sets.",
        where="this experiment and all earlier runs",
        fix=f"give more of the hash of one of: {shown}{more}",
    )


def _unknown(wanted: str, there: list[tuple[str, str]]) -> SelectionError:
    import difflib

    texts = {name: f"{name} ({hash_})" for hash_, name in there}
    texts |= {hash_[: max(4, len(wanted))]: f"{hash_} ({name})" for hash_, name in there}
    near = difflib.get_close_matches(wanted, texts, n=3, cutoff=0.5)
    shown = dict.fromkeys(texts[text] for text in near)
    return SelectionError(
        f"No parameter set has the name {wanted!r} or a hash that begins so.",
        where="this experiment and all earlier runs",
        fix=f"did you mean {' or '.join(shown)}?" if shown else "`experiment NAME --hashes` lists names and hashes",
    )
