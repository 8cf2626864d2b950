"""What differs between two runs: parameters, code, packages, arguments and inputs, and what came out of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curidask.session.explain.code_store import KeptPart
from curidask.session.explain.differences import Cause, code_causes, named_causes, shown
from curidask.store.manifest import Manifest, printable

MADE = ("done", "found", "reused", "not needed")
"""How tasks stand whose outputs are there."""
SHOWN_LENGTH = 60
KEY_DIGITS = 12
SAME = "the same"

Place = tuple[str, str, str, int]
"""Stage, name of the set and output, and a number where these are the same."""


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a run.

    Attributes
    ----------
    stem : str
        Its name in the cache; empty when it is not stored.
    key : str
        What stands for all that it was made from.
    digest : str
        Of its contents; empty where that is not known.
    """

    stem: str
    key: str
    digest: str


@dataclass
class Side:
    """A run as it is compared.

    Attributes
    ----------
    record : mapping
        Its record, empty where there is none that can be read.
    problem : str
        Why not.
    manifests : mapping of str to Manifest
        Of its outputs, as far as they were read.
    codes : mapping of str to mapping of str to KeptPart
        Kept code, by what stands for it in keys.
    """

    reference: str
    record: Mapping[str, Any]
    problem: str = ""
    outputs: dict[Place, Output] = field(default_factory=dict)
    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    codes: Mapping[str, Mapping[str, KeptPart]] = field(default_factory=dict)

    @property
    def packages(self) -> dict[str, str]:
        """Their versions."""
        found = dict(self.record.get("packages", {}))
        for manifest in () if found else self.manifests.values():
            found |= manifest.packages
        return found

    @property
    def sets(self) -> dict[str, dict[str, Any]]:
        """The values of its parameter sets, parts of parts by their path, by the name of the set."""
        if self.record:
            rows = [(row["name"], row["values"]) for row in self.record.get("param_sets", {}).values()]
        else:  # of a set that a stage uses in part only this part is known
            rows = [(manifest.set_name, manifest.params) for manifest in self.manifests.values() if manifest.params]
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for name, values in rows:
            found[name] |= {path: value for path, value in _flat(values) if path != "name"}
        return dict(found)

    def manifest(self, place: Place) -> Manifest | None:
        """Of an output."""
        return self.manifests.get(self.outputs[place].stem)

    def digest_of(self, key: str) -> str:
        """Of what has that key; empty where it is not known."""
        return self._digests.get(key[:KEY_DIGITS], "")

    def know(self) -> None:
        """Take in what the manifests tell of the outputs."""
        for place, output in self.outputs.items():
            manifest = self.manifests.get(output.stem)
            if not output.digest and manifest is not None:
                self.outputs[place] = Output(output.stem, output.key, manifest.digest)
        self._digests = {o.stem[-KEY_DIGITS:]: o.digest for o in self.outputs.values() if o.stem}

    _digests: dict[str, str] = field(default_factory=dict, repr=False)


def outputs_of_record(record: Mapping[str, Any]) -> dict[Place, Output]:
    """The outputs of a run that were made, by its record."""
    rows = [row for row in record.get("tasks", ()) if row.get("status") in MADE]
    found: dict[Place, Output] = {}
    for row in rows:
        stems = row.get("artifacts", ())
        for index, name in enumerate(row.get("outputs", ())):
            stem = (stems[index] if index < len(stems) else None) or ""
            digest = row.get("described", {}).get(name, {}).get("digest", "")
            _put(found, (row["stage"], row["set"], name), Output(stem, row.get("key", ""), digest))
    return found


def outputs_of_manifests(manifests: Iterable[Manifest]) -> dict[Place, Output]:
    """The outputs that artifacts are."""
    found: dict[Place, Output] = {}
    for made in sorted(manifests, key=lambda manifest: manifest.created):
        _put(found, (made.stage, made.set_name, made.output), Output(made.stem, made.key, made.digest))
    return found


