"""What ``curidask cache show`` says of one artifact."""

from __future__ import annotations

import difflib
import functools
import json
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from curidask.core.artifact_names import stem_of
from curidask.core.units import format_age, format_size
from curidask.errors import ArtifactMissingError, ArtifactNewerError, ConfigurationError
from curidask.store.maintenance.inventory import seconds_of
from curidask.store.maintenance.usage import Uses
from curidask.store.manifest import Manifest, printable
from curidask.store.signing import signature_state

if TYPE_CHECKING:
    from curidask.session.config import Config
    from curidask.store.artifacts import ArtifactStore
    from curidask.store.maintenance.inventory import Entry, Inventory
    from curidask.store.tiers import Tier


# --- what the commands of ``curidask cache`` share: which tiers, progress, tables ------------------------------------
F = TypeVar("F", bound=Callable[..., Any])

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

PROBLEM_LINES = 50
"""Lines about single artifacts that are printed of one kind; --json has all."""


def cache_options(command: F) -> F:
    """The options of all commands: which cache, which tier, and how to print."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--tier", metavar="N", help="Only the N-th tier of the cache, counted from 1."),
        click.option(
            "-c", "--cache", metavar="PATH|URL[,…]", help="Another cache than the configured one; tiers with commas."
        ),
    ):
        command = option(command)
    return command


def filter_options(command: F) -> F:
    """The options that select artifacts; the command gets them as one `Filter`, called `chosen`."""

    @functools.wraps(command)
    def with_filter(
        *args: Any, experiment: str | None, stage: str | None, user: str | None, older: str | None, **others: Any
    ) -> Any:
        return command(*args, chosen=Filter(experiment, stage, user, older), **others)

    filtered = cast(F, with_filter)
    for option in (
        click.option("--older", metavar="AGE", help="Only those made longer ago, as in 30d or 12h."),
        click.option("--user", metavar="NAME", help="Only those that this user made."),
        click.option("--stage", metavar="NAME", help="Only those of this stage."),
        click.option("--experiment", metavar="NAME", help="Only those whose names begin with this prefix."),
    ):
        filtered = option(filtered)
    return filtered


# --- tiers -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class NumberedTier:
    """A tier with its number, from 1 on; 0 for a place that is no tier of the cache."""

    number: int
    tier: Tier

    @property
    def store(self) -> ArtifactStore:
        """Its store."""
        return self.tier.store

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return f"tier {self.number} ({self.store.url})" if self.number else self.store.url


def load_config() -> Config:
    """The configuration around the current folder; from here on warnings show as lines."""
    from curidask.session.config import load_config
    from curidask.session.terminal import say, show_warnings

    show_warnings(lambda text: say(f"warning: {text}", fg="yellow"))
    return load_config()


def open_cache(config: Config, cache: str | None) -> list[NumberedTier]:
    """The tiers of the chosen or the configured cache."""
    from curidask.store.factory import open_tiers

    tiers = open_tiers(config.cache_urls(cache), config.store_settings("" if cache else None))
    return [NumberedTier(number, tier) for number, tier in enumerate(tiers, start=1)]


def choose_tiers(tiers: Sequence[NumberedTier], asked: str | None) -> list[NumberedTier]:
    """Those that ``--tier`` names; all without it."""
    if asked is None:
        return list(tiers)
    chosen = [tier for tier in tiers if str(tier.number) == asked]
    if not chosen:
        numbers = ", ".join(f"{tier.number}: {tier.store.url}" for tier in tiers)
        raise click.BadParameter(f"there is no tier {asked!r}; the cache has {numbers}", param_hint="--tier")
    return chosen


def one_tier(tiers: Sequence[NumberedTier], asked: str | None, what: str) -> NumberedTier:
    """The one tier that something is done to that must not happen to another by mistake."""
    chosen = choose_tiers(tiers, asked)
    if len(chosen) > 1:
        numbers = ", ".join(f"--tier {tier.number} is {tier.store.url}" for tier in chosen)
        raise click.UsageError(f"The cache has {len(chosen)} tiers: say which one {what} ({numbers}).")
    return chosen[0]


def tiers_to_read(cache: str | None, asked: str | None) -> list[NumberedTier]:
    """The chosen tiers of the chosen cache, those that are there.

    Raises
    ------
    ConfigurationError
        When none is.
    """
    return only_there(choose_tiers(open_cache(load_config(), cache), asked))


def only_there(tiers: Sequence[NumberedTier]) -> list[NumberedTier]:
    """Those that are no folder, or one that is there.

    Raises
    ------
    ConfigurationError
        When none is.
    """
    from curidask.errors import ConfigurationError
    from curidask.store.maintenance.verify import is_empty_folder

    there = [tier for tier in tiers if not is_empty_folder(tier.store.objects)]
    if not there:
        places = ", ".join(tier.store.url for tier in tiers)
        raise ConfigurationError(
            "There is no cache.",
            where=places,
            fix="run an experiment first, go to the project's folder, or name another place with --cache",
        )
    return there


def refuse_read_only(tier: NumberedTier, consequence: str) -> None:
    """Raise for a tier that is not to be written to.

    Raises
    ------
    ConfigurationError
    """
    if not tier.store.writable:
        from curidask.errors import ConfigurationError

        raise ConfigurationError(
            f"The cache mode of {tier.label} is {tier.tier.mode.value!r}, so {consequence}.",
            where="`cache_mode` in the configuration",
            fix=f"change it, or name the place itself: --cache {tier.store.url}",
        )


def nothing(tiers: Sequence[NumberedTier], *, filtered: bool) -> str:
    """What to say where there is nothing to show."""
    places = ", ".join(tier.store.url for tier in tiers)
    return f"no artifact in {places} fits" if filtered else f"no artifacts in {places}"


def take(tier: NumberedTier, *, quiet: bool, store: ArtifactStore | None = None) -> Inventory:
    """The inventory of a tier, or of its place by another store, with a progress bar; caches inside it are told."""
    from curidask.store.maintenance.inventory import take_inventory

    with progress(f"reading {tier.label}", quiet=quiet) as update:
        inventory = take_inventory(store or tier.store, update)
    for folder in inventory.inner:
        click.secho(printable(f"left out: {folder} in {tier.label} is a cache of its own"), fg="yellow", err=True)
    return inventory


# --- selecting -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Filter:
    """Which artifacts are meant; see `filter_options`."""

    experiment: str | None = None
    stage: str | None = None
    user: str | None = None
    older: str | None = None

    def select(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Those that fit; one without a readable manifest fits only when nothing is asked for."""
        from curidask.core.units import parse_age

        before = now - parse_age(self.older, "--older") if self.older is not None else None
        return [entry for entry in entries if self._fits(entry, before)]

    def _fits(self, entry: Entry, before: float | None) -> bool:
        manifest = entry.manifest
        wanted = {"prefix": self.experiment, "stage": self.stage, "user": self.user}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        if manifest is None:
            return not wanted and before is None
        if any(getattr(manifest, name) != value for name, value in wanted.items()):
            return False
        return before is None or entry.created < before


