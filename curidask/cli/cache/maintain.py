"""``curidask cache verify``, ``gc`` and ``check``: is it whole, what can go, and does a place serve as a cache."""

from __future__ import annotations

import socket
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from curidask.cli.cache import show as view
from curidask.cli.cache.show import SETTINGS, Filter, NumberedTier, cache_options, filter_options
from curidask.store.manifest import printable

if TYPE_CHECKING:
    from curidask.store.artifacts import ArtifactStore
    from curidask.store.maintenance.gc import Collected, Plan, Policy
    from curidask.store.maintenance.inventory import Inventory
    from curidask.store.maintenance.orphans import Leftovers
    from curidask.store.maintenance.usage import Uses
    from curidask.store.maintenance.verify import Checked, Step

# --- verify ----------------------------------------------------------------------------------------------------------
VERIFY_EPILOG = """\b
Examples:
  curidask cache verify                        all tiers
  curidask cache verify --tier 2 --stage train
  curidask cache verify --json | jq '.problems'
  curidask cache verify --load

Nothing has to be done about damaged artifacts: they count as missing, and the next run that needs one makes it again.
With CURIDASK_CACHE_KEY set, signatures are checked too.
"""


@click.command(
    "verify", short_help="Compare all files with their digests.", context_settings=SETTINGS, epilog=VERIFY_EPILOG
)
@click.option("--load", is_flag=True, help="Also load what can be loaded without its stage; executes nothing.")
@filter_options
@cache_options
def verify_command(
    load: bool,
    chosen: Filter,
    cache: str | None,
    tier: str | None,
    as_json: bool,
) -> None:
    """Read all files of all artifacts and compare them with their digests, several at a time.

    Exits with 1 when something is damaged or untrusted.
    """
    tiers = view.tiers_to_read(cache, tier)
    found = [(one, _verify(one, chosen, load=load, quiet=as_json)) for one in tiers]
    problems = [(one, checked) for one, results in found for checked in results if checked.kind]
    if as_json:
        view.print_json(_verified(found, problems))
    else:
        for one, results in found:
            _say_verified(one, results)
    if problems:
        sys.exit(1)


def _verify(tier: NumberedTier, chosen: Filter, *, load: bool, quiet: bool) -> list[Checked]:
    from curidask.caching.loadable import problem_of
    from curidask.store.maintenance.verify import verify_all

    entries = chosen.select(view.take(tier, quiet=quiet).artifacts, time.time())
    with view.progress(f"verifying {tier.label}", quiet=quiet) as update:
        done: list[Checked] = []

        def told(checked: Checked) -> None:
            done.append(checked)
            update(len(done), len(entries))

        if not load:
            return verify_all(tier.store, entries, told)
        return verify_all(tier.store, entries, told, partial(problem_of, tier.store))


def _say_verified(tier: NumberedTier, results: list[Checked]) -> None:
    from curidask.core.units import format_size

    bad = [checked for checked in results if checked.kind]
    whole = [checked for checked in results if not checked.kind]
    size = format_size(sum(checked.size_bytes for checked in whole))
    click.echo(f"{tier.label}: {view.count(len(whole), 'artifact')} whole, {size}")
    view.print_problems("not whole", [f"{one.kind}: {one.problem}" for one in bad], fg="red")


def _verified(
    found: list[tuple[NumberedTier, list[Checked]]], problems: list[tuple[NumberedTier, Checked]]
) -> dict[str, Any]:
    tiers = [{"tier": t.number, "place": t.store.url, "checked": len(results)} for t, results in found]
    rows = [{"tier": t.number, "name": c.stem, "kind": c.kind, "problem": c.problem} for t, c in problems]
    return {"tiers": tiers, "problems": rows}


# --- gc --------------------------------------------------------------------------------------------------------------
GC_EPILOG = """\b
Examples:
  curidask cache gc --unused 30d --dry-run             what would go; removes nothing
  curidask cache gc --unused 30d --keep-runs 10        but keep what the last ten runs of each experiment used
  curidask cache gc --max-size 200GB                   the least recently used first, until 200 GB are left
  curidask cache gc                                    only what dead runs and broken-off commits left

Runs say in the cache what they use, so what a run that is going on may need always stays, also when it begins while
this removes. A cache of several tiers needs --tier. Who only reads the cache says nothing: --unused counts from when
an artifact was made or last used by a run that may write.
"""


