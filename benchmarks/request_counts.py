"""How many requests runs make to an S3 bucket, counted at a proxy before a real server: what a team's cache costs.

Run it from the repository: ``python -m benchmarks.request_counts``. It needs the packages of the dependency
group ``test``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.s3proxy import S3Proxy
from tests.s3server import S3Server

EXPERIMENT = """
from dataclasses import dataclass
import curidask as cf
from curidask.caching import JsonCacher

@dataclass
class Params(cf.ExperimentParameters):
    x: int = 0

@cf.stage(None, ["value"], [JsonCacher])
def make(record):
    return record.params.x

def get_params():
    return [Params(f"x{x}", x=x) for x in range({sets})]

def run(param_sets, manager):
    for params in param_sets:
        make(cf.Record(manager, params))
"""

FIRST = "first run ever, of one artifact"
"""It also finds out how the place behaves, once a week."""

PUTS = ("put", "part", "multipart", "copy", "list")
"""What S3 counts as the dearer kind of request; reads are the other kind, and deletions cost nothing."""


def main() -> None:
    """Print a table: requests of a cold run, a warm one, and so on, for two sizes, and for one artifact more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs=2, default=[20, 120], metavar="N", help="artifacts of the two sizes")
    sizes = parser.parse_args().sizes
    with tempfile.TemporaryDirectory(prefix="requests-") as folder:
        server = S3Server(Path(folder) / "server")
        server.start()
        try:
            with S3Proxy(server.endpoint) as proxy:
                counts = {size: measure(Path(folder) / str(size), server, proxy, size) for size in sizes}
        finally:
            server.kill()
    print_table(counts)


def measure(folder: Path, server: S3Server, proxy: S3Proxy, size: int) -> dict[str, Counter[str]]:
    """Requests by what was done."""
    (folder / "experiments").mkdir(parents=True)
    (folder / "curidask.toml").write_text("")
    (folder / "experiments" / "many.py").write_text(EXPERIMENT.replace("{sets}", str(size)))
    url = server.url(f"many-{size}")
    steps = {
        FIRST: ["experiment", "many", "--parallel", "0", "--no-report", "--names", "x0", "--prefix", "first"],
        "cold run": ["experiment", "many", "--parallel", "0", "--no-report"],
        "warm run": ["experiment", "many", "--parallel", "0", "--no-report"],
        "plan (--map)": ["experiment", "many", "--map"],
        "cache pull": ["curidask", "cache", "pull", "--to", str(folder / "laptop")],
        "cache du": ["curidask", "cache", "du"],
        "cache gc": ["curidask", "cache", "gc"],
    }
    counts = {}
    for name, (command, *arguments) in steps.items():
        proxy.counts.clear()
        env = {**os.environ, **server.env, "AWS_ENDPOINT_URL": proxy.endpoint, "CURIDASK_CACHE": url}
        env["CURIDASK_NEAR_CACHE"] = str(folder / "near")
        subprocess.run(
            [Path(sys.executable).parent / command, *arguments], cwd=folder, env=env, check=True, capture_output=True
        )
        counts[name] = Counter(proxy.counts)
        shutil.rmtree(folder / "near", ignore_errors=True)
    return counts


def print_table(counts: dict[int, dict[str, Counter[str]]]) -> None:
    """Print requests by kind, and what each artifact more costs."""
    (small, few), (large, many) = sorted(counts.items())
    print(f"| | {small} artifacts | {large} artifacts | each artifact more |\n|---|---|---|---|")
    for name in few:
        growth = Counter(many[name])
        growth.subtract(few[name])
        more = {kind: round(number / (large - small), 2) for kind, number in growth.items()}
        print(f"| {name} | {told(few[name])} | {told(many[name])} | {told({k: n for k, n in more.items() if n})} |")


def told(counts: Counter[str] | dict[str, float]) -> str:
    """Counts in words, those that cost most first."""
    ordered = sorted(counts.items(), key=lambda item: (item[0] not in PUTS, -item[1]))
    return ", ".join(f"{number:g} {kind.replace('_', ' ')}" for kind, number in ordered if number) or "none"


if __name__ == "__main__":
    main()
