"""What it costs in requests, counted at a proxy: a plan, a look, a commit."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import curidask as cf
from curidask.core.graph import Graph
from curidask.core.planner import Action, Plan
from curidask.execution.listener import Listener
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import open_objects
from curidask.store.claims import Claims
from curidask.store.lineage import Lineage, LineageIndex
from curidask.store.manifest import FileEntry, Manifest
from tests.conftest import Project, clean_environment
from tests.contracts.conftest import make_manifest
from tests.faults.test_object_stores import CLIENTS, read_artifact, write_artifact
from tests.s3proxy import S3Proxy
from tests.s3server import S3Server

N = 2_000
PAGES = -(-2 * N // 1000)
"""A payload and a manifest each."""

EXPERIMENT = f"""
from dataclasses import dataclass
import curidask as cf
from curidask.caching import JsonCacher

@dataclass
class Params(cf.ExperimentParameters):
    x: int = 0

@cf.stage(None, ["first"], [JsonCacher])
def one(record):
    return record.params.x

@cf.stage(["first"], ["second"], [JsonCacher])
def two(record, first):
    return first + 1

def get_params():
    return [Params(f"p{{x}}", x=x) for x in range({N // 2})]

def run(param_sets, manager):
    for params in param_sets:
        two(one(cf.Record(manager, params)))
"""

STEMS = """
import json, sys
import curidask as cf
graph = cf.run_experiment("many", map_only=True, quiet=True).manager.graph
json.dump([stem for task in graph for stem in task.stems], sys.stdout)
"""


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which client is used."""
    monkeypatch.setenv("CURIDASK_OBJECT_CLIENT", request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The artifacts of the experiment."""
    project = Project(tmp_path_factory.mktemp("stems"))
    project.write("curidask.toml", "")
    project.write("experiments/many.py", EXPERIMENT)
    done = subprocess.run(
        [sys.executable, "-c", STEMS], cwd=project.root, env=clean_environment(), capture_output=True, check=True
    )
    found: list[str] = json.loads(done.stdout)
    assert len(set(found)) == N
    return found


@pytest.fixture(scope="module")
def many(s3_server: S3Server, stems: list[str]) -> str:
    """The address of a place with many artifacts, and with what other runs leave and hold."""
    url = s3_server.url(f"many-{os.urandom(6).hex()}")
    options = {"endpoint_url": s3_server.endpoint, "region": "us-east-1", "client": "obstore"}
    place = open_objects(url, **options, key=s3_server.owner.key, secret=s3_server.owner.secret)
    names = [stem + end for stem in stems for end in (".json", "_metadata.json")]
    names += [f".runs/many_{number}-0a1b2c3d/end.json" for number in range(300)]
    place.probe_exclusive()
    real = {stem + "_metadata.json": manifest_of(stem).to_bytes() for stem in stems[700:703]}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: place.write(name, real.get(name, b"1")), names))
        tags = {stem: place.tag_of("any", real.get(stem + "_metadata.json", b"1")) for stem in stems}
        LineageIndex(place, "many").add({stem: (tag, Lineage("0" * 16, {})) for stem, tag in tags.items()})
        others = Claims(place, "other", "ada", 60.0)
        list(pool.map(lambda number: others.take(f"many_{number}_one_files.0123456789ab"), range(100)))
    return url


def manifest_of(stem: str) -> Manifest:
    """A manifest of what lies there."""
    files = (FileEntry(".json", 1, hashlib.sha256(b"1").hexdigest()),)
    return replace(make_manifest(), stem=stem, key=stem[-12:].ljust(64, "0"), files=files)


class AtPlan(Listener):
    """Keeps what was asked for until the plan was made."""

    def __init__(self, proxy: S3Proxy) -> None:
        self.proxy = proxy
        self.counts: list[Counter[str]] = []
        self.decisions: Counter[Action] = Counter()

    def planned(self, graph: Graph, plan: Plan) -> None:
        self.counts.append(Counter(self.proxy.counts))
        self.decisions.update(decision.action for decision in plan.decisions.values())

    def started_executor(self, description: str) -> None:
        raise AssertionError("nothing is to be computed")


@pytest.fixture
def warm(in_project: Project, many: str) -> str:
    """The experiment in this process, whose artifacts are all in the bucket."""
    in_project.write("experiments/many.py", EXPERIMENT)
    return many


@pytest.mark.timeout(600)
def test_a_map_of_thousands_of_artifacts_costs_pages(warm: str, client: str, s3_proxy: S3Proxy) -> None:
    mapped = cf.run_experiment("many", map_only=True, cache=warm, quiet=True)
    assert len(mapped.manager.plan().ids(Action.REUSE)) == N // 2
    assert s3_proxy.counts.keys() == {"list", "get"}  # what artifacts were made from is kept in one object
    assert s3_proxy.counts.total() <= PAGES + 5


@pytest.mark.timeout(600)
def test_a_warm_run_of_thousands_of_artifacts_is_planned_by_pages(warm: str, client: str, s3_proxy: S3Proxy) -> None:
    seen = AtPlan(s3_proxy)
    cf.run_experiment("many", cache=warm, parallel=0, listeners=[seen], report=False)
    assert len(seen.counts) == 1
    assert seen.decisions[Action.RUN] == 0
    assert seen.decisions[Action.REUSE] == N // 2
    assert seen.counts[0].total() <= PAGES + 5
    # Its end costs no more than that again, whatever others do.
    assert s3_proxy.counts.total() <= 2 * (PAGES + 5)


@pytest.mark.timeout(600)
def test_asking_for_thousands_of_artifacts_costs_pages(
    client: str, s3_proxy: S3Proxy, many: str, stems: list[str]
) -> None:
    store = ArtifactStore(open_objects(many))
    assert store.present(stems) == set(stems)
    assert s3_proxy.counts.keys() == {"list"}
    assert s3_proxy.counts["list"] <= PAGES + 5


@pytest.mark.timeout(600)
def test_a_few_artifacts_cost_few_requests_among_many_others(
    client: str, s3_proxy: S3Proxy, many: str, stems: list[str]
) -> None:
    store = ArtifactStore(open_objects(many))
    s3_proxy.reset_counts()
    few = set(stems[700:703])
    assert store.present(few) == few
    assert s3_proxy.counts == {"get": 3, "head": 3}


def test_a_commit_costs_a_look_and_a_request_a_file(client: str, s3_proxy: S3Proxy, s3: str, tmp_path: Path) -> None:
    store = ArtifactStore(open_objects(s3), near=tmp_path / "near")
    s3_proxy.reset_counts()
    write_artifact(store, make_manifest(), {".json": b"1", "_b.bin": b"2"})
    assert s3_proxy.counts == {"get": 1, "put": 3}
    s3_proxy.reset_counts()
    read_artifact(store, make_manifest())
    assert s3_proxy.counts == {"get": 3}
