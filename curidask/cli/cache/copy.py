"""``curidask cache pull`` and ``push``: bring a run's artifacts from the shared tier to this machine, and back."""

from __future__ import annotations

import difflib
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from curidask.cli.cache import show as view
from curidask.cli.cache.show import SETTINGS, NumberedTier
from curidask.errors import CacheError, ConfigurationError, ProjectError
from curidask.runs.schema import read_record
from curidask.session.config import Config
from curidask.store.maintenance.usage import Use, Uses
from curidask.store.maintenance.verify import is_empty_folder
from curidask.store.manifest import printable

if TYPE_CHECKING:
    from curidask.store.backends.base import ObjectStore
    from curidask.store.copy import Transferred
    from curidask.store.maintenance.usage import RunReferences


# --- which run is meant by a reference, and what it used -------------------------------------------------------------
# By what runs say in the cache, and by this project's records.

LATEST = "latest"
NEAR = 5


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run and what it used.

    Attributes
    ----------
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


# --- copy ------------------------------------------------------------------------------------------------------------
F = TypeVar("F", bound=Callable[..., Any])

PULL_EPILOG = """\b
Examples:
  curidask cache pull                                   the latest run, from the shared tier into the first one
  curidask cache pull digits_3_2026-05-01-T101500
  curidask cache pull digits_3 --from s3://bucket/team --to data/cache
  experiment digits --cache data/cache                  then, without a network: everything is reused
"""
PUSH_EPILOG = """\b
Examples:
  curidask cache push                                   the latest run, from the first tier into the shared one
  curidask cache push digits_3_2026-05-01-T101500
  curidask cache push --all --from data/cache --to s3://bucket/team
"""


