"""The map of records and stages as SVG, drawn from a layout."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from markupsafe import Markup

from curidask.reporting.graph_layout import MOST_LETTERS, Box, LayoutUnavailableError, MapLayout, arrange
from curidask.reporting.model import LOOKS, RecordView, RunView, StageView, TaskView
from curidask.reporting.templating import duration, page

HOW_TO_GET_IT = (
    "The map is drawn when a layout library is installed: pip install 'curidask[reports]', then make the report again."
)


def draw(run: RunView, shown_tasks: Collection[int] = (), *, linked: bool = True) -> tuple[Markup, bool]:
    """Draw the map.

    Parameters
    ----------
    run : RunView
    shown_tasks : collection of int
        The tasks whose details are on the same page.
    linked : bool
        Whether the boxes lead to details on the page.

    Returns
    -------
    (Markup, bool)
        The drawing, and whether it is by stage.

    Raises
    ------
    LayoutUnavailableError
    """
    layout = arrange(run)
    nodes = _stage_nodes(run, layout) if layout.by_stage else _task_nodes(run, layout, shown_tasks)
    for node in nodes:
        node["link"] = node["link"] if linked else ""
    counts = ", ".join(f"{run.looks[look.key]} {look.word}" for look in LOOKS.values() if run.looks[look.key])
    return Markup(
        page(
            "map.html",
            width=math.ceil(layout.width),
            height=math.ceil(layout.height),
            label=f"Map of {len(run.records)} records and {len(run.stages)} stages: {counts}",
            label_width=layout.label_width,
            most_letters=MOST_LETTERS,
            marker=f"arrow-{run.data.get('number', 0)}" if linked else f"arrow-{id(run)}",
            groups=[_group(run.records[box.ref], box) for box in layout.groups],
            nodes=nodes,
            edges=_edges(run, layout),
        )
    ), layout.by_stage


def _group(record: RecordView, box: Box) -> dict[str, Any]:
    kind = "aggregate" if record.is_aggregate else "record"
    return _rounded(box) | {
        "label": f"{record.label}, {record.hash[:8]}",
        "title": record.title,
        "kind": f"{kind} {record.index}" if record.index >= 0 else "hidden record",
    }


def _task_nodes(run: RunView, layout: MapLayout, shown: Collection[int]) -> list[dict[str, Any]]:
    return [_task_node(run, run.tasks[box.ref], box, shown) for box in layout.nodes.values()]


def _task_node(run: RunView, task: TaskView, box: Box, shown: Collection[int]) -> dict[str, Any]:
    took = duration(task.seconds) if task.seconds is not None else task.look.word
    names = ", ".join(artifact.name for artifact in task.artifacts)
    about = [f"{task.stage} of {run.record_of_task[task.id].label}", f"{task.look.word}: {task.reason}"]
    about += [f"{artifact.name}: {artifact.preview}" for artifact in task.artifacts if artifact.preview]
    if task.seconds is not None:
        about.append(took)
    if task.error:
        about.append(f"{task.error.get('type')}: {task.error.get('message')}")
    return _rounded(box) | {
        "look": task.look,
        "mark": task.look.mark,
        "name": task.stage,
        "small": f"{took} → {names}" if task.seconds is not None and names else f"→ {names}" if names else took,
        "label": "\n".join(about),
        "link": f"#task-{task.id}" if task.id in shown else "",
        "segments": [],
    }


def _stage_nodes(run: RunView, layout: MapLayout) -> list[dict[str, Any]]:
    return [_stage_node(run.stages[box.ref], box) for box in layout.nodes.values()]


def _stage_node(stage: StageView, box: Box) -> dict[str, Any]:
    looks = stage.looks
    words = [f"{looks[look.key]:,} {look.word}" for look in LOOKS.values() if looks[look.key]]
    worst = next(
        look for key in ("failed", "notrun", "ran", "reused", "unneeded") if looks[key] for look in [LOOKS[key]]
    )
    return _rounded(box) | {
        "look": worst,
        "mark": "",
        "name": stage.name,
        "small": " · ".join(words),
        "label": "\n".join([f"{stage.name}: {len(stage.tasks):,} records", *words]),
        "link": f"#stage-{stage.number}",
        "segments": _segments(stage, box.width - 24),
    }


def _segments(stage: StageView, width: float) -> list[dict[str, Any]]:
    """A bar of how its tasks ended; what there is few of stays visible."""
    counts = [(look.key, stage.looks[look.key]) for look in LOOKS.values() if stage.looks[look.key]]
    least = 3.0
    free = width - least * len(counts)
    segments, x = [], 12.0
    for key, count in counts:
        long = least + free * count / len(stage.tasks)
        segments.append({"key": key, "x": round(x, 1), "width": round(long - 1, 1)})
        x += long
    return segments


def _edges(run: RunView, layout: MapLayout) -> list[dict[str, Any]]:
    made = []
    entries = _entries(run, layout)
    for start, end, count in layout.edges:
        a, b = layout.nodes[start], layout.nodes[end]
        if entries and run.record_of_task[start] is not run.record_of_task[end]:
            b = entries.get(end, b)
        bend = max(18.0, (b.x - a.x - a.width) / 2)
        title = ""
        if layout.by_stage:
            title = f"{run.stages[start].name} → {run.stages[end].name}: {count:,} dependencies"
        made.append(
            {
                "start": (round(a.x + a.width, 1), round(a.y + a.height / 2, 1)),
                "end": (round(b.x, 1), round(b.y + b.height / 2, 1)),
                "bend": round(bend, 1),
                "weight": round(1.2 + math.log10(count), 1) if count > 1 else 0,
                "title": title,
            }
        )
    return made


def _entries(run: RunView, layout: MapLayout) -> dict[int, Box]:
    """Where arrows from other records end: at the record's border, if nothing stands between that and the stage."""
    entries = {}
    for group in layout.groups:
        for task in run.records[group.ref].tasks:
            node = layout.nodes[task.id]
            if node.x - group.x <= layout.label_width:
                entries[task.id] = Box(task.id, group.x, node.y, node.width, node.height)
    return entries


def _rounded(box: Box) -> dict[str, float]:
    return {name: round(getattr(box, name), 1) for name in ("x", "y", "width", "height")}


__all__ = ["HOW_TO_GET_IT", "LayoutUnavailableError", "draw"]