# --- printing --------------------------------------------------------------------------------------------------------
def print_json(value: Any) -> None:
    """Print a value for other programs."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    click.echo(re.sub(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", lambda m: f"\\u{ord(m[0]):04x}", text))


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[str] = ()) -> None:
    """Print columns, as wide as what is in them."""
    aligned_right = set(right)
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if header in aligned_right else cell.ljust(width)
            for header, cell, width in zip(headers, cells, widths, strict=True)
        ]
        return "  ".join(parts).rstrip()

    click.secho(line(headers), bold=True)
    for row in rows:
        click.echo(line(row))


def print_problems(title: str, lines: Sequence[str], **style: Any) -> None:
    """Print a list under a title, shortened when it is long."""
    if not lines:
        return
    click.secho(f"{title}: {len(lines)}", **style)
    for line in lines[:PROBLEM_LINES]:
        click.echo(f"  {printable(line)}")
    if len(lines) > PROBLEM_LINES:
        click.echo(f"  … and {len(lines) - PROBLEM_LINES} more (--json has all)")


@contextmanager
def progress(label: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on the terminal; gives a function that takes how much is done, and how much there is."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def update(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        yield update


# --- show ------------------------------------------------------------------------------------------------------------
SEVERAL = 10
"""Names that are told when several fit."""


def find_one(tiers: Sequence[NumberedTier], name: str) -> tuple[str, list[NumberedTier]]:
    """The one artifact that is meant, and the tiers that have it.

    Raises
    ------
    ConfigurationError
        When there is none, or several.
    """
    in_tier = [(tier, {stem for n in tier.store.objects.list() if (stem := stem_of(n))}) for tier in tiers]
    stems = set().union(*(found for _, found in in_tier))
    found = one_of(stems, name, ", ".join(tier.store.url for tier in tiers))
    return found, [tier for tier, there in in_tier if found in there]


def one_of(stems: Collection[str], name: str, where: str) -> str:
    """The one artifact that is meant: called so, whose file this is, or with that in its name.

    Raises
    ------
    ConfigurationError
        When there is none, with near names, or several.
    """
    found = meant_by(stems, name)
    if not found:
        near = near_stems(stems, name)
        fix = (
            f"did you mean {' or '.join(near)}?" if near else "`curidask cache ls` lists all names; a part of one does"
        )
        raise ConfigurationError(f"There is no artifact {name!r}.", where=where, fix=fix)
    if len(found) > 1:
        some = ", ".join(map(printable, found[:SEVERAL])) + (", …" if len(found) > SEVERAL else "")
        raise ConfigurationError(
            f"{len(found)} artifacts have {name!r} in their names.", where=where, fix=f"give more of it: {some}"
        )
    return found[0]


def meant_by(stems: Collection[str], name: str) -> list[str]:
    """Those that are called so, whose file this is, or that have it in their names; the first kind that there is."""
    parts = name.split("/")  # a file of an artifact may lie in a folder of the cache, or in one of its own
    files = (stem_of("/".join(parts[start:])) for start in range(len(parts)))
    exact = name if name in stems else next((stem for stem in files if stem in stems), None)
    if exact is not None:
        return [exact]
    return sorted(stem for stem in stems if name and name in stem)


def near_stems(stems: Collection[str], name: str, most: int = 3) -> list[str]:
    """Those with the most in their names that is in another name, or nearly."""
    asked = set(_WORDS.findall(name))
    words = {word for stem in stems for word in _WORDS.findall(stem) if not _HASH.fullmatch(word)}
    for word in sorted(asked - words):
        asked.update(difflib.get_close_matches(word, words, n=1, cutoff=0.75))
    scored = sorted((-sum(len(word) for word in asked & set(_WORDS.findall(stem))), stem) for stem in stems)
    return [printable(stem) for score, stem in scored[:most] if score]


_WORDS = re.compile(r"[^\W_]+")
_HASH = re.compile(r"[0-9a-f]{12,}")


def describe(tier: NumberedTier, stem: str) -> dict[str, Any]:
    """All that a tier knows of an artifact, as plain values."""
    store = tier.store
    known: dict[str, Any] = {"tier": tier.number, "place": store.url, "name": stem}
    data = store.catalog.raw(stem)
    if data is None:
        return {**known, "problem": "its manifest is not there: its commit was broken off, or is under way"}
    try:
        manifest = store.catalog.parse(stem, data, trusted=False)
    except (ArtifactMissingError, ArtifactNewerError) as error:
        return {**known, "problem": error.what}
    uses = [use for use in Uses(store.objects).refresh() if stem in use.stems]
    return {
        **known,
        **_about(manifest),
        "signature": signature_state(data, store.catalog.keys),
        "used_by": [
            {"run": use.reference, "user": use.user, "host": use.host, "seen": use.seen, "ended": use.ended}
            for use in sorted(uses, key=lambda use: use.seen, reverse=True)
        ],
    }


def _about(manifest: Manifest) -> dict[str, Any]:
    names = (
        "key", "prefix", "stage", "output", "set_name", "params_hash", "cacher", "preview", "user", "host", "run",
        "created", "seconds", "params", "components", "packages", "extra_metadata",
    )  # fmt: skip
    files = [
        {"name": entry.name, "size_bytes": entry.size_bytes, "sha256": entry.sha256}
        for entry in (*manifest.files, *manifest.tracked)
    ]
    inputs = [dict(one) for one in manifest.inputs]
    return {**{name: getattr(manifest, name) for name in names}, "inputs": inputs, "files": files}


def lines_of(known: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    yield printable(known["name"])
    yield f"  in         tier {known['tier']} ({known['place']})"
    if "problem" in known:
        yield f"  problem    {printable(known['problem'])}"
        return
    now = time.time()
    made = f"{known['created']}, {format_age(now - seconds_of(known['created']))} ago, in {known['seconds']:.3g} s"
    for label, value in (
        ("is", f"output {known['output']} of stage {known['stage']}, experiment {known['prefix']}"),
        ("set", f"{known['set_name']}  {known['params_hash']}"),
        ("key", known["key"]),
        ("made", made),
        ("by", f"{known['user']} on {known['host']}, run {known['run']}"),
        ("written by", known["cacher"]),
        ("signature", known["signature"]),
        ("preview", known["preview"]),
    ):
        yield f"  {label:<10} {printable(value)}"
    yield from _lists(known, now)


def _lists(known: dict[str, Any], now: float) -> Iterator[str]:
    for name, value in known["params"].items():
        yield printable(f"  param      {name} = {value!r}")
    for one in known["inputs"]:
        yield printable(f"  input      {one.get('name', '?')}  {str(one.get('key', ''))[:12]}")
    for entry in known["files"]:
        yield printable(f"  file       {entry['name'] or '(payload)'}  {format_size(entry['size_bytes'])}")
    for use in known["used_by"]:
        when = "running" if not use["ended"] else f"{format_age(now - use['seen'])} ago"
        yield printable(f"  used by    {use['run']}, {use['user']} on {use['host']}, {when}")
