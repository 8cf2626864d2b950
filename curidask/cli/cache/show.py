"""What ``curidask cache show`` says of one artifact."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from curidask.cli.cache.common import NumberedTier
from curidask.core.artifact_names import stem_of
from curidask.core.units import format_age, format_size
from curidask.errors import ArtifactMissingError, ArtifactNewerError, ConfigurationError
from curidask.store.maintenance.inventory import seconds_of
from curidask.store.maintenance.usage import Uses
from curidask.store.manifest import Manifest
from curidask.store.signing import signature_state
from curidask.store.untrusted import printable

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
