"""``curidask cluster check``, and the same check before a run: versions, packages, the cache, the way to others."""

from __future__ import annotations

from pathlib import Path

import pytest

import curidask
from curidask.clusters.preflight import cache_id, require_cache
from curidask.errors import CacheError
from curidask.store.artifacts import ArtifactStore
from tests.clusters.conftest import Address, Hosts, counted
from tests.conftest import Project


def test_check_of_a_good_cluster(demo: Project, calls: Path, shared_address: Address) -> None:
    demo.write("curidask.toml", f'[cluster.lab]\nkind = "address"\naddress = "{shared_address.url}"')
    for name in ("lab", shared_address.url):
        done = demo.command("curidask", "cluster", "check", name, env=shared_address.env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "error" not in done.stdout
        for said in ("connected", "versions", "2 workers", "cache", "200 of them"):
            assert said in done.stdout
    assert not list(demo.cache.glob(".probe*"))
    assert counted(calls) == {}


def test_check_of_a_cluster_that_is_not_there(demo: Project, shared_address: Address) -> None:
    demo.write("curidask.toml", '[cluster.lab]\nkind = "address"\naddress = "tls://127.0.0.1:1"\nwait_seconds = 1')
    gone = demo.command("curidask", "cluster", "check", "lab", env=shared_address.env)
    assert gone.returncode == 1
    assert "Connection refused" in gone.stderr
    unknown = demo.command("curidask", "cluster", "check", "nowhere")
    assert unknown.returncode == 2


def fake_package(folder: Path, name: str, version: str) -> None:
    """An installed package, as far as can be seen without importing it."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").touch()
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_versions_are_compared_before_a_run(demo: Project, calls: Path, own_address: Address, tmp_path: Path) -> None:
    here, there, older = tmp_path / "here", tmp_path / "there", tmp_path / "older"
    for name in ("needed", "maybe", "newer", "unused"):
        fake_package(here, name, "2.0")
    fake_package(there, "newer", "1.0")
    fake_package(older, "curidask", "0.0.1")
    text = (demo.root / "experiments/demo.py").read_text()
    imports = "import needed, newer\ntry:\n    import maybe\nexcept ImportError:\n    pass\n"
    demo.write("experiments/demo.py", text.replace("import curidask as cf\n", "import curidask as cf\n" + imports))
    env = own_address.env | {"PYTHONPATH": str(here)}
    worker = own_address.start_worker("--no-nanny", env={"PYTHONPATH": str(there)})
    options = ["demo", "--scheduler", own_address.url]
    refused = demo.experiment(*options, env=env)
    assert refused.returncode == 1
    assert "the package needed is missing" in refused.stderr
    assert "pip install 'needed==2.0'" in refused.stderr
    assert "unused" not in refused.stderr
    assert counted(calls) == {}
    checked = demo.command("curidask", "cluster", "check", own_address.url, env=env)
    assert checked.returncode == 1
    kinds = {line.split()[0] for line in checked.stdout.splitlines() if "needed" in line and "fix" not in line}
    assert kinds == {"error"}
    # What the code does without, and another version of a package, are worth a word.
    fake_package(there, "needed", "2.0")
    done = demo.experiment(*options, env=env)
    assert done.returncode == 0, done.stderr
    assert "newer 1.0, here 2.0" in done.stderr
    assert "the package maybe is missing" in done.stderr
    assert len(counted(calls)) == 13
    own_address.processes.stop(worker)
    own_address.start_worker("--no-nanny", env={"PYTHONPATH": f"{there}:{older}"})
    other = demo.experiment(*options, "--overwrite", env=env)
    assert other.returncode == 1
    assert f"curidask 0.0.1, here {curidask.__version__}" in other.stderr
    assert counted(calls) == {}


def test_cache_that_hosts_do_not_share_is_refused(demo: Project, calls: Path, shared_hosts: Hosts) -> None:
    refused = shared_hosts.run(demo, "experiment", "demo", "--scheduler", shared_hosts.url)
    assert refused.returncode == 1
    assert "cannot use the cache" in refused.stderr
    assert "s3://bucket/path" in refused.stderr
    assert counted(calls) == {}
    checked = shared_hosts.run(demo, "curidask", "cluster", "check", shared_hosts.url)
    assert checked.returncode == 1
    assert checked.stdout.count("it is another folder") == 2
    good = shared_hosts.run(demo, "curidask", "cluster", "check", shared_hosts.url, "--cache", "s3://cache/check")
    assert good.returncode == 0, good.stdout
    assert "workers on 2 hosts reach each other" in good.stdout


def test_worker_that_comes_late_knows_the_cache(tmp_path: Path) -> None:
    """The check before a run sees the workers that are there; a later one looks itself, before its first job."""
    store = ArtifactStore.open(tmp_path / "cache")
    known = cache_id(store)
    assert known
    assert cache_id(store) == known
    require_cache(store, known)
    for other, expected in ((ArtifactStore.open(tmp_path / "elsewhere"), known), (store, "that of another")):
        with pytest.raises(CacheError) as caught:
            require_cache(other, expected)
        assert caught.value.fix
