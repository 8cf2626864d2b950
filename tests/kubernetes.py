"""As much of a Kubernetes API as dask's client needs, with an operator behind it that starts real dask processes.

No Kubernetes can run inside the tests. This stands for one: it keeps objects as they are posted, answers selectors, and
for a ``DaskCluster`` starts a scheduler, and workers as its worker group says, the way the operator starts pods.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

from tests.conftest import clean_environment
from tests.prepared import COMMANDS
from tests.processes import Processes, answers, free_port, wait_for

GROUP = "kubernetes.dask.org/v1"
KINDS = {
    "pods": ("v1", "Pod"),
    "services": ("v1", "Service"),
    "daskclusters": (GROUP, "DaskCluster"),
    "daskworkergroups": (GROUP, "DaskWorkerGroup"),
    "daskautoscalers": (GROUP, "DaskAutoscaler"),
}


class Operator:
    """The objects, and what the operator does about them."""

    def __init__(self, processes: Processes, *, is_broken: bool = False) -> None:
        self.processes = processes
        self.is_broken = is_broken
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.posted: list[dict[str, Any]] = []
        self.running: list[Any] = []

    def put(self, kind: str, name: str, **content: Any) -> dict[str, Any]:
        """Add an object."""
        version, title = KINDS[kind]
        made = {"apiVersion": version, "kind": title, "metadata": {"name": name, "namespace": "default"}, **content}
        self.objects[kind, name] = made
        return made

    def take_cluster(self, cluster: dict[str, Any]) -> None:
        """Start what a new ``DaskCluster`` asks for."""
        name = cluster["metadata"]["name"]
        self.posted.append(cluster)
        self.objects["daskclusters", name] = cluster
        if self.is_broken:
            return
        cluster["status"] = {"phase": "Running"}
        port = free_port()
        self._start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        wait_for(lambda: answers("127.0.0.1", port), what="the scheduler")
        labels = {"dask.org/component": "scheduler", "dask.org/cluster-name": name}
        ready = {
            "phase": "Running",
            "conditions": [{"type": t, "status": "True"} for t in ("Ready", "ContainersReady")],
        }
        pod = self.put("pods", f"{name}-scheduler", status=ready)
        pod["metadata"]["labels"] = labels
        ports = [{"name": part, "port": port} for part in ("tcp-comm", "http-dashboard")]
        service = {"type": "LoadBalancer", "ports": ports, "clusterIP": "127.0.0.1", "selector": labels}
        status = {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}
        self.put("services", f"{name}-scheduler", spec=service, status=status)
        replicas = cluster["spec"]["worker"]["replicas"]
        self.put("daskworkergroups", f"{name}-default", spec={"worker": {"replicas": replicas}})
        for _ in range(replicas):
            self._start(
                "worker", "worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-nanny", "--no-dashboard"
            )

    def _start(self, name: str, *arguments: str) -> None:
        self.running.append(self.processes.start(name, [COMMANDS / "dask", *arguments], env=clean_environment()))

    def end(self, kind: str, name: str) -> None:
        """Remove an object; a cluster with all its pods."""
        self.objects.pop((kind, name), None)
        if kind == "daskclusters":
            while self.running:
                self.processes.stop(self.running.pop())


class Handler(BaseHTTPRequestHandler):
    """Answers requests about an operator's objects."""

    protocol_version = "HTTP/1.1"
    operator: Operator

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def answer(self, content: Any, code: int = 200) -> None:
        data = json.dumps(content).encode()
        with contextlib.suppress(ConnectionError):  # who asked may have gone
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")

    def target(self) -> tuple[str, str]:
        """The kind and the name of the objects asked for."""
        parts = urlparse(self.path).path.strip("/").split("/")
        kind = next((part for part in parts if part in KINDS), "")
        following = parts[parts.index(kind) + 1 :] if kind else []
        return kind, following[0] if following else ""

    def do_GET(self) -> None:
        kind, name = self.target()
        if not kind:
            self.answer(self.description())
        elif not name:
            version, title = KINDS[kind]
            items = [o for (k, _), o in self.operator.objects.items() if k == kind and self.is_wanted(o)]
            self.answer({"apiVersion": version, "kind": f"{title}List", "metadata": {}, "items": items})
        elif (kind, name) in self.operator.objects:
            self.answer(self.operator.objects[kind, name])
        else:
            self.answer(NOT_FOUND, 404)

    def is_wanted(self, found: dict[str, Any]) -> bool:
        query = {key: values[0] for key, values in parse_qs(urlparse(self.path).query).items()}
        labels, fields = (pairs(query.get(name, "")) for name in ("labelSelector", "fieldSelector"))
        name = found["metadata"]["name"]
        return labels <= found["metadata"].get("labels", {}).items() and dict(fields).get("metadata.name", name) == name

    def description(self) -> Any:
        """What the API has."""
        path = urlparse(self.path).path.strip("/")
        group, _, version = GROUP.partition("/")
        of_group = {"groupVersion": GROUP, "version": version}
        known = {
            "version": {"major": "1", "minor": "30", "gitVersion": "v1.30.0"},
            "api": {"kind": "APIVersions", "versions": ["v1"]},
            "apis": {
                "kind": "APIGroupList",
                "groups": [{"name": group, "versions": [of_group], "preferredVersion": of_group}],
            },
        }
        if path in known:
            return known[path]
        version = path.removeprefix("apis/").removeprefix("api/")
        kinds = [
            {"name": name, "singularName": title.lower(), "namespaced": True, "kind": title, "verbs": ["get"]}
            for name, (of, title) in KINDS.items()
            if of == version
        ]
        return {"kind": "APIResourceList", "groupVersion": version, "resources": kinds}

    def do_POST(self) -> None:
        kind, _ = self.target()
        content = self.body()
        content["metadata"].setdefault("namespace", "default")
        self.answer(content, 201)
        if kind == "daskclusters":
            self.operator.take_cluster(content)
        else:
            self.operator.objects[kind, content["metadata"]["name"]] = content

    def do_DELETE(self) -> None:
        self.body()
        there = self.target() in self.operator.objects
        self.operator.end(*self.target())
        self.answer({"kind": "Status", "status": "Success"} if there else NOT_FOUND, 200 if there else 404)


NOT_FOUND = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}


def pairs(selector: str) -> set[tuple[str, str]]:
    """What a selector such as ``a=b,c=d`` asks for."""
    return {(key, value) for key, _, value in (part.partition("=") for part in selector.split(",") if part)}


@contextmanager
def kubernetes(folder: Path, *, is_broken: bool = False) -> Iterator[tuple[Operator, dict[str, str]]]:
    """The API with its operator (one that does nothing when it is broken), and what its clients need."""
    with Processes(folder) as processes:
        operator = Operator(processes, is_broken=is_broken)
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"operator": operator}))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        config = folder / "kubeconfig"
        address = f"http://127.0.0.1:{server.server_address[1]}"
        config.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "tests", "cluster": {"server": address}}],
                    "users": [{"name": "tests", "user": {"token": "x"}}],
                    "contexts": [
                        {"name": "tests", "context": {"cluster": "tests", "user": "tests", "namespace": "default"}}
                    ],
                    "current-context": "tests",
                }
            )
        )
        try:
            yield operator, {"KUBECONFIG": str(config)}
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
