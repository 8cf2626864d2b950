"""``curidask cache``: look at the cache, check it, clean it up, and copy artifacts between its tiers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from curidask.cli.cache import show as view
from curidask.cli.cache.copy import pull_command, push_command
from curidask.cli.cache.maintain import check_command, gc_command, verify_command
from curidask.cli.cache.show import SETTINGS, Filter, NumberedTier, cache_options, filter_options

if TYPE_CHECKING:
    from curidask.store.maintenance.inventory import Entry

EPILOG = """\b
Examples:
  curidask cache du                              how much each experiment takes
  curidask cache ls --stage train --older 30d    which artifacts of a stage are older than a month
  curidask cache show digits_3f2a_train_model    all that is known of one
  curidask cache verify                          read and hash everything
  curidask cache gc --unused 30d --dry-run       what nobody used for a month
  curidask cache pull latest                     bring a run from the shared tier to this machine
  curidask cache check s3://bucket/team          whether a place can serve as a cache

Each of them takes -h. Without --cache they look at the project's cache; one with several tiers is shown tier by tier.

Exit codes: 0 done, 1 something is damaged, missing or failed, 2 it could not be done as asked, 130 interrupted.
"""


@click.group("cache", context_settings=SETTINGS, epilog=EPILOG)
def cache_group() -> None:
    """Look at the cache, check it, clean it up, and copy runs between its tiers."""


for _command in (verify_command, gc_command, check_command, pull_command, push_command):
    cache_group.add_command(_command)


# --- ls --------------------------------------------------------------------------------------------------------------
SORTS = {
    "age": lambda entry: -entry.created,
    "size": lambda entry: -entry.size_bytes,
    "name": lambda entry: entry.stem,
}

LS_EPILOG = """\b
Examples:
  curidask cache ls --sort size -n 20              the twenty largest
  curidask cache ls --experiment digits --user ann
  curidask cache ls --json | jq -r '.[].name'      names for other programs
"""


@cache_group.command("ls", short_help="List artifacts.", context_settings=SETTINGS, epilog=LS_EPILOG)
@filter_options
@click.option(
    "--sort", type=click.Choice(list(SORTS)), default="age", help="Newest, largest, or by name. Default: age."
)
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N.")
@cache_options
def ls_command(
    chosen: Filter,
    sort: str,
    limit: int | None,
    cache: str | None,
    tier: str | None,
    as_json: bool,
) -> None:
    """List artifacts, the newest first: size, age, who made them, what they are."""
    now = time.time()
    tiers = view.tiers_to_read(cache, tier)
    holders: dict[str, list[int]] = defaultdict(list)
    by_stem: dict[str, Entry] = {}
    for one in tiers:
        for entry in chosen.select(view.take(one, quiet=as_json).artifacts, now):
            holders[entry.stem].append(one.number)
            by_stem.setdefault(entry.stem, entry)
    found = sorted(by_stem.values(), key=SORTS[sort])
    shown = found[:limit]
    if as_json:
        view.print_json([_described(entry, holders[entry.stem]) for entry in shown])
        return
    if not found:
        click.echo(view.nothing(tiers, filtered=chosen != Filter()))
        return
    headers = ["SIZE", "AGE", "USER", "EXPERIMENT", "STAGE", "OUTPUT", "SET", "NAME"]
    rows = [_row(entry, now) for entry in shown]
    if len(tiers) > 1:
        headers = ["TIERS", *headers]
        rows = [[",".join(map(str, holders[e.stem])), *row] for e, row in zip(shown, rows, strict=True)]
    view.print_table(headers, rows, right=("SIZE", "AGE"))
    click.echo(_total(found, len(shown)))


def _row(entry: Entry, now: float) -> list[str]:
    from curidask.core.units import format_age, format_size

    manifest = entry.manifest
    if manifest is None:
        return ["?", "?", "?", "?", "?", "?", entry.problem.partition(":")[0], entry.stem]
    about = [manifest.user, manifest.prefix, manifest.stage, manifest.output, manifest.set_name]
    return [format_size(entry.size_bytes), format_age(now - entry.created), *about, entry.stem]


def _total(entries: Sequence[Entry], n_shown: int) -> str:
    from curidask.core.units import format_size
    from curidask.store.maintenance.inventory import Inventory

    size = format_size(Inventory(list(entries)).size_bytes)
    shown = f" ({n_shown} shown)" if n_shown < len(entries) else ""
    return f"{view.count(len(entries), 'artifact')}, {size}{shown}"


def _described(entry: Entry, holders: list[int]) -> dict[str, Any]:
    manifest = entry.manifest
    known: dict[str, Any] = {"name": entry.stem, "tiers": holders}
    if manifest is None:
        return {**known, "problem": entry.problem}
    names = ("key", "prefix", "stage", "output", "set_name", "params_hash", "user", "host", "run", "created", "cacher")
    return {**known, "size_bytes": entry.size_bytes, **{name: getattr(manifest, name) for name in names}}


# --- du --------------------------------------------------------------------------------------------------------------
DU_EPILOG = """\b
Examples:
  curidask cache du                        by experiment
  curidask cache du --by user --by stage   who stores how much of what
  curidask cache du --by age               how much is a day, a week, a month old
