"""Why a task runs: what differs between it and the nearest artifact that the cache has of its stage."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curidask.code_store import KeptPart
from curidask.graph import ArtifactRef, Graph, Task
from curidask.planner import Action, Plan, Why
from curidask.preview import describe_params
from curidask.source_reach import Part
from curidask.stage_code import StageCode
from curidask.store.manifests import Manifest
from curidask.store.untrusted import printable

SHOWN_LABELS = 4
SHOWN_DIFF_LINES = 40


@dataclass(frozen=True, slots=True)
class Cause:
    """One difference.

    Attributes
    ----------
    text : str
        For people; the same for all tasks that have it.
    lines : tuple of str
        A unified diff, where there is one.
    """

    text: str
    lines: tuple[str, ...] = ()


@dataclass(slots=True)
class StageExplained:
    """What happens to the tasks of a stage.

    Attributes
    ----------
    name : str
    counts : dict of Action to int
    causes : dict of Cause to list of str
        With the records that have them.
    unfollowed : dict of str to None
        What its code may lead to that cannot be followed, in order.
    """

    name: str
    counts: dict[Action, int] = field(default_factory=dict)
    causes: dict[Cause, list[str]] = field(default_factory=dict)
    unfollowed: dict[str, None] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """It as text."""
        words = {Action.RUN: "to run", Action.REUSE: "reused", Action.PRUNE: "not needed"}
        yield f"{self.name}: " + ", ".join(f"{n} {words[action]}" for action, n in self.counts.items())
        for cause, labels in self.causes.items():
            shown = ", ".join(labels[:SHOWN_LABELS])
            more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
            yield f"  {cause.text}: {shown}{more}"
            yield from (f"      {line}" for line in cause.lines)
        yield from (f"  not followed: {printable(what)}" for what in self.unfollowed)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the cache has.

    Attributes
    ----------
    nearest : mapping of int to Manifest
        Of each task that runs, the artifact to compare it with; tasks without one were never computed.
    codes : mapping of str to mapping of str to KeptPart
        Kept code, by what stands for it in keys.
    now : mapping of str to StageCode
        Today's.
    """

    nearest: Mapping[int, Manifest]
    codes: Mapping[str, Mapping[str, KeptPart]]
    now: Mapping[str, StageCode]


def explain(graph: Graph, plan: Plan, evidence: Evidence, stage: str = "") -> list[StageExplained]:
    """What happens to each stage, and why.

    Parameters
    ----------
    graph : Graph
    plan : Plan
    evidence : Evidence
    stage : str, optional
        Only this one.
    """
    found: dict[str, StageExplained] = {}
    for decision in sorted(plan.decisions.values(), key=lambda decision: decision.task):
        task = graph[decision.task]
        if stage and task.spec.name != stage:
            continue
        told = found.setdefault(task.spec.name, StageExplained(task.spec.name))
        code = evidence.now.get(str(task.components.get("code")))
        told.unfollowed |= dict.fromkeys(code.unfollowed if code is not None else ())
        told.counts[decision.action] = told.counts.get(decision.action, 0) + 1
        if decision.action is not Action.RUN:
            continue
        if decision.reason.why is Why.NOT_CACHED:
            causes = _differences(graph, task, evidence)
        else:
            causes = [Cause(str(decision.reason))]
        for cause in causes:
            told.causes.setdefault(cause, []).append(task.record.name if task.record.index >= 0 else task.record.label)
    return list(found.values())


def nearest(task: Task, candidates: Iterable[Manifest]) -> Manifest | None:
    """The artifact that has most in common with what a task would make; of several the last one."""
    return max(candidates, key=lambda manifest: (_likeness(task, manifest), manifest.created), default=None)


def _likeness(task: Task, manifest: Manifest) -> float:
    now, then = task.components, manifest.components
    same = sum(now.get(name) == then.get(name) for name in ("code", "kwargs", "records", "files"))
    inputs = _mapping(then.get("inputs"))
    same += sum(inputs.get(name) == key for name, key in now["inputs"].items())
    values = describe_params(task.record.params, task.record.used_names)
    alike = sum(manifest.params.get(name) == value for name, value in values.items())
    likeness: float = same + (10 if now["params"] == then.get("params") else alike / (len(values) or 1))
    return likeness


