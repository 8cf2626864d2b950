"""Where the boxes of the map lie: layers and order come from igraph, sizes and distances from here.

The layering is by longest path; the order within the layers that keeps crossings few, and the alignment of what is
connected, is the method of Sugiyama et al. (1981) with the coordinates of Brandes and Köpf (2001), as igraph does it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curidask.reporting.model import RunView, TaskView

Edge = tuple[int, int]

LARGEST_BY_RECORD = 60
"""Records; a map of more would not be readable, so it is drawn by stage."""
MOST_TASKS = 600

NODE_WIDTH, NODE_HEIGHT = 150, 42
STAGE_WIDTH, STAGE_HEIGHT = 186, 70
GAP_X, GAP_Y = 34, 10
LETTER_WIDTH = 7
MOST_LETTERS = 28
"""Of a record's name, before the rest is cut off."""
PADDING = 8
BOX_GAP_X, BOX_GAP_Y = 64, 8
MARGIN = 12


class LayoutUnavailableError(ImportError):
    """The library that arranges the map is not installed."""


@dataclass(slots=True)
class Box:
    """A rectangle on the map, in pixels; `ref` is what it stands for."""

    ref: int
    x: float
    y: float
    width: float
    height: float


@dataclass(slots=True)
class MapLayout:
    """A map.

    Attributes
    ----------
    label_width : float
        The place for a record's name, within its box.
    nodes : dict of int to Box
        By task, or by the number of the stage.
    groups : list of Box
        Around the tasks of a record; none on a map by stage.
    edges : list of tuple
        From node, to node, how many dependencies it stands for.
    """

    by_stage: bool
    width: float
    height: float
    label_width: float = 0
    nodes: dict[int, Box] = field(default_factory=dict)
    groups: list[Box] = field(default_factory=list)
    edges: list[tuple[int, int, int]] = field(default_factory=list)


def arrange(run: RunView) -> MapLayout:
    """Lay out the map of a run: by record, or by stage when there are too many records.

    Raises
    ------
    LayoutUnavailableError
        When igraph is not installed.
    """
    if len(run.records) > LARGEST_BY_RECORD or len(run.tasks) > MOST_TASKS:
        return _by_stage(run)
    return _by_record(run)


def _by_stage(run: RunView) -> MapLayout:
    number = {stage.name: stage.number for stage in run.stages}
    counted: dict[Edge, int] = {}
    for task in run.tasks.values():
        for before in task.after:
            if before in run.tasks:
                edge = number[run.tasks[before].stage], number[task.stage]
                counted[edge] = counted.get(edge, 0) + 1
    places = _places(len(number), [edge for edge in counted if edge[0] != edge[1]])
    nodes = {
        ref: Box(
            ref,
            MARGIN + column * (STAGE_WIDTH + GAP_X + 20),
            MARGIN + row * (STAGE_HEIGHT + GAP_Y + 14),
            STAGE_WIDTH,
            STAGE_HEIGHT,
        )
        for ref, (column, row) in enumerate(places)
    }
    edges = [(*edge, n) for edge, n in counted.items() if edge[0] != edge[1]]
    return MapLayout(True, *_extent(nodes.values()), nodes=nodes, edges=edges)


def _by_record(run: RunView) -> MapLayout:
    owner = {task: record.number for task, record in run.record_of_task.items()}
    shown = [record for record in run.records if record.tasks]
    inner = {record.number: _inside(record.tasks) for record in shown}
    letters = max((len(record.title) for record in shown), default=0)
    label_width = 24 + LETTER_WIDTH * min(max(letters, 11), MOST_LETTERS)
    sizes = {number: _box_size(places.values(), label_width) for number, places in inner.items()}
    pairs = [(before, task.id) for task in run.tasks.values() for before in task.after if before in owner]
    between = {(owner[a], owner[b]) for a, b in pairs if owner[a] != owner[b]}
    place = {record.number: i for i, record in enumerate(shown)}
    outer = _places(len(shown), [(place[a], place[b]) for a, b in sorted(between)])
    corners = _pack([sizes[record.number] for record in shown], outer, [(place[a], place[b]) for a, b in between])
    made = MapLayout(False, 0, 0, label_width, edges=[(a, b, 1) for a, b in pairs])
    for record, (x, y) in zip(shown, corners, strict=True):
        width, height = sizes[record.number]
        made.groups.append(Box(record.number, x, y, width, height))
        for task, (column, row) in inner[record.number].items():
            left = x + label_width + column * (NODE_WIDTH + GAP_X)
            top = y + PADDING + row * (NODE_HEIGHT + GAP_Y)
            made.nodes[task] = Box(task, left, top, NODE_WIDTH, NODE_HEIGHT)
    made.width, made.height = _extent(made.groups)
    return made