"""
AGES = ((86400.0, "up to a day"), (7 * 86400.0, "up to a week"), (30 * 86400.0, "up to a month"))
OLD = "older"
GROUPINGS = ("experiment", "stage", "user", "host", "run", "age")


@dataclass(slots=True)
class _Sum:
    """What is stored of one kind."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        from curidask.store.maintenance.inventory import Inventory

        return Inventory(self.entries).size_bytes


@cache_group.command(
    "du", short_help="Sum up what is stored, and by whom.", context_settings=SETTINGS, epilog=DU_EPILOG
)
@click.option("--by", "groupings", type=click.Choice(GROUPINGS), multiple=True, help="Repeatable. Default: experiment.")
@filter_options
@cache_options
def du_command(
    groupings: tuple[str, ...],
    chosen: Filter,
    cache: str | None,
    tier: str | None,
    as_json: bool,
) -> None:
    """Sum up what is stored, the largest first: by experiment, stage, user, host, run or age.

    Files that several artifacts share count once in each line and once in the total.
    """
    now = time.time()
    by = groupings or ("experiment",)
    tiers = view.tiers_to_read(cache, tier)
    found = []
    for one in tiers:
        entries = chosen.select(view.take(one, quiet=as_json).artifacts, now)
        found.append((one, _sums(entries, by, now), entries))
    if as_json:
        view.print_json([row for one, sums, _ in found for row in _sum_rows(one, by, sums, now)])
        return
    for one, sums, entries in found:
        if len(found) > 1:
            click.secho(one.label, bold=True)
        if not entries:
            click.echo(view.nothing([one], filtered=chosen != Filter()))
            continue
        _print_sums(by, sums, now)
        click.echo(_total(entries, len(entries)))


def _sums(entries: Iterable[Entry], by: Sequence[str], now: float) -> dict[tuple[str, ...], _Sum]:
    sums: dict[tuple[str, ...], _Sum] = defaultdict(_Sum)
    for entry in entries:
        sums[tuple(_group_of(entry, grouping, now) for grouping in by)].entries.append(entry)
    return dict(sorted(sums.items(), key=lambda item: (-item[1].size_bytes, item[0])))


def _group_of(entry: Entry, grouping: str, now: float) -> str:
    if entry.manifest is None:
        return entry.problem.partition(":")[0]
    if grouping == "age":
        return next((name for seconds, name in AGES if now - entry.created <= seconds), OLD)
    return str(getattr(entry.manifest, {"experiment": "prefix"}.get(grouping, grouping)))


def _print_sums(by: Sequence[str], sums: dict[tuple[str, ...], _Sum], now: float) -> None:
    from curidask.core.units import format_age, format_size

    rows = []
    for group, one in sums.items():
        newest = now - max(entry.created for entry in one.entries)
        rows.append([*group, str(len(one.entries)), format_size(one.size_bytes), format_age(newest)])
    headers = [*(grouping.upper() for grouping in by), "ARTIFACTS", "SIZE", "NEWEST"]
    view.print_table(headers, rows, right=("ARTIFACTS", "SIZE", "NEWEST"))


def _sum_rows(
    tier: NumberedTier, by: Sequence[str], sums: dict[tuple[str, ...], _Sum], now: float
) -> list[dict[str, Any]]:
    return [
        {
            "tier": tier.number,
            "place": tier.store.url,
            **dict(zip(by, group, strict=True)),
            "artifacts": len(one.entries),
            "size_bytes": one.size_bytes,
            "newest_seconds": round(now - max(entry.created for entry in one.entries)),
        }
        for group, one in sums.items()
    ]


# --- show ------------------------------------------------------------------------------------------------------------
SHOW_EPILOG = """\b
Examples:
  curidask cache show demo_1a2b_train_model.3c4d5e6f7a8b
  curidask cache show train_model --json
  curidask cache show data/cache/demo_1a2b_train_model.3c4d5e6f7a8b.pkl
"""


@cache_group.command(
    "show", short_help="Show all that is known of an artifact.", context_settings=SETTINGS, epilog=SHOW_EPILOG
)
@click.argument("name", metavar="NAME")
@cache_options
def show_command(name: str, cache: str | None, tier: str | None, as_json: bool) -> None:
    """Show all that is known of the artifact NAME: what it is, its files, where it came from, who used it.

    NAME is its name or a part of it that only one has, or a path to one of its files.
    """
    from curidask.cli.cache.show import describe, find_one, lines_of

    tiers = view.tiers_to_read(cache, tier)
    stem, holders = find_one(tiers, name)
    described = [describe(one, stem) for one in holders]
    if as_json:
        view.print_json(described)
        return
    for number, one in enumerate(described):
        if number:
            click.echo()
        for line in lines_of(one):
            click.echo(line)
