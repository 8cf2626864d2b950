"""Whether network policies let a connection through, as the Kubernetes API reference says."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Pod:
    """One end of a connection: a pod, or something outside with an address."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def allows(
    policies: Sequence[Mapping[str, Any]], source: Pod, target: Pod, port: int, namespace: str = "science"
) -> bool:
    """Whether both ends let a TCP connection through; the policies are those of one namespace."""
    out = _side(policies, "Egress", source, target, port, namespace)
    return out and _side(policies, "Ingress", target, source, port, namespace)


def _side(
    policies: Sequence[Mapping[str, Any]], direction: str, owner: Pod, peer: Pod, port: int, namespace: str
) -> bool:
    specs = [p["spec"] for p in policies if direction in p["spec"]["policyTypes"]]
    chosen = [s for s in specs if owner.namespace == namespace and _matches(s["podSelector"], owner.labels)]
    if not chosen:
        return True
    side, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    rules = [rule for spec in chosen for rule in spec.get(side, [])]
    return any(_has_port(rule, port) and any(_is(peer, p, namespace) for p in rule[peers]) for rule in rules)


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert not set(selector) - {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _has_port(rule: Mapping[str, Any], port: int) -> bool:
    return any(entry["protocol"] == "TCP" and entry["port"] == port for entry in rule["ports"])


def _is(end: Pod, described: Mapping[str, Any], namespace: str) -> bool:
    if "ipBlock" in described:
        block = described["ipBlock"]
        if not end.address:
            return False  # what addresses mean for pods depends on the network
        address = ipaddress.ip_address(end.address)
        excepted = any(address in ipaddress.ip_network(part) for part in block.get("except", []))
        return address in ipaddress.ip_network(block["cidr"]) and not excepted
    if end.address:
        return False
    if "namespaceSelector" in described:
        is_there = _matches(described["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace})
    else:
        is_there = end.namespace == namespace
    return is_there and _matches(described.get("podSelector", {}), end.labels)
