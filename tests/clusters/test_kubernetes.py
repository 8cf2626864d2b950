"""Workers as pods: what is asked of a Kubernetes API, and how it ends when its operator does nothing."""

from __future__ import annotations

from pathlib import Path

from tests.clusters.conftest import counted
from tests.conftest import Project
from tests.kubernetes import kubernetes

CLUSTER = """
[cluster.k8s]
kind = "kubernetes"
image = "registry.example.org/lab:1"
n_workers = 2
namespace = "default"
scheduler_service_type = "LoadBalancer"
"""


def test_cluster_is_created_used_and_deleted(demo: Project, calls: Path, tmp_path: Path) -> None:
    demo.write("curidask.toml", CLUSTER)
    with kubernetes(tmp_path / "k8s") as (operator, env):
        done = demo.experiment("demo", "--cluster", "k8s", env=env, timeout=150)
        assert done.returncode == 0, done.stderr
        assert "cluster 'k8s' (kubernetes, 2 workers)" in done.stderr
        assert len(counted(calls)) == 13
        (posted,) = operator.posted
        assert posted["metadata"]["name"].startswith("k8s-")
        assert posted["spec"]["worker"]["replicas"] == 2
        assert posted["spec"]["worker"]["spec"]["containers"][0]["image"] == "registry.example.org/lab:1"
        assert ("daskclusters", posted["metadata"]["name"]) not in operator.objects


def test_operator_that_does_nothing(demo: Project, calls: Path, tmp_path: Path) -> None:
    demo.write("curidask.toml", CLUSTER + "wait_seconds = 3")
    with kubernetes(tmp_path / "k8s", is_broken=True) as (operator, env):
        refused = demo.experiment("demo", "--cluster", "k8s", env=env, timeout=150)
        assert refused.returncode == 1, refused.stderr
        assert "did not come up within 3 s" in refused.stderr
        assert "kubectl" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert operator.posted
        assert not [name for kind, name in operator.objects if kind == "daskclusters"]
    assert counted(calls) == {}


def test_no_kubernetes_at_all(demo: Project, calls: Path, tmp_path: Path) -> None:
    demo.write("curidask.toml", CLUSTER + "wait_seconds = 3")
    refused = demo.experiment("demo", "--cluster", "k8s", env={"KUBECONFIG": str(tmp_path / "none")})
    assert refused.returncode == 1, refused.stderr
    assert "Traceback" not in refused.stderr
    assert counted(calls) == {}


def test_options_that_kubernetes_does_not_take(demo: Project, calls: Path) -> None:
    demo.write("curidask.toml", CLUSTER + 'imag = "x"')
    refused = demo.experiment("demo", "--cluster", "k8s")
    assert refused.returncode == 2, refused.stderr
    assert "'image'" in refused.stderr
    assert counted(calls) == {}