def _inside(tasks: Sequence[TaskView]) -> dict[int, tuple[int, float]]:
    """Column and row of each task within its record."""
    number = {task.id: i for i, task in enumerate(tasks)}
    edges = [(number[before], number[task.id]) for task in tasks for before in task.after if before in number]
    return dict(zip(number, _places(len(tasks), edges), strict=True))


def _box_size(places: Iterable[tuple[int, float]], label_width: float) -> tuple[float, float]:
    columns, rows = zip(*places, strict=True)
    width = label_width + max(columns) * (NODE_WIDTH + GAP_X) + NODE_WIDTH + PADDING
    return width, max(rows) * (NODE_HEIGHT + GAP_Y) + NODE_HEIGHT + 2 * PADDING


def _pack(
    sizes: Sequence[tuple[float, float]], places: Sequence[tuple[int, float]], edges: Sequence[Edge]
) -> list[tuple[float, float]]:
    """Corners of boxes of different sizes, that keep to the columns and the order in them.

    A box stands as near to the middle of what it comes from as the boxes above it let it.
    """
    columns: dict[int, list[int]] = {}
    for box, (column, _) in enumerate(places):
        columns.setdefault(column, []).append(box)
    before: dict[int, list[int]] = {}
    for a, b in edges:
        before.setdefault(b, []).append(a)
    corners = [(0.0, 0.0)] * len(sizes)
    x = float(MARGIN)
    for column in sorted(columns):
        free = float(MARGIN)
        for box in sorted(columns[column], key=lambda box: places[box][1]):
            middles = [corners[b][1] + sizes[b][1] / 2 for b in before.get(box, ()) if places[b][0] < column]
            wanted = sum(middles) / len(middles) - sizes[box][1] / 2 if middles else free
            corners[box] = x, max(free, wanted)
            free = corners[box][1] + sizes[box][1] + BOX_GAP_Y
        x += max(sizes[box][0] for box in columns[column]) + BOX_GAP_X
    return corners


def _extent(boxes: Iterable[Box]) -> tuple[float, float]:
    boxes = list(boxes)
    width = max((box.x + box.width for box in boxes), default=0) + MARGIN
    return width, max((box.y + box.height for box in boxes), default=0) + MARGIN


def _places(n: int, edges: Sequence[Edge]) -> list[tuple[int, float]]:
    """Column and row of each node of a graph, both counted from 0; a row need not be whole."""
    igraph = _igraph()
    if n == 0:
        return []
    graph = igraph.Graph(n=n, edges=list(edges), directed=True)
    layers = _layers(n, edges) if graph.is_dag() else None
    found = graph.layout_sugiyama(layers=layers, hgap=1, vgap=1, maxiter=100).coords[:n]
    first = min(x for x, _ in found)
    return _apart([(round(y), x - first) for x, y in found])


DRAWERS = ("cairo", "cairocffi", "matplotlib", "plotly")


def _igraph() -> Any:
    """The layout library.

    When it is imported it looks for what it could draw with, which takes several times as long as to lay a map out.
    Nothing is drawn with it here, so it finds none of that, unless a user could draw with it afterwards.
    """
    interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules
    hidden = [name for name in DRAWERS if name not in sys.modules and "igraph" not in sys.modules and not interactive]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is how a module is hidden
    try:
        import igraph
    except ImportError as error:
        raise LayoutUnavailableError(str(error)) from None
    finally:
        for name in hidden:
            del sys.modules[name]
    return igraph


def _apart(places: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The same places, with nodes of one column a row apart at least; igraph does not always keep to that."""
    made = list(places)
    free: dict[int, float] = {}
    for node in sorted(range(len(made)), key=lambda node: made[node][1]):
        column, row = made[node]
        made[node] = column, max(row, free.get(column, 0.0))
        free[column] = made[node][1] + 1
    return made


def _layers(n: int, edges: Iterable[Edge]) -> list[int]:
    """The length of the longest path to each node."""
    after: Mapping[int, list[int]] = {node: [] for node in range(n)}
    waiting = [0] * n
    for a, b in edges:
        after[a].append(b)
        waiting[b] += 1
    layers = [0] * n
    free = [node for node in range(n) if not waiting[node]]
    while free:
        node = free.pop()
        for other in after[node]:
            layers[other] = max(layers[other], layers[node] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                free.append(other)
    return layers
