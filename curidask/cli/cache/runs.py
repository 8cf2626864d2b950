"""Which run is meant by a reference, and what it used: by what runs say in the cache, and by this project's records."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from curidask.cli.cache.common import NumberedTier
from curidask.errors import ConfigurationError, ProjectError
from curidask.runs.schema import read_record
from curidask.session.config import Config
from curidask.store.maintenance.usage import Use, Uses
from curidask.store.maintenance.verify import is_empty_folder

LATEST = "latest"
NEAR = 5


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run and what it used.

    Attributes
    ----------
    reference, experiment : str
    stems : frozenset of str
    optional : frozenset of str
        Those that need not be there.
    started : float
        Seconds since 1970.
    """

    reference: str
    experiment: str
    stems: frozenset[str]
    optional: frozenset[str]
    started: float = 0.0


def find_runs(
    config: Config, tiers: Iterable[NumberedTier], asked: Iterable[str], experiment: str | None
) -> list[KnownRun]:
    """The runs that are meant, each once.

    Raises
    ------
    ConfigurationError
        When one is not known, or several are meant.
    """
    known: dict[str, KnownRun] = {}
    for run in (*_recorded(config), *_told(tiers)):  # the cache knows more of a run than its record does
        if experiment is None or run.experiment == experiment:
            known[run.reference] = run
    places = ", ".join([*(tier.store.url for tier in tiers), str(config.path(config.runs))])
    found = [_find(known, one, places, experiment) for one in asked]
    return list({run.reference: run for run in found}.values())


def _find(known: dict[str, KnownRun], asked: str, places: str, experiment: str | None) -> KnownRun:
    of = f" of the experiment {experiment!r}" if experiment is not None else ""
    if not known:
        fix = "run the experiment first; what runs used with --dry-cache or a read-only cache is only in their records"
        raise ConfigurationError(f"No run{of} is known.", where=places, fix=fix)
    if asked == LATEST:
        return max(known.values(), key=lambda run: run.started)
    if asked in known:
        return known[asked]
    fitting = [reference for reference in known if reference.startswith(asked.rstrip("_") + "_")]
    if len(fitting) == 1:
        return known[fitting[0]]
    near = fitting or difflib.get_close_matches(asked, known, n=NEAR, cutoff=0.5) or list(known)
    problem = "Several runs begin with" if fitting else "There is no run"
    some = ", ".join(sorted(near, key=lambda reference: known[reference].started, reverse=True)[:NEAR])
    raise ConfigurationError(f"{problem} {asked!r}{of}.", where=places, fix=f"give one of {some}; or `{LATEST}`")


def _told(tiers: Iterable[NumberedTier]) -> Iterator[KnownRun]:
    """What runs say in the cache. The same run in two tiers, or twice in one, is one."""
    by_reference: dict[str, list[Use]] = {}
    for tier in tiers:
        if not is_empty_folder(tier.store.objects):
            for use in Uses(tier.store.objects).refresh():
                by_reference.setdefault(use.reference, []).append(use)
    by_reference.pop("", None)  # somebody copied all there was
    for reference, uses in by_reference.items():
        whole = [use for use in uses if use.ended] or uses
        stems = frozenset().union(*(use.stems for use in whole))
        # A run that did not end has named what it might use.
        optional = frozenset().union(*(use.optional if use.ended else use.stems for use in whole))
        started = min(use.started for use in uses)
        yield KnownRun(reference, uses[0].experiment, stems, optional, started)


def _recorded(config: Config) -> Iterator[KnownRun]:
    """What the run records of this project say."""
    runs = config.path(config.runs)
    for path in runs.glob("*/run.json") if runs.is_dir() else ():
        with suppress(ProjectError, ValueError, KeyError, OverflowError):  # it names nothing then
            yield _from_record(path)


def _from_record(path: Path) -> KnownRun:
    content = read_record(path.parent)
    used = [task for task in content["tasks"] if task.get("status") in ("done", "found", "unchanged", "reused")]
    stems = {stem for task in used for stem in task.get("artifacts", ()) if stem is not None}
    markers = {task["marker"] for task in used if "marker" in task}
    started = datetime.fromisoformat(content["started"]).timestamp()
    return KnownRun(content["reference"], content["name"], frozenset(stems | markers), frozenset(markers), started)
