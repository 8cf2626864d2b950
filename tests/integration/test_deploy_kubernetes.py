"""The Helm chart under deploy/kubernetes, checked with Helm, Kubernetes' schemas and the dask operator's own code."""

from __future__ import annotations

import functools
import itertools
import json
import re
import warnings
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.containers import REPOSITORY, read_image
from tests.deploying import check_environment, parse
from tests.policies import Pod, allows

DEPLOY = REPOSITORY / "deploy"
CHART = DEPLOY / "kubernetes"

VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "another store": {"s3": {"endpoint": "https://store.example", "region": "here"}},
    "a service account": {"serviceAccount": "with-rights", "s3": {"secret": ""}},
    "kept records": {"driver": {"outputClaim": "records"}, "experiment": {"arguments": ["-p", "quick", "-n", "a b"]}},
    "GPUs": {
        "worker": {
            "arguments": ["--resources", "GPU=1"],
            "nodeSelector": {"gpu": "yes"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
        },
        "imagePullSecrets": [{"name": "registry"}],
    },
    "open": {"networkPolicy": {"enabled": False}},
}


def render(values: dict[str, Any], name: str = "lab") -> dict[str, dict[str, Any]]:
    """The chart's objects by kind and name."""
    with helm_python.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name=name, namespace="science")
    texts = [text for path, text in files.items() if path.endswith(".yaml")]
    objects = [made for text in texts for made in yaml.safe_load_all(text) if made]
    return {f"{made['kind']} {made['metadata']['name']}": made for made in objects}


