"""What ``overhead.py`` measures, and how it is shown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

N_WORKERS = 2

BARE = {
    "bare dask": (),
    "bare dask, tuned": ("--tuned",),
    "bare dask + JSON": ("--write",),
    "bare dask, tuned + JSON": ("--tuned", "--write"),
}
"""Variants of the comparison: with dask's own scheduler settings or ours, without and with writing each value."""

Series = dict[int, float]
"""Seconds by number of records."""


def n_stages(records: int) -> int:
    """Tasks of the chain experiment: three stages a record, and the aggregate."""
    return 3 * records + 1


@dataclass
class Figures:
    """What was measured, in seconds.

    Attributes
    ----------
    whole : dict of str to Series
        Whole processes, by ``in-process cold`` and so on.
    inside : dict of str to Series
        With the cluster up, by variant.
    starts : dict of str to float
        Starting and closing things.
    phases : dict of int to dict
        Where curidask's time on worker processes went, by number of records.
    """

    whole: dict[str, Series] = field(default_factory=dict)
    inside: dict[str, Series] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    phases: dict[int, dict[str, float]] = field(default_factory=dict)


# --- showing ---------------------------------------------------------------------------------------------------------
def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns, the first to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    texts = [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    return "\n".join(["", title, "-" * len(texts[0]), *texts])


def seconds_and_ms(series: Series) -> list[str]:
    """Seconds with milliseconds a stage, one cell a size."""
    return [f"{value:.2f} s ({1000 * value / n_stages(n):.2f} ms)" for n, value in series.items()]


def slope(series: Series) -> float:
    """Least-squares slope of log(time) over log(records): 1 is linear, 2 is quadratic."""
    points = [(math.log(n), math.log(value)) for n, value in series.items()]
    if len(points) < 2:
        return math.nan
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def tenfold(series: Series) -> dict[int, float]:
    """For each size that was measured tenfold too: how many times longer that took."""
    return {n: series[10 * n] / value for n, value in series.items() if 10 * n in series}


def show(figures: Figures, sizes: Sequence[int]) -> str:
    """All tables."""
    columns = [f"{n} records ({n_stages(n)} stages)" for n in sizes]
    together = {**figures.whole, **{f"{name}, cluster up": s for name, s in figures.inside.items()}}
    return "\n".join(
        [
            table(
                "Whole process, `experiment chain`: seconds (ms a stage)",
                ["", *columns],
                [[name, *seconds_and_ms(series)] for name, series in figures.whole.items()],
            ),
            table(
                f"Cold, {N_WORKERS} worker processes that are up: seconds (ms a stage)",
                ["", *columns],
                [[name, *seconds_and_ms(series)] for name, series in figures.inside.items()],
            ),
            table("curidask minus bare dask: ms a stage", ["minus", *columns], difference_rows(figures, sizes)),
            table("Where curidask's time on workers goes: seconds", ["", *columns], phase_rows(figures, sizes)),
            table(
                "Growth: slope of log(time) over log(records), and time for ten times the records",
                ["", "slope", "tenfold"],
                [[name, f"{slope(series):.2f}", tenfold_text(series)] for name, series in together.items()],
            ),
            table("Starting: seconds", ["", ""], [[name, f"{value:.3f}"] for name, value in figures.starts.items()]),
        ]
    )


def difference_rows(figures: Figures, sizes: Sequence[int]) -> list[list[str]]:
    """Curidask minus each variant of bare dask, by size."""
    return [[name, *(f"{difference(figures, name, n):+.2f}" for n in sizes)] for name in BARE]


def difference(figures: Figures, variant: str, records: int) -> float:
    """Milliseconds a stage that curidask takes more than bare dask does."""
    more = figures.inside["curidask"][records] - figures.inside[variant][records]
    return 1000 * more / n_stages(records)


def phase_rows(figures: Figures, sizes: Sequence[int]) -> list[list[str]]:
    """A row a phase."""
    return [[phase, *(f"{figures.phases[n][phase]:.3f}" for n in sizes)] for phase in figures.phases[sizes[0]]]


def tenfold_text(series: Series) -> str:
    """``160 to 1600: 8.3 times``, or a dash."""
    return ", ".join(f"{n} to {10 * n}: {ratio:.1f} times" for n, ratio in tenfold(series).items()) or "-"


def goals(figures: Figures, sizes: Sequence[int]) -> list[tuple[str, float, float]]:
    """What is wanted: words, measured, at most. Those that need sizes that were not measured are left out."""
    rows = [
        ("experiment --help, s", figures.starts["experiment --help"], 0.25),
        ("import curidask, s", figures.starts["import curidask"], 0.15),
        ("planning 64 chained diamonds, s", figures.starts["planning 64 chained diamonds"], 0.05),
    ]
    largest = sizes[-1]
    rows.append((f"above bare dask at N={largest}, ms a stage", difference(figures, "bare dask", largest), 1.0))
    if 1600 in sizes:
        warm = [figures.whole[f"{name}, warm"][1600] for name in ("in-process", f"{N_WORKERS} processes")]
        rows.append(("warm, N=1600, whole process, s", max(warm), 1.5))
        rows.append(("cold, N=1600, in-process, whole process, s", figures.whole["in-process, cold"][1600], 5.0))
    ratios = [r for s in (*figures.whole.values(), *curidask_inside(figures)) for r in tenfold(s).values()]
    if ratios:
        rows.append(("ten times the records (worst of curidask's rows), times", max(ratios), 11.0))
    return rows


def curidask_inside(figures: Figures) -> list[Series]:
    """The series with the cluster up that are curidask's."""
    return [series for name, series in figures.inside.items() if name.startswith("curidask")]


def goal_rows(rows: Iterable[tuple[str, float, float]]) -> list[list[str]]:
    """Goals as cells."""
    return [[words, f"{got:.3f}", f"{most:g}", "yes" if got <= most else "NO"] for words, got, most in rows]
