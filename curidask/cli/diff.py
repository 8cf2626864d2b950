"""``curidask diff``: what differs between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curidask.session.terminal import say

if TYPE_CHECKING:
    from curidask.cli.cache.common import NumberedTier
    from curidask.cli.run_names import Named
    from curidask.session.config import Config
    from curidask.session.explain.run_diff import Side
    from curidask.store.maintenance.usage import Use
    from curidask.store.manifest import Manifest

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.command("diff", context_settings=SETTINGS)
@click.argument("old", metavar="RUN")
@click.argument("new", metavar="RUN")
@click.option("-c", "--cache", metavar="PLACE", help="Another cache than the configured one.")
def diff_command(old: str, new: str, cache: str | None) -> None:
    """Say what differs between two runs, from the first to the second. Nothing is computed, nothing is changed.

    Parameters with old and new value; code with a diff of each function, class and constant; versions of packages;
    arguments and inputs of stages; and which outputs have other contents, which the same though another key stands for
    what they were made from.

    RUN is a reference as `curidask runs` lists it, its beginning (`digits_3`), an experiment for its last run, or
    `latest`. A run that is known from the cache only, such as a colleague's, is compared by what the cache has of it.
    """
    from curidask.session.config import load_config
    from curidask.session.explain.run_diff import differences

    sides = _sides(load_config(), (old, new), cache)
    for line in differences(*sides):
        say(line, err=False)


def _sides(config: Config, asked: Sequence[str], cache: str | None) -> tuple[Side, Side]:
    from curidask.cli.cache.common import open_cache
    from curidask.session.explain.code_store import read_code
    from curidask.session.explain.run_diff import outputs_of_manifests, to_read

    tiers = open_cache(config, cache)
    references, uses = _references(config, tiers, asked)
    old, new = (_by_record(config, reference) for reference in references)
    for side in (old, new):
        if not side.record:
            stems = {stem for use in uses or _uses(tiers) if use.reference == side.reference for stem in use.stems}
            side.manifests = _manifests(tiers, stems)
            side.outputs = outputs_of_manifests(side.manifests.values())
    for side, stems in zip((old, new), to_read(old, new), strict=True):
        side.manifests = {**side.manifests, **_manifests(tiers, stems - side.manifests.keys())}
        codes = {str(manifest.components.get("code", "")) for manifest in side.manifests.values()}
        side.codes = {key: code for tier in tiers for key, code in read_code(tier.store, codes).items()}
    return old, new


def _by_record(config: Config, reference: str) -> Side:
    from curidask.errors import ProjectError
    from curidask.runs.schema import read_record
    from curidask.session.explain.run_diff import Side, outputs_of_record

    try:
        record = read_record(config.path(config.runs) / reference)
    except ProjectError as error:
        return Side(reference, {}, error.what)
    return Side(reference, record, "", outputs_of_record(record))


def _manifests(tiers: Sequence[NumberedTier], stems: set[str]) -> dict[str, Manifest]:
    found: dict[str, Manifest] = {}
    for tier in tiers:
        left = stems - found.keys()
        found |= tier.store.manifests(left) if left else {}
    return found


# --- which runs ------------------------------------------------------------------------------------------------------
def _references(config: Config, tiers: Sequence[NumberedTier], asked: Sequence[str]) -> tuple[list[str], Sequence[Use]]:
    """The references that are meant; and what runs say in the cache, when it was looked at for that."""
    from curidask.cli.run_names import Named, reference_of
    from curidask.errors import SelectionError

    runs = config.path(config.runs)
    known = {**_with_folders(runs, asked), **_recorded(runs)}
    with suppress(SelectionError):
        return [reference_of(one, known, str(runs)) for one in asked], ()
    uses = _uses(tiers)
    known = {use.reference: Named(use.experiment, use.started) for use in uses if use.reference} | known
    where = ", ".join([str(runs), *(tier.store.url for tier in tiers)])
    return [reference_of(one, known, where) for one in asked], uses


def _recorded(runs: Path) -> dict[str, Named]:
    from curidask.cli.run_names import Named
    from curidask.runs.status import all_runs

    return {run.reference: Named(run.name, run.started) for run in all_runs(runs)}


def _with_folders(runs: Path, asked: Sequence[str]) -> dict[str, Named]:
    """Runs that have a folder, whatever is in it."""
    from curidask.cli.run_names import Named
    from curidask.store.untrusted import is_name

    return {one: Named("", 0.0) for one in asked if is_name(one) and (runs / one / "run.json").exists()}


def _uses(tiers: Sequence[NumberedTier]) -> list[Use]:
    from curidask.store.maintenance.usage import Uses
    from curidask.store.maintenance.verify import is_empty_folder

    return [u for tier in tiers if not is_empty_folder(tier.store.objects) for u in Uses(tier.store.objects).refresh()]