@click.command("gc", short_help="Remove what nobody uses any longer.", context_settings=SETTINGS, epilog=GC_EPILOG)
@click.option("--unused", metavar="AGE", help="Remove what was neither made nor used for so long, as in 30d.")
@click.option(
    "--keep-runs",
    type=click.IntRange(min=0),
    metavar="N",
    help="Keep what the last N runs of each experiment used. Alone: remove what only earlier runs used.",
)
@click.option("--max-size", metavar="SIZE", help="Remove the least recently used until no more is left, as in 200GB.")
@click.option(
    "--grace", metavar="AGE", default="1d", show_default=True, help="Remove nothing that was made or used within it."
)
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@cache_options
def gc_command(
    unused: str | None,
    keep_runs: int | None,
    max_size: str | None,
    grace: str,
    dry_run: bool,
    cache: str | None,
    tier: str | None,
    as_json: bool,
) -> None:
    """Remove what nobody uses any longer, and what processes that died have left."""
    from curidask.core.units import parse_age, parse_size

    policy = _policy(
        parse_age(unused, "--unused") if unused is not None else None,
        keep_runs,
        parse_size(max_size, "--max-size") if max_size is not None else None,
        parse_age(grace, "--grace"),
    )
    chosen = view.one_tier(view.open_cache(view.load_config(), cache), tier, "is to be cleaned up")
    (chosen,) = view.only_there([chosen])
    if not dry_run:
        view.refuse_read_only(chosen, "nothing can be removed from it")
    _Cleaning(chosen, policy, quiet=as_json).go(dry_run=dry_run)


def _policy(unused: float | None, keep_runs: int | None, max_bytes: int | None, grace: float) -> Policy:
    from curidask.store.maintenance.gc import Policy

    return Policy(unused, keep_runs, max_bytes, grace)


class _Cleaning:
    """One clean-up of a tier."""

    def __init__(self, tier: NumberedTier, policy: Policy, *, quiet: bool) -> None:
        from curidask.store.maintenance.usage import Uses

        self.tier = tier
        self.policy = policy
        self.quiet = quiet
        self.store = _without_keys(tier.store)
        self.uses: Uses = Uses(self.store.objects)

    def go(self, *, dry_run: bool) -> None:
        """Plan it, say so, and do it unless it is only tried."""
        from curidask.store.maintenance.gc import plan_gc
        from curidask.store.maintenance.orphans import find_leftovers

        inventory = view.take(self.tier, quiet=self.quiet, store=self.store)
        now = time.time()
        plan = plan_gc(inventory, self.uses.refresh(), self.policy, now)
        if dry_run:
            leftovers = find_leftovers(self.store, self.uses, now, self.policy.grace_seconds)
            self._print(plan, leftovers, None)
            return
        done = self._collect(inventory, plan)
        self._print(plan, None, done)
        if done.refused:
            sys.exit(1)

    def _collect(self, inventory: Inventory, plan: Plan) -> Collected:
        from curidask.execution.tracebacks import user_name
        from curidask.store.maintenance.gc import collect

        with view.progress(f"cleaning up {self.tier.label}", quiet=self.quiet) as update:
            return collect(
                self.store,
                inventory,
                plan,
                self.uses,
                who=f"{user_name()} on {socket.gethostname()}",
                grace_seconds=self.policy.grace_seconds,
                told=update,
            )

    # --- saying it ---------------------------------------------------------------------------------------------------
    def _print(self, plan: Plan, leftovers: Leftovers | None, done: Collected | None) -> None:
        if self.quiet:
            view.print_json(_gc_json(self.tier, plan, leftovers, done))
            return
        removed = None if done is None else set(done.stems)
        doomed = [d for d in plan.remove if removed is None or d.entry.stem in removed]
        verb = "would remove" if done is None else "removed"
        _print_doomed(plan, doomed, verb)
        for why, number in sorted(plan.protected.items()):
            click.echo(f"stays: {view.count(number, 'artifact')} {why}")
        if done is not None and done.spared:
            click.echo(f"stays: {view.count(len(done.spared), 'artifact')} that a run began to use meanwhile")
        refused = [] if done is None else list(done.refused.items())
        for name, why in refused[: view.PROBLEM_LINES]:
            click.echo(f"stays: {printable(name)}: {printable(why)}")
        if len(refused) > view.PROBLEM_LINES:
            click.echo(f"… and {len(refused) - view.PROBLEM_LINES} more that this user may not remove (--json has all)")
        halves = sum(map(len, plan.halves.values()))
        n_left = len(leftovers) + halves if leftovers is not None else done.leftovers if done is not None else 0
        if n_left:
            click.echo(f"{verb} {view.count(n_left, 'leftover')} of dead processes")


