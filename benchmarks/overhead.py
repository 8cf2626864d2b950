"""What curidask costs beside bare dask, for N records x 3 stages that do nothing + an aggregate.

Every figure is the median of several measurements, each in a process of its own on a fresh cache. Two kinds are told
apart: *whole process* is what a user waits for, from the shell to the shell; *cluster up* starts when the workers are
there and ends with the last result, which is what can be compared with bare dask (whose script would have to start
Python, dask and the workers too). The time that the workers take to start is listed by itself.

    python benchmarks/overhead.py               # about five minutes on two cores
    python benchmarks/overhead.py --quick       # a rough idea in half a minute
    python benchmarks/overhead.py --sizes 100 1000 --repeats 5 --json figures.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from pathlib import Path

HERE = Path(__file__).resolve().parent
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


class Bench:
    """Takes the measurements in a temporary copy of the project.

    Parameters
    ----------
    folder : Path
        Scratch space.
    repeats, start_repeats : int
        Measurements a figure, and for the time that starting takes.
    """

    def __init__(self, folder: Path, repeats: int, start_repeats: int) -> None:
        self.folder = folder
        self.repeats = repeats
        self.start_repeats = start_repeats
        self.project = folder / "project"
        shutil.copytree(HERE / "overhead_project", self.project, ignore=shutil.ignore_patterns("__pycache__"))
        self._numbers = count()

    def fresh_folder(self) -> Path:
        """A path where nothing is yet."""
        return self.folder / f"scratch{next(self._numbers)}"

    # --- whole processes ---------------------------------------------------------------------------------------------
    def experiment(self, records: int, parallel: int, cache: Path) -> float:
        """Wall time of ``experiment chain`` as a process."""
        arguments = ["chain", "--parallel", str(parallel), "--cache", str(cache), "--plain"]
        return self._timed([str(console_script("experiment")), *arguments], records)[0]

    def cold_and_warm(self, records: int, parallel: int) -> tuple[float, float]:
        """Medians of runs that find nothing in the cache, and of runs that find everything."""
        cold = []
        for _ in range(self.repeats):
            cache = self.fresh_folder()
            cold.append(self.experiment(records, parallel, cache))
            if len(cold) < self.repeats:
                shutil.rmtree(cache)
        warm = [self.experiment(records, parallel, cache) for _ in range(self.repeats)]
        shutil.rmtree(cache)
        return statistics.median(cold), statistics.median(warm)

    # --- with the cluster up -----------------------------------------------------------------------------------------
    def curidask(self, records: int, parallel: int) -> dict[str, float]:
        """Median seconds of each phase of a cold run."""
        return self._median_phases("measure_curidask.py", records, ["--parallel", str(parallel)], "--cache")

    def bare(self, records: int, flags: Sequence[str]) -> dict[str, float]:
        """Median seconds of each phase of the same shape in bare dask."""
        fixed = ["--records", str(records), "--parallel", str(N_WORKERS), *(f for f in flags if f != "--write")]
        return self._median_phases("measure_bare.py", records, fixed, "--write" if "--write" in flags else None)

    def planning(self) -> dict[str, float]:
        """Seconds to trace and plan 64 chained diamonds."""
        cache = self.fresh_folder()
        return self._phases([sys.executable, str(HERE / "measure_planning.py"), "--cache", str(cache)], 0)

    def _median_phases(
        self, script: str, records: int, arguments: Sequence[str], folder_flag: str | None
    ) -> dict[str, float]:
        rows = []
        for _ in range(self.repeats):
            folder = self.fresh_folder()
            place = [folder_flag, str(folder)] if folder_flag else []
            rows.append(self._phases([sys.executable, str(HERE / script), *arguments, *place], records))
            shutil.rmtree(folder, ignore_errors=True)
        return {phase: statistics.median(row[phase] for row in rows) for phase in rows[0]}

    def _phases(self, command: Sequence[str], records: int) -> dict[str, float]:
        phases: dict[str, float] = json.loads(self._timed(command, records)[1].splitlines()[-1])
        return phases

    # --- starting ----------------------------------------------------------------------------------------------------
    def starts(self) -> dict[str, float]:
        """Median seconds of what a user waits for before anything happens."""
        clock = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
        use = "from curidask import ArtifactManager, Record, aggregate, stage"

        def inside(statement: str) -> float:
            return float(self._timed([sys.executable, "-c", clock.format(statement)])[1])

        def whole(*command: str) -> float:
            return self._timed(command)[0]

        help_command = str(console_script("experiment"))
        return {
            "python -c pass (for comparison)": self._median_start(lambda: whole(sys.executable, "-c", "pass")),
            "import curidask": self._median_start(lambda: inside("import curidask")),
            use: self._median_start(lambda: inside(use)),
            "experiment --help": self._median_start(lambda: whole(help_command, "--help")),
        }

    def _median_start(self, measure: Callable[[], float]) -> float:
        return statistics.median(measure() for _ in range(self.start_repeats))

    def _timed(self, command: Sequence[str], records: int = 0) -> tuple[float, str]:
        """Seconds and output of a process; an exception with its words when it fails."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("CURIDASK_")}
        env["OVERHEAD_RECORDS"] = str(records)
        began = time.perf_counter()
        done = subprocess.run(command, cwd=self.project, env=env, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return seconds, done.stdout


def console_script(name: str) -> Path:
    """An installed command of the environment that runs this script."""
    return Path(sysconfig.get_path("scripts")) / name


# --- measuring -------------------------------------------------------------------------------------------------------
def measure(bench: Bench, sizes: Sequence[int]) -> Figures:
    """Take all measurements, telling on stderr what is being measured."""
    figures = Figures()
    say("starting")
    figures.starts |= bench.starts()
    planned = bench.planning()
    figures.starts |= {
        "tracing 64 chained diamonds": planned["trace"],
        "planning 64 chained diamonds": planned["plan"],
        "planning them, with the store's listing": planned["plan_with_listing"],
    }
    for records in sizes:
        measure_whole(bench, figures, records)
        measure_inside(bench, figures, records)
    return figures


def measure_whole(bench: Bench, figures: Figures, records: int) -> None:
    """Whole processes of one size."""
    for name, parallel in (("in-process", 0), (f"{N_WORKERS} processes", N_WORKERS)):
        say(f"{records} records, whole process, {name}")
        cold, warm = bench.cold_and_warm(records, parallel)
        figures.whole.setdefault(f"{name}, cold", {})[records] = cold
        figures.whole.setdefault(f"{name}, warm", {})[records] = warm


def measure_inside(bench: Bench, figures: Figures, records: int) -> None:
    """What happens on workers that are there, and starting and closing them."""
    say(f"{records} records, cluster up, curidask")
    phases = bench.curidask(records, N_WORKERS)
    figures.phases[records] = phases
    figures.inside.setdefault("curidask", {})[records] = sum(phases[p] for p in ("trace", "plan", "execute"))
    figures.starts["curidask: starting the workers"] = phases["start"]
    figures.starts["curidask: closing (workers, run record)"] = phases["close"]
    say(f"{records} records, in-process, curidask")
    alone = bench.curidask(records, 0)
    figures.inside.setdefault("curidask in-process", {})[records] = sum(alone.values())
    for name, flags in BARE.items():
        say(f"{records} records, cluster up, {name}")
        phases = bench.bare(records, flags)
        figures.inside.setdefault(name, {})[records] = phases["execute"]
        figures.starts["bare dask: starting the workers"] = phases["start"]
        figures.starts["bare dask: closing"] = phases["close"]


def say(text: str) -> None:
    """Tell what goes on, apart from the figures."""
    print(f"… {text}", file=sys.stderr, flush=True)


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


def load() -> str:
    """How busy the machine was in the last minute with other things: well above 0, the figures are too high."""
    return f"{os.getloadavg()[0]:.1f}"


def machine() -> Mapping[str, str]:
    """What the figures were taken on."""
    return {
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "dask": version("dask"),
        "distributed": version("distributed"),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="numbers of records (100 160 400 1600)")
    parser.add_argument("--repeats", type=int, metavar="K", help="measurements a figure (3)")
    parser.add_argument("--quick", action="store_true", help="sizes 20 and 200, one measurement a figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    sizes = sorted(set(options.sizes or ((20, 200) if options.quick else (100, 160, 400, 1600))))
    repeats = options.repeats or (1 if options.quick else 3)
    start_repeats = 3 if options.quick else 7
    if sizes[0] < 1 or repeats < 1:
        parser.error("--sizes and --repeats take numbers from 1 up")

    about = {**machine(), "load before": load()}
    with tempfile.TemporaryDirectory(prefix="overhead-") as scratch:
        figures = measure(Bench(Path(scratch), repeats, start_repeats), sizes)
    print("; ".join(f"{name}: {value}" for name, value in about.items()) + f"; median of {repeats}")
    print(show(figures, sizes))
    print(table("Wanted", ["", "measured", "at most", "met"], goal_rows(goals(figures, sizes))))
    if options.json:
        options.json.write_text(json.dumps({"machine": about, **vars(figures)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
