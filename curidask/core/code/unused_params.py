"""What ``params=`` could say of the stages of an experiment: which fields their code can be seen to read."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from curidask.core.code.read_params import Reads, reads_of
from curidask.core.graph import Graph
from curidask.core.spec import StageSpec


def unused_lines(graph: Graph, stage: str = "") -> Iterator[str]:
    """Lines about each stage, or about one."""
    specs: dict[str, StageSpec] = {}
    sets: dict[str, dict[int, Any]] = defaultdict(dict)
    for task in graph:
        if stage in ("", task.spec.name):
            specs.setdefault(task.spec.name, task.spec)
            if task.record.params is not None:
                sets[task.spec.name][id(task.record.params)] = task.record.params
    for name, spec in specs.items():
        if name not in sets:
            yield f"{name}: its records have no parameter set of their own"
        else:
            yield from (f"{name}: {line}" for line in _lines(spec, reads_of(spec.function, list(sets[name].values()))))


def _lines(spec: StageSpec, reads: Reads) -> Iterator[str]:
    if reads.bookkeeping:
        names = ", ".join(f"`{name}`" for name in reads.bookkeeping)
        yield f"reads {names}, which a stage with params= cannot; give it what it needs as an argument first"
    if reads.whole:
        yield from (f"reads all of its parameters: {why}" for why in reads.whole)
        return
    unused = reads.unused if spec.params is None else [name for name in spec.params if not _is_read(name, reads.fields)]
    seen = ", ".join(reads.fields) or "none"
    yield f"reads {seen}; not seen to read: {', '.join(unused) or 'none'}"
    missing = [name for name in reads.fields if spec.params is not None and not _is_read(name, spec.params)]
    if missing:
        yield f"its params= does not name what it reads: {', '.join(missing)}"
    if (unused or missing) and not reads.bookkeeping:  # with it the stage could not run
        yield f"params={json.dumps(list(reads.fields))}"


def _is_read(name: str, fields: Sequence[str]) -> bool:
    """Whether a field, a part of it, or what it is a part of, is among some."""
    return any(name == one or name.startswith(f"{one}.") or one.startswith(f"{name}.") for one in fields)