def _print_doomed(plan: Plan, doomed: list[Any], verb: str) -> None:
    from curidask.core.units import format_age, format_size

    by_reason: dict[str, list[int]] = defaultdict(list)
    for one in doomed:
        by_reason[one.reason].append(one.entry.size_bytes)
    total = format_size(sum(map(sum, by_reason.values())))
    click.echo(f"{verb} {view.count(len(doomed), 'artifact')}, {total} of {format_size(plan.total_bytes)}")
    for reason, sizes in sorted(by_reason.items()):
        click.echo(f"  {reason}: {len(sizes)}, {format_size(sum(sizes))}")
    rows = [
        [format_size(one.entry.size_bytes), format_age(plan.made - one.last_used), one.entry.stem]
        for one in doomed[: view.PROBLEM_LINES]
    ]
    if rows:
        view.print_table(["SIZE", "LAST USED", "NAME"], rows, right=("SIZE", "LAST USED"))
    if len(doomed) > len(rows):
        click.echo(f"… and {len(doomed) - len(rows)} more (--json has all)")


def _gc_json(tier: NumberedTier, plan: Plan, leftovers: Leftovers | None, done: Collected | None) -> dict[str, Any]:
    rows = [
        {"name": d.entry.stem, "size_bytes": d.entry.size_bytes, "last_used": d.last_used, "reason": d.reason}
        for d in plan.remove
    ]
    known: dict[str, Any] = {
        "place": tier.store.url,
        "total_bytes": plan.total_bytes,
        "left_bytes": plan.left_bytes,
        "protected": plan.protected,
        "runs_forgotten": plan.runs,
        "planned": rows,
    }
    if done is None:
        halves = [name for names in plan.halves.values() for name in names]
        found = [*halves, *leftovers.names, *map(str, leftovers.paths)] if leftovers is not None else halves
        return {**known, "dry_run": True, "leftovers": found}
    return {**known, "dry_run": False, **{f"n_{k}" if k == "leftovers" else k: v for k, v in asdict(done).items()}}


def _without_keys(store: ArtifactStore) -> ArtifactStore:
    """The store for one who loads nothing: what another key signed has an age and a size, too."""
    from curidask.store.artifacts import ArtifactStore

    return ArtifactStore(store.objects, writable=store.writable, near=store.near)


# --- check -----------------------------------------------------------------------------------------------------------
CHECK_EPILOG = """\b
Examples:
  curidask cache check                          the tiers of the project's cache
  curidask cache check s3://bucket/team         before it goes into the configuration
  curidask cache check s3://bucket/team --read-only    what somebody needs who may only read

It writes a few small objects and one of 8 MB, and removes them again.
"""


@click.command(
    "check", short_help="Try out whether a place can serve as a cache.", context_settings=SETTINGS, epilog=CHECK_EPILOG
)
@click.argument("place", metavar="[PATH|URL]", required=False)
@click.option("--read-only", is_flag=True, help="Try only what somebody needs who reads.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_command(place: str | None, read_only: bool, as_json: bool) -> None:
    """Try out whether a place can serve as a cache: list, write, read, replace, create exclusively, delete; how fast.

    Each line says what to do where something is not right. Exits with 1 when the place cannot serve.
    """
    tiers = view.open_cache(view.load_config(), place)
    rows = [row for tier in tiers for row in _check(tier, read_only=read_only, quiet=as_json)]
    if as_json:
        view.print_json(rows)
    if any(row["needed"] and not row["ok"] for row in rows):
        sys.exit(1)


def _check(tier: NumberedTier, *, read_only: bool, quiet: bool) -> list[dict[str, Any]]:
    from curidask.store.maintenance.verify import check_place

    only_reads = read_only or not tier.store.writable
    if not quiet:
        click.secho(f"{tier.label}{', what reading needs' if only_reads else ''}", bold=True)
    rows = []
    for step in check_place(tier.store.objects, read_only=only_reads):
        rows.append({"tier": tier.number, "place": tier.store.url, **asdict(step)})
        if not quiet:
            _say_step(step)
    if not quiet:
        click.echo(_verdict(Counter(_kind(row["ok"], row["needed"]) for row in rows), only_reads=only_reads))
    return rows


def _kind(ok: bool, needed: bool) -> str:
    return "ok" if ok else "failed" if needed else "less"


def _say_step(step: Step) -> None:
    word, colour = {"ok": ("ok  ", "green"), "failed": ("FAIL", "red"), "less": ("no  ", "yellow")}[
        _kind(step.ok, step.needed)
    ]
    says = printable(step.says)
    click.echo(f"  {click.style(word, fg=colour)}  {step.name:<22}{says}".rstrip())
    if not step.ok and step.fix:
        click.echo(f"        fix: {printable(step.fix)}")


def _verdict(kinds: Counter[str], *, only_reads: bool) -> str:
    if kinds["failed"]:
        return "  it cannot serve as a cache"
    return f"  it can serve as a cache{' to read from' if only_reads else ''}"
