"""Run the shape of the chain experiment as bare dask futures, and print as JSON where the time went.

A child of ``overhead.py``. ``--write FOLDER`` lets every task write its value as JSON, which is the least that a cached
stage has to do; ``--tuned`` gives the scheduler the settings that curidask gives it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster

from curidask import clusters


def first(index: int, folder: str | None) -> int:
    return keep(index, f"a{index}", folder)


def second(a: int, index: int, folder: str | None) -> int:
    return keep(a + 1, f"b{index}", folder)


def third(b: int, index: int, folder: str | None) -> int:
    return keep(b + 1, f"c{index}", folder)


def total(values: list[int], folder: str | None) -> int:
    return keep(sum(values), "total", folder)


def keep(value: int, name: str, folder: str | None) -> int:
    """Write a value in one atomic step, when there is a folder."""
    if folder is not None:
        path = os.path.join(folder, f"{name}.json")
        with open(f"{path}.part", "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(f"{path}.part", path)
    return value


def compute(client: Client, n_records: int, folder: str | None) -> int:
    """Submit the chains one future at a time, as a user of dask would, and wait for the sum."""
    ends = []
    for index in range(n_records):
        a = client.submit(first, index, folder, pure=False)
        b = client.submit(second, a, index, folder, pure=False)
        ends.append(client.submit(third, b, index, folder, pure=False))
    result: int = client.submit(total, ends, folder, pure=False).result()
    return result


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--tuned", action="store_true")
    options = parser.parse_args()
    if options.write:
        options.write.mkdir(parents=True)
    settings: dict[str, Any] = clusters.SETTINGS if options.tuned else {}

    with dask.config.set(settings), contextlib.ExitStack() as stack:
        began = time.perf_counter()
        cluster = stack.enter_context(
            LocalCluster(
                n_workers=options.parallel,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
            )
        )
        client = stack.enter_context(Client(cluster))
        up = time.perf_counter()
        result = compute(client, options.records, str(options.write) if options.write else None)
        done = time.perf_counter()
    closed = time.perf_counter()
    expected = sum(range(options.records)) + 2 * options.records
    if result != expected:
        raise RuntimeError(f"the sum is {result}, not {expected}")
    print(json.dumps({"start": up - began, "execute": done - up, "close": closed - done}))


if __name__ == "__main__":
    main()