def _put(found: dict[Place, Output], place: tuple[str, str, str], output: Output) -> None:
    number = 0
    while (*place, number) in found:
        number += 1
    found[*place, number] = output


def to_read(old: Side, new: Side) -> list[set[str]]:
    """Of each run, the artifacts whose manifests tell what the records do not: those that only one of them has."""
    stems = [{output.stem for output in side.outputs.values()} - {""} for side in (old, new)]
    unknown = [{o.stem for o in side.outputs.values() if not o.digest} - {""} for side in (old, new)]
    return [(stems[0] - stems[1]) | unknown[0], (stems[1] - stems[0]) | unknown[1]]


# --- comparing -------------------------------------------------------------------------------------------------------
def differences(old: Side, new: Side) -> Iterator[str]:
    """Lines about two runs."""
    for side in (old, new):
        side.know()
    yield f"{_about(old)}  ->  {_about(new)}"
    for side in (old, new):
        if side.problem:
            yield f"! {side.reference}: {side.problem} What the cache has of the run is compared."
    for title, lines in (
        ("parameters", _sets(old, new)),
        ("code", _code(old, new)),
        ("packages", _packages(old.packages, new.packages)),
        ("arguments and inputs", _given(old, new)),
        ("outputs", _outputs(old, new)),
    ):
        told = [f"  {line}" for line in lines]
        yield f"{title}:{'' if told else ' the same'}"
        yield from told


def _about(side: Side) -> str:
    record = side.record
    told = [str(record[name]) for name in ("status", "started") if record.get(name)]
    told += [f"commit {commit[:10]}"] if (commit := record.get("git", {}).get("commit")) else []
    return printable(side.reference + (f" ({', '.join(told)})" if told else ""))


def _told(causes: Mapping[Cause, Iterable[str]]) -> Iterator[str]:
    for cause, labels in causes.items():
        yield printable(f"{cause.text}: {shown(list(dict.fromkeys(labels)))}")
        yield from (f"    {line}" for line in cause.lines)


def _sets(old: Side, new: Side) -> Iterator[str]:
    before, after = old.sets, new.sets
    causes: dict[Cause, list[str]] = defaultdict(list)
    for name in (name for name in after if name in before):
        for path in dict.fromkeys((*before[name], *after[name])):
            pair = [_value(values, path) for values in (before[name], after[name])]
            if repr(before[name].get(path)) != repr(after[name].get(path)):
                causes[Cause(f"{path}: {pair[0]} -> {pair[1]}")].append(name)
    yield from _told(causes)
    yield from _only(old, new, [name for name in before if name not in after], [n for n in after if n not in before])


def _only(old: Side, new: Side, gone: Sequence[str], come: Sequence[str], what: str = "sets") -> Iterator[str]:
    for side, names in ((old, gone), (new, come)):
        if names:
            yield printable(f"{what} of {side.reference} only: {shown(names)}")


