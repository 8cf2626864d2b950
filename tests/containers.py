"""Services of a compose file run as they would be in containers, without a container engine.

Linux has all that an engine builds on: each service gets its own mounts, processes, host name and network (`unshare`,
`ip netns`), a root that is this machine's with the image's files on top, the volumes and temporary folders that the
compose file names and no others, no capabilities, and addresses on a bridge under the services' names. What the
Dockerfile copies, sets and asks as the health of the image is read out of it. What differs: packages come from the
environment of the tests instead of the image's, and the only user is the one who runs the tests.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from dockerfile_parse import DockerfileParser

REPOSITORY = Path(__file__).parent.parent
NETWORK = "10.93.0."
ENVIRONMENT = "/opt/venv"
START_SECONDS = 90.0
RUN_SECONDS = 120.0

NAMESPACES = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--mount-proc"]

MACHINE = """
set -eu
mount -t tmpfs tmpfs /run
ip link set lo up
ip link add bridge type bridge
ip address add 10.93.0.1/24 dev bridge
ip link set bridge up
echo ready
exec sleep infinity
"""

PLUG_IN = """
set -eu
ip netns add "$1"
ip -n "$1" link set lo up
[ -n "$2" ] || exit 0
ip link add "v-$1" type veth peer name eth0 netns "$1"
ip link set "v-$1" master bridge up
ip -n "$1" address add "$2/24" dev eth0
ip -n "$1" link set eth0 up
ip -n "$1" route add default via 10.93.0.1
"""

# $1 is an empty folder, $2 a script that lays out what is in the root, $3 "ro" for a root that cannot be written.
# Of this machine's files those that programs need are there, and cannot be written.
ENTER = """
set -eu
root=$1
mount -t tmpfs tmpfs "$root"
cd "$root"
mkdir dev etc opt proc run srv tmp
mount --rbind /dev dev
mount -t proc proc proc
for path in /* /etc/*; do
    case $path in
    /dev | /etc | /media | /mnt | /opt | /proc | /run | /srv | /sys | /tmp) ;;
    /etc/alternatives | /etc/group | /etc/ld.so.* | /etc/nsswitch.conf | /etc/passwd | /etc/ssl | /[!e]* )
        if [ -h "$path" ]; then
            cp -P "$path" ".$path"
        elif [ -d "$path" ]; then
            mkdir ".$path" && mount --rbind "$path" ".$path" && mount -o remount,bind,ro ".$path"
        else
            cp "$path" ".$path"
        fi ;;
    esac
done
. "$2"
[ "$3" != ro ] || mount -o remount,bind,ro "$root"
shift 3
exec chroot . setpriv --no-new-privs --bounding-set=-all -- "$@"
"""


@dataclass(frozen=True)
class Image:
    """What a Dockerfile makes: the files it copies from its context, and how a container starts."""

    files: list[tuple[str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    folder: str = "/"


def read_image(dockerfile: Path) -> Image:
    """The last stage of a Dockerfile."""
    parser = DockerfileParser(path=str(dockerfile))
    steps = [(step["instruction"], step["value"]) for step in parser.structure]
    last = max(i for i, (instruction, _) in enumerate(steps) if instruction == "FROM")
    said = dict(steps[last:])
    copies = [value.split() for instruction, value in steps[last:] if instruction == "COPY"]
    return Image(
        files=[(source, words[-1]) for words in copies if not words[0].startswith("--from") for source in words[:-1]],
        environment={k: v.rstrip(":") for k, v in parser.envs.items()},
        entrypoint=json.loads(said.get("ENTRYPOINT", "[]")),
        command=json.loads(said["CMD"]),
        health=json.loads(said["HEALTHCHECK"].partition("CMD ")[2]),
        folder=said["WORKDIR"],
    )


def copied(dockerfile: Path) -> list[tuple[str, str]]:
    """What a Dockerfile copies from its context, in all stages: source and target."""
    parser = DockerfileParser(path=str(dockerfile))
    words = [step["value"].split() for step in parser.structure if step["instruction"] == "COPY"]
    return [(source, line[-1]) for line in words if not line[0].startswith("--from") for source in line[:-1]]


class Compose:
    """The services of a compose file, on a network of their own.

    Parameters
    ----------
    file : Path
    work : Path
        An empty folder, for volumes and output.
    images : dict of str to Image
        Those that are not built here.
    """

    def __init__(self, file: Path, work: Path, images: dict[str, Image]) -> None:
        self.model = read_model(file)
        self.services: dict[str, Any] = self.model["services"]
        self.work = work
        self.images = images
        self.outputs: dict[str, Path] = {}
        names = [name for name, service in self.services.items() if service.get("network_mode") != "none"]
        self.addresses = {name: f"{NETWORK}{10 * (i + 1)}" for i, name in enumerate(names)}
        self._containers: dict[str, subprocess.Popen[bytes]] = {}
        self._count = 0
        self._machine = subprocess.Popen(
            [*NAMESPACES, "--kill-child=KILL", "sh", "-c", MACHINE], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert self._machine.stdout is not None
        assert self._machine.stdout.readline() == b"ready\n", "no namespaces could be made"

    def close(self) -> None:
        """End everything."""
        self._machine.kill()  # and with the first process of its namespace all others
        self._machine.wait()
        for process in self._containers.values():
            process.wait()
        assert self._machine.stdout is not None
        self._machine.stdout.close()

    # --- services ----------------------------------------------------------------------------------------------------
    def up(self, name: str) -> None:
        """Start a service, after what it depends on, and wait until it is what others wait for."""
        service = self.services[name]
        self.up_dependencies(name)
        for number in range(service.get("deploy", {}).get("replicas", 1)):
            container = f"{name}-{number + 1}"
            if container not in self._containers:
                self._containers[container] = self._start(container, name, self.address(name, number), [])

    def up_dependencies(self, name: str) -> None:
        """Start what a service depends on, and wait as it says."""
        needed = self.services[name].get("depends_on", {})
        for other in needed:
            self.up(other)
        for other, wanted in needed.items():
            for container in [c for c in self._containers if c.rpartition("-")[0] == other]:
                self._wait(container, wanted["condition"])

    def run(self, name: str, *arguments: str, entrypoint: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a service to its end, as `docker compose run` does, with other arguments."""
        self.up_dependencies(name)
        self._count += 1
        container = f"{name}-run{self._count}"
        address = self.address(name, self._count) if name in self.addresses else ""
        process = self._start(container, name, address, list(arguments), list(entrypoint))
        try:
            code = process.wait(RUN_SECONDS)
        finally:
            process.kill()
        output = self.outputs[container]
        return subprocess.CompletedProcess(process.args, code, output.read_text(), "")

    def address(self, name: str, number: int) -> str:
        """Of a service's container; empty without a network."""
        base, _, host = self.addresses.get(name, "").rpartition(".")
        return f"{base}.{int(host) + number}" if base else ""

    def inside(self, container: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container that is up, as `docker exec` does."""
        name = container.rpartition("-")[0]
        first = self._first_process(container)
        enter = ["nsenter", "--target", str(first), "--all", "--root", "--", *self._environment(name, "/"), *command]
        return subprocess.run(enter, capture_output=True, text=True, timeout=START_SECONDS, check=False)

    # --- a container -------------------------------------------------------------------------------------------------
    def _start(
        self, container: str, name: str, address: str, arguments: list[str], entrypoint: list[str] | None = None
    ) -> subprocess.Popen[bytes]:
        service, image = self.services[name], self._image(name)
        start = entrypoint or service.get("entrypoint") or image.entrypoint
        command = [*start, *(arguments or service.get("command") or image.command)]
        folder = service.get("working_dir", image.folder)
        root, layout = self.work / "roots" / container, self.work / "roots" / f"{container}.sh"
        root.mkdir(parents=True)
        layout.write_text("".join(f"{line}\n" for line in self._layout(container, name)))
        subprocess.run([*self._enter(), "sh", "-c", PLUG_IN, "sh", container, address], check=True)
        self.outputs[container] = root.with_suffix(".out")
        mode = "ro" if service.get("read_only") else "rw"
        with open(self.outputs[container], "wb") as output:
            return subprocess.Popen(
                [
                    *self._enter(), "nsenter", f"--net=/run/netns/{container}",
                    "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child=KILL",
                    "sh", "-c", ENTER, "sh", str(root), str(layout), mode,
                    *self._environment(name, folder), *command,
                ],
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def _enter(self) -> list[str]:
        machine = psutil.Process(self._machine.pid).children()[0].pid
        return ["nsenter", f"--target={machine}", "--user", "--net", "--mount", "--pid", "--preserve-credentials", "--"]

    def _first_process(self, container: str) -> int:
        process = psutil.Process(self._containers[container].pid)
        while process.name() in ("nsenter", "unshare"):
            process = process.children()[0]
        return int(process.pid)

    def _image(self, name: str) -> Image:
        build = self.services[name].get("build")
        if build is None:
            return self.images[self.services[name]["image"].partition(":")[0]]
        return read_image(Path(build["context"]) / build["dockerfile"])

    def _environment(self, name: str, folder: str) -> list[str]:
        values = self._image(name).environment | (self.services[name].get("environment") or {})
        values["PATH"] = f"{values.get('PATH', f'{ENVIRONMENT}/bin')}:/usr/local/bin:/usr/bin:/bin"
        return ["env", "-i", f"--chdir={folder}", *(f"{key}={value}" for key, value in values.items())]

    def _layout(self, container: str, name: str) -> Iterator[str]:
        """Shell lines that lay out a container's files; the current folder is its root."""
        service, image = self.services[name], self._image(name)
        yield f"hostname {container}"
        known = self.addresses.items() if name in self.addresses else ()
        hosts = [f"{address} {other}" for other, address in known]
        yield f"printf '%s\\n' {shlex.join(['127.0.0.1 localhost', *hosts])} > etc/hosts"
        for target in service.get("tmpfs") or ():
            path, _, options = target.partition(":")
            yield f"mkdir -p .{path} && mount -t tmpfs -o {options or 'mode=1777'} tmpfs .{path}"
        for path in dict.fromkeys([sys.base_prefix, sys.prefix, str(REPOSITORY)]):  # a tmpfs may cover them
            yield f"mkdir -p .{path} && mount --rbind {path} .{path}"
        yield f"mkdir -p .{ENVIRONMENT} && mount --bind {sys.prefix} .{ENVIRONMENT}"
        context = Path(service.get("build", {}).get("context", "/"))
        for source, target in image.files:
            origin = context / source
            if origin.is_dir():
                yield f"mkdir -p .{target} && cp -R {origin}/. .{target}"
            else:
                yield f"mkdir -p $(dirname .{target}x) && cp {origin} .{target}"
        for volume in service.get("volumes") or ():
            yield from self._mounted(volume)

    def _mounted(self, volume: dict[str, Any]) -> Iterator[str]:
        source = volume["source"]
        if volume["type"] == "volume":
            source = str(self.work / "volumes" / source)
            Path(source).mkdir(parents=True, exist_ok=True)
        target = volume["target"]
        yield f"mkdir -p .{target} && mount --bind {source} .{target}"
        if volume.get("read_only"):
            yield f"mount -o remount,bind,ro .{target}"

    # --- waiting -----------------------------------------------------------------------------------------------------
    def _wait(self, container: str, condition: str) -> None:
        process = self._containers[container]
        if condition == "service_completed_successfully":
            code = process.wait(START_SECONDS)
            assert code == 0, self.outputs[container].read_text()
            return
        assert condition == "service_healthy"
        wait_until(lambda: self.is_healthy(container), lambda: self.outputs[container].read_text())

    def is_healthy(self, container: str) -> bool:
        """What the health check of the service, or else of its image, says."""
        name = container.rpartition("-")[0]
        process = self._containers[container]
        assert process.poll() is None, f"{container} ended: {self.outputs[container].read_text()}"
        test = self.services[name].get("healthcheck", {}).get("test")
        command = test[1:] if test else self._image(name).health
        return self.inside(container, *command).returncode == 0


def wait_until(true: Callable[[], bool], said: Callable[[], str]) -> None:
    """Wait for something, with an end."""
    end = time.monotonic() + START_SECONDS
    while not true():
        assert time.monotonic() < end, said()
        time.sleep(0.1)


def read_model(file: Path) -> dict[str, Any]:
    """The compose file as docker compose itself understands it."""
    program = Path(sys.executable).parent / "docker-compose"
    command = [program, "-f", file, "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    model: dict[str, Any] = json.loads(done.stdout)
    return model


@contextmanager
def running(file: Path, work: Path, images: dict[str, Image]) -> Iterator[Compose]:
    """A compose file's services, ended with the context."""
    compose = Compose(file, work, images)
    try:
        yield compose
    finally:
        compose.close()
