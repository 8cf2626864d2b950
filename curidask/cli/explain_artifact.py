"""What ``curidask explain`` says of one artifact: what made it, and what that was made from in turn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from curidask.cli.cache.common import open_cache
from curidask.cli.cache.show import meant_by, near_stems, one_of
from curidask.core.units import format_age, format_size
from curidask.errors import ConfigurationError, ProjectError
from curidask.runs.lineage import KEY_DIGITS, Lineage, tree
from curidask.runs.schema import read_record
from curidask.session.explain.code_store import KeptPart, read_code
from curidask.store.maintenance.inventory import seconds_of
from curidask.store.untrusted import is_name, printable

if TYPE_CHECKING:
    from curidask.session.config import Config
    from curidask.store.manifest import Manifest

SHORTEST_PART = 4
"""A shorter text, such as a slip in an experiment's name, is a part of hashes by chance."""


def explain_artifact(config: Config, name: str, cache: str | None, near_experiments: Sequence[str]) -> Iterator[str]:
    """Lines about an artifact of the cache.

    Parameters
    ----------
    config : Config
    name : str
        Its name, a part of it, or the path of one of its files.
    cache : str or None
        Another than the configured one.
    near_experiments : sequence of str
        What else may have been meant.

    Raises
    ------
    ConfigurationError
        When there is none, or several.
    """
    tiers = open_cache(config, cache)
    lineage = Lineage([tier.store for tier in tiers], lambda run: _tasks_of(config, run))
    where = ", ".join(tier.store.url for tier in tiers)
    stem = lineage.holder_of(_stem(lineage, name, where, near_experiments))
    manifest, problem = lineage.manifest(stem)
    yield printable(stem)
    if problem:
        yield f"  problem    {printable(problem)}"
    if manifest is None:
        return
    for label, value in _about(manifest, _code_of(lineage, manifest)):
        yield f"  {label:<10} {printable(value)}"
    if manifest.inputs:
        yield "  made from"
        yield from (f"    {line}" for line in tree(manifest, lineage.sources(manifest)))


def _stem(lineage: Lineage, name: str, where: str, near_experiments: Sequence[str]) -> str:
    """The artifact that is meant, whole ones before those without a manifest."""
    stems = lineage.stems if meant_by(lineage.stems, name) else lineage.broken
    if len(name) >= SHORTEST_PART and meant_by(stems, name):
        return one_of(stems, name, where)
    near = [*near_experiments, *near_stems(lineage.stems, name)]
    raise ConfigurationError(
        f"There is neither an experiment nor an artifact {name!r}.",
        where=where,
        fix=f"did you mean {' or '.join(near)}?"
        if near
        else "`experiment ls` and `curidask cache ls` list what there is",
    )


def _tasks_of(config: Config, run: str) -> Sequence[Mapping[str, Any]]:
    with suppress(ProjectError):
        if is_name(run):
            tasks: Sequence[Mapping[str, Any]] = read_record(config.path(config.runs) / run)["tasks"]
            return tasks
    return ()


def _code_of(lineage: Lineage, manifest: Manifest) -> dict[str, KeptPart]:
    key = str(manifest.components.get("code", ""))
    return next((code for store in lineage.stores if (code := read_code(store, [key]).get(key))), {})


def _about(manifest: Manifest, code: Mapping[str, KeptPart]) -> Iterator[tuple[str, str]]:
    made = manifest.created
    with suppress(ValueError, OverflowError):
        made = f"{made} ({format_age(time.time() - seconds_of(made))} ago)"
    yield "is", f"output {manifest.output} of stage {manifest.stage}, experiment {manifest.prefix}"
    yield "set", manifest.set_name
    yield "made", f"{made}, in {manifest.seconds:.3g} s"
    yield "by", f"{manifest.user} on {manifest.host}, run {manifest.run}"
    yield "stored", f"{format_size(manifest.size_bytes)} by {manifest.cacher}: {manifest.preview}"
    for name, value in manifest.params.items():
        yield "param", f"{name} = {value!r}"
    arguments = manifest.components.get("kwargs")
    for name, key in arguments.items() if isinstance(arguments, dict) else ():
        yield "argument", f"{name}, of digest {str(key)[:KEY_DIGITS]}"
    yield "code", _shown_code(str(manifest.components.get("code", "")))
    for name, part in code.items():
        yield "", f"{part.kind} {name}"
    yield "packages", ", ".join(f"{name} {version}" for name, version in sorted(manifest.packages.items()))


def _shown_code(key: str) -> str:
    if not key:
        return "does not count"
    return key if key.startswith("version ") else key[:KEY_DIGITS]