# --- differences -----------------------------------------------------------------------------------------------------
def _differences(graph: Graph, task: Task, evidence: Evidence) -> list[Cause]:
    old = evidence.nearest.get(task.id)
    if old is None:
        return [Cause("never computed")]
    now, then = task.components, old.components
    causes = [
        *_params(task, old),
        *_code(str(now.get("code", "")), str(then.get("code", "")), evidence),
        *_named("argument", now["kwargs"], _mapping(then.get("kwargs"))),
        *_inputs(graph, task, _mapping(then.get("inputs"))),
        *_records(graph, task, then.get("records")),
    ]
    if now.get("outputs") != then.get("outputs"):
        causes.append(Cause("its outputs are listed otherwise"))
    if now.get("files") != then.get("files"):
        causes.append(Cause("a file at `path_override` is another"))
    return causes or [Cause("its artifact is gone")]


def _params(task: Task, old: Manifest) -> Iterator[Cause]:
    if task.components["params"] == old.components.get("params") or task.record.is_aggregate:
        return
    now = describe_params(task.record.params, task.record.used_names)
    names = [name for name in (*now, *(n for n in old.params if n not in now)) if name != "name"]
    changed = [name for name in names if now.get(name) != old.params.get(name)]
    for name in changed:
        yield Cause(f"parameter {name}: {_shown(old.params, name)} -> {_shown(now, name)}")
    if not changed:
        yield Cause("parameters differ in what is not shown")


def _shown(values: Mapping[str, Any], name: str) -> str:
    return printable(repr(values[name]))[:60] if name in values else "(none)"


def _code(now: str, then: str, evidence: Evidence) -> Iterator[Cause]:
    if now == then:
        return
    if not now or not then:
        yield Cause("code counts now, and did not" if now else "code counted, and does not now")
        return
    if now.startswith("version ") or then.startswith("version "):
        yield Cause(f"{_version(then)} -> {_version(now)}")
        return
    kept, code = evidence.codes.get(then), evidence.now.get(now)
    if kept is None or code is None:
        yield Cause("its code was edited")
        return
    parts = {part.name: part for part in code.parts}
    for name in (*parts, *(name for name in kept if name not in parts)):
        old, new = kept.get(name), parts.get(name)
        if (old and old.digest) != (new and new.digest):
            yield _edit(name, old, new)


def _version(component: str) -> str:
    return printable(component) if component.startswith("version ") else "its code"


def _edit(name: str, old: KeptPart | None, new: Part | None) -> Cause:
    kind = new.kind if new is not None else old.kind if old is not None else ""
    word = "is used now" if old is None else "is not used now" if new is None else "changed"
    before, after = ("" if part is None else part.source for part in (old, new))
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "then", "now", lineterm="", n=1)
    shown = [printable(line) for line in list(lines)[2:]]
    if len(shown) > SHOWN_DIFF_LINES:
        shown = [*shown[:SHOWN_DIFF_LINES], f"({len(shown) - SHOWN_DIFF_LINES} more lines)"]
    return Cause(f"{printable(kind)} {printable(name)} {word}", tuple(shown) if old and new else ())


def _named(what: str, now: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[Cause]:
    for name in (*now, *(name for name in then if name not in now)):
        if now.get(name) != then.get(name):
            yield Cause(f"{what} {printable(name)} is another")


def _inputs(graph: Graph, task: Task, then: Mapping[str, Any]) -> Iterator[Cause]:
    for name, key in task.components["inputs"].items():
        if then.get(name) != key:
            ref = task.inputs.get(name)
            of = f", which {graph[ref.task].spec.name} makes," if isinstance(ref, ArtifactRef) else ""
            yield Cause(f"input {name}{of} is another")


def _records(graph: Graph, task: Task, then: Any) -> Iterator[Cause]:
    now = task.components.get("records")
    if now == then or now is None:
        return
    rows = [row for row in then if isinstance(row, list) and len(row) == 3] if isinstance(then, list) else []
    old, new = ({(str(r[0]), str(r[1])): r[2] for r in found} for found in (rows, now))
    for word, sets in (("more", new.keys() - old.keys()), ("fewer", old.keys() - new.keys())):
        if sets:
            names = sorted(name for _, name in sets)[:SHOWN_LABELS]
            yield Cause(f"{len(sets)} {word} records ({printable(', '.join(names))})")
    changed = sorted({name for key in new.keys() & old.keys() for name in _other(new[key], _mapping(old[key]))})
    refs = {name: ref for gathered in task.gathered for name, ref in gathered.artifacts.items()}
    stages = {name: graph[ref.task].spec.name for name, ref in refs.items() if isinstance(ref, ArtifactRef)}
    for name in changed:
        of = f", which {stages[name]} makes," if name in stages else ""
        yield Cause(f"input {printable(name)}{of} is another")
    if not changed and old.keys() == new.keys():
        yield Cause("its records come in another order")


def _other(now: Mapping[str, Any], then: Mapping[str, Any]) -> Sequence[str]:
    return [name for name in (*now, *then) if now.get(name) != then.get(name)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
