"""A real S3 server for tests: SeaweedFS in one process, with credentials, that can be killed and started again."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

WEED = Path(sys.executable).parent / "weed"
START_SECONDS = 60.0
STOP_SECONDS = 15.0
GRPC_OFFSET = 10_000
FIRST_PORT = 12_000
LAST_PORT = 32_767
"""From the next one on the system hands out ports to clients, so one that is free now may be taken at once."""
SERVICES = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")


@dataclass(frozen=True)
class Account:
    """Somebody who may do something with the bucket."""

    key: str
    secret: str

    @property
    def env(self) -> dict[str, str]:
        """The variables in which clients look for credentials."""
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}


def make_account(name: str) -> Account:
    """Credentials that are new in each run, and recognizable when they show up where they must not."""
    return Account(f"{name}key{secrets.token_hex(6)}", f"{name}secret{secrets.token_hex(16)}")


@dataclass
class S3Server:
    """The server; start it with `start`, and always call `stop`.

    Attributes
    ----------
    folder : Path
        Where it keeps its objects; whoever made it removes it.
    owner, reader : Account
        Who may do everything, and who may only read.
    """

    folder: Path
    bucket: str = "cache"
    owner: Account = field(default_factory=lambda: make_account("owner"))
    reader: Account = field(default_factory=lambda: make_account("reader"))

    def __post_init__(self) -> None:
        self.ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where clients send their requests."""
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    @property
    def env(self) -> dict[str, str]:
        """What a client of the owner needs in its environment."""
        return {**self.owner.env, "AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": "us-east-1"}

    def url(self, path: str = "") -> str:
        """The address of a place in the bucket."""
        return f"s3://{self.bucket}/{path}".rstrip("/")

    def start(self) -> None:
        """Start it, and return when it serves the bucket."""
        assert self._process is None
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "accounts.json"
        config.write_text(json.dumps(self._accounts()))
        # A test run that is killed takes the server with it, where the system can do that.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        ports = [f"-{service}={port}" for service, port in self.ports.items()]
        settings = [f"-bucket={self.bucket}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={config}"]
        settings += [
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]
        settings += ["-s3.autoCreateBucket=false", "-volume.preStopSeconds=0"]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*guard, WEED, "mini", f"-dir={self.folder / 'data'}", *settings, *ports],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={**self._plain_env(), "GOMEMLIMIT": "1GiB"},
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it; nothing is left but its folder."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start it again on the same port with what it had."""
        self.kill()
        self.start()

    def ensure_running(self) -> None:
        """Start it if a test left it dead."""
        if self._process is None or self._process.poll() is not None:
            self.restart()

    def _end(self, sent: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(sent)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for port in self.ports.values():  # what it leaves when it is killed
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)
            for path in Path("/tmp").glob(f"seaweedfs-*-{port + GRPC_OFFSET}.sock"):
                path.unlink(missing_ok=True)

    def _accounts(self) -> object:
        def account(name: str, who: Account, actions: list[str]) -> object:
            return {
                "name": name,
                "credentials": [{"accessKey": who.key, "secretKey": who.secret}],
                "actions": actions,
            }

        everything = ["Admin", "Read", "Write", "List", "Tagging"]
        looking = [f"Read:{self.bucket}", f"List:{self.bucket}"]
        return {"identities": [account("owner", self.owner, everything), account("reader", self.reader, looking)]}

    def _plain_env(self) -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "S3_", "WEED_"))}

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        while not self._serves():
            assert self._process is not None
            assert self._process.poll() is None, f"the server ended: {self._last_words()}"
            assert time.monotonic() < end, f"the server is not ready: {self._last_words()}"
            time.sleep(0.05)

    def _serves(self) -> bool:
        """Whether the bucket is there and objects can be written."""
        import botocore.session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            with urllib.request.urlopen(self.endpoint, timeout=1):
                pass
        except urllib.error.HTTPError:
            pass  # it answers, and wants credentials
        except OSError:
            return False
        client = botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.owner.key,
            aws_secret_access_key=self.owner.secret,
            config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}),
        )
        try:
            client.put_object(Bucket=self.bucket, Key=".ready", Body=b"")
            client.delete_object(Bucket=self.bucket, Key=".ready")
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True

    def _last_words(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses, and neither those that lie 10,000 above them."""
    chance = random.Random(os.urandom(8))
    found: list[int] = []
    while len(found) < count:
        port = chance.randrange(FIRST_PORT, LAST_PORT - GRPC_OFFSET)
        if port not in found and is_free(port) and is_free(port + GRPC_OFFSET):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    """Whether a server could listen on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