def _value(values: Mapping[str, Any], path: str) -> str:
    return repr(values[path])[:SHOWN_LENGTH] if path in values else "(none)"


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _packages(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield printable(f"{name} {old.get(name, '(not loaded)')} -> {new.get(name, '(not loaded)')}")


def paired(old: Side, new: Side) -> dict[Place, Place]:
    """Outputs of the second run with those of the first that they are to be compared with.

    An artifact that several sets share may stand with another of them in each run.
    """
    by_stem = {output.stem: place for place, output in old.outputs.items() if output.stem}
    found = {place: by_stem.get(output.stem, place) for place, output in new.outputs.items()}
    return {place: other for place, other in found.items() if other in old.outputs}


def _both(old: Side, new: Side) -> Iterator[tuple[Place, Manifest, Manifest]]:
    """The outputs of both that have other keys, as far as their manifests are known."""
    for place, other in paired(old, new).items():
        before, after = old.manifest(other), new.manifest(place)
        if before is not None and after is not None and before.key != after.key:
            yield place, before, after


def _code(old: Side, new: Side) -> Iterator[str]:
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (stage, *_), before, after in _both(old, new):
        pairs[str(before.components.get("code", "")), str(after.components.get("code", ""))].append(stage)
    causes: dict[Cause, list[str]] = defaultdict(list)
    for (then, now), stages in pairs.items():
        for cause in code_causes(now, then, new.codes.get(now), old.codes.get(then)):
            causes[cause] += stages
    yield from _told(causes)


def _given(old: Side, new: Side) -> Iterator[str]:
    causes: dict[Cause, list[str]] = defaultdict(list)
    for (stage, name, *_), before, after in _both(old, new):
        then, now = before.components, after.components
        found = [
            *named_causes("argument", _mapping(now.get("kwargs")), _mapping(then.get("kwargs"))),
            *_records(_members(then), _members(now)),
            *_inputs(old, new, before, after),
        ]
        for cause in found:
            causes[Cause(f"{stage}: {cause.text}")].append(name)
    yield from _told(causes)
    for side in (old, new):
        other = new if side is old else old
        lost = [o.stem for place, o in side.outputs.items() if o.stem and o.stem not in side.manifests]
        known = {o.stem for o in other.outputs.values()}
        if n_lost := sum(stem not in known for stem in lost):
            what = f"! {n_lost} artifacts of {side.reference} are not in the cache any more, or damaged"
            yield printable(f"{what}; what they were made from is not compared")


def _records(then: Sequence[str], now: Sequence[str]) -> Iterator[Cause]:
    for word, names in (("more records", Counter(now) - Counter(then)), ("fewer", Counter(then) - Counter(now))):
        if names:
            yield Cause(f"{names.total()} {word} ({shown(list(names))})")


def _members(components: Mapping[str, Any]) -> list[str]:
    rows = components.get("records")
    return [str(row[1]) for row in rows if isinstance(row, list) and len(row) == 3] if isinstance(rows, list) else []


def _inputs(old: Side, new: Side, before: Manifest, after: Manifest) -> Iterator[Cause]:
    then, now = _input_digests(old, before), _input_digests(new, after)
    for name in dict.fromkeys((*then, *now)):
        pairs = list(zip(then.get(name, ()), now.get(name, ()), strict=False))
        if len(then.get(name, ())) != len(now.get(name, ())):
            continue  # which records these are is told
        if any(a[1] and b[1] and a[1] != b[1] for a, b in pairs):
            yield Cause(f"input {name} has other contents")
        elif any(a[0] != b[0] and not (a[1] and b[1]) for a, b in pairs):
            yield Cause(f"input {name} was made in another way")


def _input_digests(side: Side, manifest: Manifest) -> dict[str, list[tuple[str, str]]]:
    """Key and digest of the inputs of an artifact, by name."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in manifest.inputs:
        key = row.get("key", "")
        found[row.get("name", "?")].append((key, row.get("digest") or side.digest_of(key)))
    return found


def _outputs(old: Side, new: Side) -> Iterator[str]:
    causes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    pairs = paired(old, new)
    matched = set(pairs.values())
    for place, output in new.outputs.items():
        stage, name, artifact, _ = place
        how = _compared(old.outputs[pairs[place]], output) if place in pairs else f"of {new.reference} only"
        causes[f"{stage}.{artifact}"][how].append(name)
    for place in (place for place in old.outputs if place not in matched):
        stage, name, artifact, _ = place
        causes[f"{stage}.{artifact}"][f"of {old.reference} only"].append(name)
    for title, found in causes.items():
        for how, names in found.items():
            which = "" if how == SAME else f": {shown(names)}"
            yield printable(f"{title}: {len(names)} {how}{which}")


def _compared(old: Output, new: Output) -> str:
    is_same = old.stem == new.stem and (old.stem or old.key == new.key)
    if old.digest and new.digest and old.digest != new.digest:
        return "with the same key and other contents" if is_same else "with other contents"
    if is_same:
        return SAME
    if not (old.digest and new.digest):
        return "made in another way, of contents that are not known"
    return "the same under another key"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