def made_by_operator(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the dask operator makes of a DaskCluster, by its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dask_kubernetes.operator.controller import controller
        from dask_kubernetes.operator.validation import validate_cluster_name
    name, spec, labels = cluster["metadata"]["name"], cluster["spec"], cluster["metadata"]["labels"]
    validate_cluster_name(name)
    group = controller.build_default_worker_group_spec(name, spec["worker"], {}, labels)
    return {
        "scheduler": controller.build_scheduler_deployment_spec(name, spec["scheduler"]["spec"], {}, labels),
        "service": controller.build_scheduler_service_spec(name, spec["scheduler"]["service"], {}, labels),
        "worker": controller.build_worker_deployment_spec(
            group["metadata"]["name"], "science", name, "0123456789", spec["worker"]["spec"], {},
            group["metadata"]["labels"] | labels,
        ),
    }  # fmt: skip


@pytest.fixture(params=VARIANTS)
def objects(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    return render(VARIANTS[request.param])


def pods(objects: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod templates of scheduler, worker and driver."""
    made = made_by_operator(objects["DaskCluster lab"])
    templates = {name: made[name]["spec"]["template"] for name in ("scheduler", "worker")}
    return templates | {"driver": objects["Job lab-driver-1"]["spec"]["template"]}


def test_helm_finds_no_fault_with_the_chart() -> None:
    found = helm_python.lint(str(CHART))
    assert found["errors"] == []
    assert [m for m in found["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize(
    "values",
    [
        {"wrker": {}},
        {"worker": {"replicas": 0}},
        {"worker": {"resources": {"limits": {"nvidia.com/gpu": 1}}}},  # the operator's definition takes texts only
        {"tls": {"secret": ""}},
        {"cache": "data/cache"},
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: dict[str, Any]) -> None:
    with helm_python.Chart.load(str(CHART)) as chart, pytest.raises(helm_python.HelmError):
        chart.validate_schema(values)


SCHEMA = functools.cache(kubernetes_validate.utils.schema_contents)
"""It would be read for each object."""


def test_kubernetes_takes_all_objects(objects: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", SCHEMA)
    made = made_by_operator(objects["DaskCluster lab"])
    for thing in [o for o in objects.values() if o["kind"] != "DaskCluster"] + list(made.values()):
        kubernetes_validate.validate(thing, "1.31", strict=True)


def test_the_operator_takes_the_cluster(objects: dict[str, dict[str, Any]]) -> None:
    import dask_kubernetes

    folder = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
    definition = yaml.load((folder / "daskcluster.yaml").read_text(), yaml.CSafeLoader)  # of 10,000 lines
    (version,) = definition["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"] |= {"metadata": {}, "kind": {}, "apiVersion": {"const": "kubernetes.dask.org/v1"}}
    jsonschema.Draft202012Validator(schema).validate(objects["DaskCluster lab"])


def closed(schema: Any) -> Any:
    """A schema that refuses what it does not name, where Kubernetes would drop it in silence."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def test_pods_meet_the_restricted_security_standard(objects: dict[str, dict[str, Any]]) -> None:
    for name, pod in pods(objects).items():
        spec = pod["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["runAsUser"] == 10001, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert {next(iter(set(v) - {"name"})) for v in spec["volumes"]} <= {
            "secret", "emptyDir", "persistentVolumeClaim",
        }, name  # fmt: skip
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            confined = container["securityContext"]
            assert confined["allowPrivilegeEscalation"] is False, name
            assert confined["readOnlyRootFilesystem"] is True, name
            assert confined["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name


def test_commands_of_the_pods_parse_and_find_their_files(objects: dict[str, dict[str, Any]]) -> None:
    image = read_image(DEPLOY / "Dockerfile")
    files = {f"{target}{Path(source).name}" for source, target in image.files if target.endswith("/")}
    for name, pod in pods(objects).items():
        (container,) = pod["spec"]["containers"]
        parse(container["args"])
        variables = {entry["name"]: entry.get("value") for entry in container["env"]}
        check_environment(variables, name)
        assert set(re.findall(r"\$\((\w+)\)", " ".join(container["args"]))) <= set(variables), name
        for other in pod["spec"].get("initContainers", []):
            assert other["command"][0] == "python"
            assert other["command"][1] in files
    settings = yaml.safe_load((DEPLOY / "dask.yaml").read_text())["distributed"]["comm"]["tls"]
    assert {Path(path).name for path in itertools.chain([settings["ca-file"]], settings["client"].values())} == {
        "ca.pem", "node.pem", "node.key",
    }  # fmt: skip


def test_all_talk_to_the_scheduler_with_tls(objects: dict[str, dict[str, Any]]) -> None:
    made = made_by_operator(objects["DaskCluster lab"])
    name, ports = made["service"]["metadata"]["name"], made["service"]["spec"]["ports"]
    address = f"tls://{name}.science.svc:{ports[0]['port']}"
    driver, worker = (pods(objects)[who]["spec"]["containers"][0] for who in ("driver", "worker"))
    assert f"--scheduler={address}" in driver["args"]
    assert {"name": "DASK_SCHEDULER_ADDRESS", "value": address} in worker["env"]
    assert [e["value"] for e in worker["env"] if e["name"] == "DASK_SCHEDULER_ADDRESS"] == [address]
    labels = made["scheduler"]["spec"]["template"]["metadata"]["labels"]
    assert made["service"]["spec"]["selector"].items() <= labels.items()


def test_secrets_are_only_referred_to(objects: dict[str, dict[str, Any]]) -> None:
    assert not [o for o in objects.values() if o["kind"] == "Secret"]
    text = json.dumps(objects)
    assert "AWS_SECRET" not in text
    assert "AWS_ACCESS" not in text


def test_network_policies_let_only_the_right_ones_through() -> None:
    objects = render({})
    policies = [o for o in objects.values() if o["kind"] == "NetworkPolicy"]
    ours = {name: Pod("science", template["metadata"]["labels"]) for name, template in pods(objects).items()}
    scheduler, worker, driver = ours["scheduler"], ours["worker"], ours["driver"]
    others = {"app.kubernetes.io/instance": "other", "dask.org/cluster-name": "other"}
    other_release = Pod("science", dict(worker.labels) | others)
    operator, names = Pod("dask-operator", {}), Pod("kube-system", {"k8s-app": "kube-dns"})
    store, metadata = Pod(address="203.0.113.7"), Pod(address="169.254.169.254")

    for source, target, port in [
        (driver, scheduler, 8786), (worker, scheduler, 8786), (scheduler, worker, 8788), (scheduler, worker, 8789),
        (worker, worker, 8788), (operator, scheduler, 8787), (worker, names, 53), (worker, store, 443),
        (driver, store, 443),
    ]:  # fmt: skip
        assert allows(policies, source, target, port), (source, target, port)
    for source, target, port in [
        (other_release, scheduler, 8786), (other_release, worker, 8788), (Pod("science", {}), scheduler, 8786),
        (Pod("elsewhere", driver.labels), scheduler, 8786), (operator, scheduler, 8786), (operator, worker, 8788),
        (driver, scheduler, 8787), (worker, driver, 8786), (worker, metadata, 443), (worker, store, 80),
        (worker, other_release, 8788), (store, scheduler, 8786),
    ]:  # fmt: skip
        assert not allows(policies, source, target, port), (source, target, port)
