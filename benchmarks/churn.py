"""Whether workers that come and go leave anything behind in the driver: memory, open files, futures, entries.

A scheduler and one worker stay. Another process lets workers join and leave, some in good order, one in four by a
connection that breaks, while the driver has stages run all the time. Printed is what the driver has after a tenth of
the joins, when all is warm, and after all of them.

    python benchmarks/churn.py               # 2,000 joins, some minutes
    python benchmarks/churn.py --joins 100
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from distributed import Worker

AT_ONCE = 8
BREAKS = 4
"""One of so many leaves by a connection that breaks."""

ROUND_SECONDS = 0.5
RECORDS_A_ROUND = 4
MORE_MEGABYTES = 20.0
MORE_FILES = 5
MORE_ENTRIES = 50


# --- the workers that come and go, in a process of their own ---------------------------------------------------------
async def join(address: str, folder: str) -> Worker:
    """A worker that has joined; on a busy machine dask may take one for lost that has only begun to."""
    for attempt in itertools.count():
        try:
            async with asyncio.timeout(60):
                return await Worker(
                    address, nthreads=1, memory_limit=0, dashboard=False, local_directory=folder, death_timeout=30
                )
        except Exception:
            if attempt == 2:
                raise
    raise AssertionError


async def come_and_go(address: str, n_joins: int, folder: str) -> None:
    """Let workers join and leave; the number of joins so far goes to stdout."""
    numbers = itertools.count(1)

    async def one_after_the_other() -> None:
        while (number := next(numbers)) <= n_joins:
            worker = await join(address, folder)
            await asyncio.sleep(0.05)
            if number % BREAKS == 0:
                worker.batched_stream.comm.abort()
            # One whose connection is broken closes by itself, and dask may wait for it for half a minute.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5):
                    await worker.close(executor_wait=False)
            print(number, file=told, flush=True)

    # What standard output gets while a worker of this process runs a stage is that stage's.
    with open(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as told:
        await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


# --- the driver ------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A scheduler and a worker that stays; the address."""
    dask = Path(sysconfig.get_path("scripts")) / "dask"
    file = folder / "scheduler.json"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    worker = ["worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]
    with open(folder / "cluster.log", "wb") as log, contextlib.ExitStack() as stack:
        for command in (scheduler, [*worker, "--local-directory", str(folder)]):
            process = subprocess.Popen([str(dask), *command], stdout=log, stderr=log, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            while not file.exists() or not file.stat().st_size:
                time.sleep(0.05)
        import json

        yield json.loads(file.read_text())["address"]


class Watch:
    """What the driver has."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._process = psutil.Process()

    def look(self) -> dict[str, float]:
        """Memory in MB, open files, threads, futures that dask's client knows, and entries of our own about workers."""
        gc.collect()
        executor = self._manager.runner._executor
        link, deaths = executor._link, executor._deaths
        entries = (
            link._workers,
            link._gone,
            deaths._known,
            deaths._untold,
            deaths._counted,
            executor._under_way.chains,
        )
        return {
            "memory, MB": self._process.memory_info().rss / 1e6,
            "open files": self._process.num_fds(),
            "threads": self._process.num_threads(),
            "futures": len(executor._client.futures),
            "entries": sum(map(len, entries)),
        }


def work(manager: Any, cf: Any, stage: Any, failures: list[str], numbers: Iterator[int], params: Any) -> None:
    """One round of stages."""
    records = [
        stage(cf.Record(manager, params(f"set{number}", x=number)))
        for number in itertools.islice(numbers, RECORDS_A_ROUND)
    ]
    for record in records:
        try:
            assert record.state["y"] == record.params.x + 1
        except cf.errors.CuridaskError as error:
            failures.append(str(error))


def measure(n_joins: int, folder: Path) -> tuple[dict[str, float], dict[str, float], int, list[str]]:
    """What the driver has after a tenth of the joins and after all, how many stages ran, and which failed."""
    import stages

    import curidask as cf

    failures: list[str] = []
    numbers = itertools.count()
    with (
        cluster(folder) as address,
        cf.ArtifactManager("churn", cache=str(folder / "cache"), cluster=address) as manager,
    ):
        watch = Watch(manager)
        work(manager, cf, stages.add_one, failures, numbers, stages.Params)
        command = [sys.executable, __file__, "--churn", address, str(n_joins), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as churn:
            joined: list[str] = []
            assert churn.stdout is not None
            reader = threading.Thread(target=joined.extend, args=(churn.stdout,))
            reader.start()
            early: dict[str, float] = {}
            while churn.poll() is None:
                work(manager, cf, stages.add_one, failures, numbers, stages.Params)
                if not early and len(joined) >= n_joins / 10:
                    early = watch.look()
                time.sleep(ROUND_SECONDS)
            reader.join()
        assert len(joined) == n_joins, f"{len(joined)} joins"
        time.sleep(5)  # for what is told of deaths some seconds later
        work(manager, cf, stages.add_one, failures, numbers, stages.Params)
        return early, watch.look(), next(numbers), failures


STAGES = """
from dataclasses import dataclass

import curidask as cf
from curidask.caching import JsonCacher


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 0


@cf.stage(None, ["y"], [JsonCacher])
def add_one(record):
    return record.params.x + 1
"""


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 1 when something has grown."""
    if arguments[:1] == ["--churn"]:
        asyncio.run(come_and_go(arguments[1], int(arguments[2]), arguments[3]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--joins", type=int, default=2000, help="how many workers join and leave")
    n_joins = parser.parse_args(arguments).joins
    with tempfile.TemporaryDirectory(prefix="curidask-churn-") as name:
        folder = Path(name)
        (folder / "stages.py").write_text(STAGES)
        (folder / "curidask.toml").touch()
        os.chdir(folder)
        sys.path.insert(0, name)
        started = time.monotonic()
        early, late, n_stages, failures = measure(n_joins, folder)
        took = time.monotonic() - started
        os.chdir("/")
    print(f"{n_joins} workers joined and left in {took:.0f} s, while {n_stages} stages ran; {len(failures)} failed")
    print(f"{'the driver has':<16}{'after a tenth':>16}{'after all':>12}")
    for what, before in early.items():
        print(f"{what:<16}{before:>16.0f}{late[what]:>12.0f}")
    limits = {"memory, MB": MORE_MEGABYTES, "open files": MORE_FILES, "threads": MORE_FILES}
    grown = [w for w in early if late[w] - early[w] > limits.get(w, MORE_ENTRIES)]
    if grown:
        print(f"grown: {', '.join(grown)}")
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
