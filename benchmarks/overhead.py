"""What curidask costs beside bare dask, for N records x 3 stages that do nothing + an aggregate.

Every figure is the median of several measurements, each in a process of its own on a fresh cache. Two kinds are told
apart: *whole process* is what a user waits for, from the shell to the shell; *cluster up* starts when the workers are
there and ends with the last result, which is what can be compared with bare dask (whose script would have to start
Python, dask and the workers too). The time that the workers take to start is listed by itself.

    python benchmarks/overhead.py            # many minutes; the figures want an idle machine
    python benchmarks/overhead.py --quick    # a rough idea in about a minute
    python benchmarks/overhead.py --sizes 100 1000 --repeats 5 --json figures.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path

from overhead_report import BARE, N_WORKERS, Figures, goal_rows, goals, show, table

HERE = Path(__file__).resolve().parent


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
        arguments = ["chain", "--parallel", str(parallel), "--cache", str(cache), "--plain", "--no-report"]
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
    def inside(self, records: int) -> dict[str, dict[str, float]]:
        """Median seconds of each phase of a cold run, for curidask and the variants of bare dask.

        The variants take turns, so that whatever else the machine does falls on all of them alike.
        """
        measures: dict[str, Callable[[], dict[str, float]]] = {
            "curidask": partial(self.curidask, records, N_WORKERS),
            "curidask in-process": partial(self.curidask, records, 0),
            **{name: partial(self.bare, records, flags) for name, flags in BARE.items()},
        }
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in measures}
        for turn in range(self.repeats):
            for name, take in measures.items():
                say(f"{records} records, cluster up, {name} ({turn + 1} of {self.repeats})")
                rows[name].append(take())
        return {name: medians(taken) for name, taken in rows.items()}

    def curidask(self, records: int, parallel: int) -> dict[str, float]:
        """Seconds of each phase of one cold run."""
        cache = self.fresh_folder()
        script = str(HERE / "measure_curidask.py")
        phases = self._phases([sys.executable, script, "--parallel", str(parallel), "--cache", str(cache)], records)
        shutil.rmtree(cache)
        return phases

    def bare(self, records: int, flags: Sequence[str]) -> dict[str, float]:
        """Seconds of each phase of the same shape in bare dask."""
        folder = self.fresh_folder()
        command = [sys.executable, str(HERE / "measure_bare.py"), "--records", str(records)]
        command += ["--parallel", str(N_WORKERS)]
        for flag in flags:
            command += [flag, str(folder)] if flag == "--write" else [flag]
        phases = self._phases(command, records)
        shutil.rmtree(folder, ignore_errors=True)
        return phases

    def planning(self) -> dict[str, float]:
        """Seconds to trace and plan 64 chained diamonds."""
        cache = self.fresh_folder()
        return self._phases([sys.executable, str(HERE / "measure_planning.py"), "--cache", str(cache)], 0)

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
    phases = bench.inside(records)
    figures.phases[records] = phases["curidask"]
    for name, row in phases.items():
        on_workers = ("trace", "plan", "execute")  # neither starting the workers nor ending them
        counted = row if name == "curidask in-process" else {phase: row[phase] for phase in on_workers if phase in row}
        figures.inside.setdefault(name, {})[records] = sum(counted.values())
    for name in ("curidask", "bare dask"):
        figures.starts[f"{name}: starting the workers"] = phases[name]["start"]
        figures.starts[f"{name}: closing"] = phases[name]["close"]


def medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each phase."""
    return {phase: statistics.median(row[phase] for row in rows) for phase in rows[0]}


def say(text: str) -> None:
    """Tell what goes on, apart from the figures."""
    print(f"… {text}", file=sys.stderr, flush=True)


# --- the command ----------------------------------------------------------------------------------------------------
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
    start_repeats = 1 if options.quick else 7
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