def copy_options(command: F) -> F:
    """What both have."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--dry-run", is_flag=True, help="Say what would be copied; copy nothing."),
        click.option("--to", "to_", metavar="N|PATH|URL", help="Where to: a tier by its number, or any place."),
        click.option("--from", "from_", metavar="N|PATH|URL", help="Where from: a tier by its number, or any place."),
        click.option(
            "-c", "--cache", metavar="PATH|URL,…", help="Another cache than the configured one; tiers with commas."
        ),
        click.option("--experiment", metavar="NAME", help="With `latest`: of this experiment."),
        click.option("--all", "everything", is_flag=True, help="All artifacts, instead of those of runs."),
        click.argument("runs", nargs=-1, metavar="[RUN]..."),
    ):
        command = option(command)
    return command


@click.command(
    "pull", short_help="Copy runs from the shared tier to this machine.", context_settings=SETTINGS, epilog=PULL_EPILOG
)
@copy_options
def pull_command(**options: Any) -> None:
    """Copy what runs used from the shared tier (the last one) to this machine (the first one), verified on the way.

    RUN is a reference, the beginning of one, or `latest`, which is the default. What is there already stays, so it can
    be broken off and repeated.
    """
    _transfer("pull", **options)


@click.command(
    "push", short_help="Copy runs from this machine to the shared tier.", context_settings=SETTINGS, epilog=PUSH_EPILOG
)
@copy_options
def push_command(**options: Any) -> None:
    """Copy what runs used from this machine (the first tier) to the shared tier (the last one), verified on the way.

    RUN is a reference, the beginning of one, or `latest`, which is the default. What is there already stays.
    """
    _transfer("push", **options)


# --- which way -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Way:
    """From where to where."""

    source: NumberedTier
    target: NumberedTier


def _transfer(
    verb: str,
    *,
    runs: tuple[str, ...],
    everything: bool,
    experiment: str | None,
    cache: str | None,
    from_: str | None,
    to_: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    if everything and (runs or experiment):
        raise click.UsageError("--all copies everything: leave out RUN and --experiment.")
    config = view.load_config()
    way = _way(config, verb, cache, from_, to_)
    wanted = _wanted(config, way, runs or ("latest",), experiment, everything=everything, quiet=as_json)
    done = [] if dry_run else _copy(verb, way, wanted, quiet=as_json)
    missing = _say(verb, way, wanted, done, dry_run=dry_run, as_json=as_json)
    if missing:
        sys.exit(1)


def _way(config: Config, verb: str, cache: str | None, from_: str | None, to_: str | None) -> _Way:
    tiers = view.open_cache(config, cache)
    near, shared = tiers[0], tiers[-1]
    source = _end(config, tiers, from_, shared if verb == "pull" else near)
    target = _end(config, tiers, to_, near if verb == "pull" else shared)
    if source.store.url == target.store.url:
        flag, example = ("--to", "data/cache") if verb == "pull" else ("--to", "s3://bucket/team")
        if from_ is None and to_ is not None:
            flag, example = "--from", "s3://bucket/team" if verb == "pull" else "data/cache"
        raise click.UsageError(
            f"It would be copied from {source.store.url} to the same place: the cache has "
            f"{view.count(len(tiers), 'tier')}, so say the other place, as in {flag} {example}."
        )
    view.only_there([source])
    view.refuse_read_only(target, "nothing can be copied there")
    return _Way(source, target)


def _end(config: Config, tiers: list[NumberedTier], asked: str | None, default: NumberedTier) -> NumberedTier:
    if asked is None:
        return default
    if asked.isdecimal():
        return view.one_tier(tiers, asked, "is meant")
    found = view.open_cache(config, asked)
    if len(found) > 1:
        raise click.UsageError(f"{asked!r} is several places; name one.")
    return NumberedTier(0, found[0].tier)


# --- what ------------------------------------------------------------------------------------------------------------
def _wanted(
    config: Config, way: _Way, asked: Iterable[str], experiment: str | None, *, everything: bool, quiet: bool
) -> list[KnownRun]:

    if everything:
        stems = [entry.stem for entry in view.take(way.source, quiet=quiet).artifacts]
        return [KnownRun("", "", frozenset(stems), frozenset())]
    return find_runs(config, [way.source, way.target], asked, experiment)


def _copy(verb: str, way: _Way, wanted: list[KnownRun], *, quiet: bool) -> list[Transferred]:
    from curidask.store.copy import copy_artifacts

    stems = sorted({stem for run in wanted for stem in run.stems})
    with _registered(way, wanted), view.progress(f"{verb}ing to {way.target.label}", quiet=quiet) as update:
        done: list[Transferred] = []

        def told(one: Transferred) -> None:
            done.append(one)
            update(len(done), len(stems))

        return copy_artifacts(way.source.store, way.target.store, stems, told=told)


@contextmanager
def _registered(way: _Way, wanted: list[KnownRun]) -> Iterator[None]:
    """Say in both places that the runs' artifacts are used.

    Nobody removes them from the source while they are copied, and in the target they count as used from now on. Who may
    only read the source says nothing there.
    """
    from curidask.store.backends.errors import is_refused

    uses: list[tuple[KnownRun, RunReferences]] = []
    for run in wanted:
        for end in (way.source, way.target):
            use = _use_of(run, end.store.places)
            try:
                use.register(run.stems)
            except CacheError as error:
                if end is way.target or not is_refused(error):
                    raise
            else:
                uses.append((run, use))
    try:
        yield
    finally:
        for run, use in uses:
            use.end(run.stems - run.optional, run.optional)


def _use_of(run: KnownRun, places: list[ObjectStore]) -> RunReferences:
    from curidask.execution.tracebacks import user_name
    from curidask.session.terminal import say
    from curidask.store.maintenance.usage import RunReferences

    user, host = user_name(), socket.gethostname()
    return RunReferences(places, reference=run.reference, experiment=run.experiment, user=user, host=host, told=say)


# --- how it went -----------------------------------------------------------------------------------------------------
def _say(
    verb: str, way: _Way, wanted: list[KnownRun], done: list[Transferred], *, dry_run: bool, as_json: bool
) -> list[Transferred]:
    from curidask.store.copy import Result

    optional = frozenset().union(*(run.optional for run in wanted))
    there = [one for one in done if not (one.result is Result.MISSING and one.stem in optional)]
    bad = [one for one in there if one.result in (Result.MISSING, Result.FAILED)]
    if as_json:
        view.print_json(_as_json(way, wanted, there, dry_run=dry_run))
        return bad
    names = printable(", ".join(run.reference or "all" for run in wanted))
    if dry_run:
        number = len({stem for run in wanted for stem in run.stems - run.optional})
        click.echo(f"would {verb} {names}: {view.count(number, 'artifact')} to {way.target.label}")
        return bad
    _say_done(verb, names, way, there)
    view.print_problems("not copied", [f"{one.stem}: {one.problem}" for one in bad], fg="red")
    return bad


def _say_done(verb: str, names: str, way: _Way, done: list[Transferred]) -> None:
    from curidask.core.units import format_size
    from curidask.store.copy import Result

    copied = [one for one in done if one.result is Result.COPIED]
    n_there = sum(one.result is Result.THERE for one in done)
    size = format_size(sum(one.size_bytes for one in copied))
    click.echo(
        f"{verb}ed {names} to {way.target.label}: {view.count(len(copied), 'artifact')} copied, {size}; "
        f"{n_there} there already"
    )


def _as_json(way: _Way, wanted: list[KnownRun], done: list[Transferred], *, dry_run: bool) -> dict[str, Any]:
    return {
        "from": way.source.store.url,
        "to": way.target.store.url,
        "dry_run": dry_run,
        "runs": [{"reference": run.reference, "artifacts": sorted(run.stems - run.optional)} for run in wanted],
        "artifacts": [
            {"name": one.stem, "result": one.result.value, "size_bytes": one.size_bytes, "problem": one.problem}
            for one in done
        ],
    }
