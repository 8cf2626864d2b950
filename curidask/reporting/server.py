"""Serves the folder of reports, and nothing else."""

from __future__ import annotations

import errno
import socket
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from curidask.errors import ConfigurationError

LOOPBACK = ("localhost", "127.0.0.1", "::1")

SANDBOX = "sandbox allow-scripts"
"""For what users put into reports: when it is opened by itself, it cannot reach the other pages of the server."""

DEPTH_OF_PAGES = 2
"""Pages of ours are ``index.html`` and ``REFERENCE/index.html``; what users show lies in folders below that."""


class Handler(SimpleHTTPRequestHandler):
    """Answers requests for files of the folder; lists no folder."""

    server: ReportServer
    server_version = "curidask"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    _is_ours = False

    def send_head(self) -> Any:
        """Refuse what is not for us; the base class finds the file."""
        self._is_ours = False
        if not self.server.answers_to(self.headers.get("Host", "")):
            # Another site's page could lead its own name to this address, and read the reports under that name.
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This server has another name")
            return None
        # What is decided on is the very path that the base class opens, decoded, and where links in it lead.
        place = Path(self.translate_path(self.path))
        led, folder = place.resolve(), self.server.folder
        hidden = any(part.startswith(".") for part in place.relative_to(folder).parts)
        if hidden or not led.is_relative_to(folder):
            self.send_error(HTTPStatus.NOT_FOUND, "File not found")
            return None
        depths = [len(path.relative_to(folder).parts) + path.is_dir() for path in (place, led)]
        self._is_ours = max(depths) <= DEPTH_OF_PAGES
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        """No listing."""
        self.send_error(HTTPStatus.NOT_FOUND, "File not found")

    def end_headers(self) -> None:
        """Add what keeps pages apart."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-cache")
        if not self._is_ours:
            self.send_header("Content-Security-Policy", SANDBOX)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal quiet."""


class ReportServer(ThreadingHTTPServer):
    """A server of reports on this machine.

    Parameters
    ----------
    folder : Path
        What is served.
    host : str
        The address to listen on.
    port : int
        0 for any free one.

    Raises
    ------
    ConfigurationError
        When it cannot listen there.
    """

    daemon_threads = True

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 8080) -> None:
        self.folder = folder.resolve()
        self.host = host
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.address_family = family
            super().__init__((str(address[0]), port), partial(Handler, directory=str(self.folder)))
        except OSError as error:
            raise _cannot_listen(error, host, port) from None

    @property
    def url(self) -> str:
        """What to open."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """Bind, without asking the network for this machine's full name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def answers_to(self, host: str) -> bool:
        """Whether a request's Host header names this server; one that listens on all addresses has any name."""
        name = host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]")
        open_to_all = self.host not in LOOPBACK
        return open_to_all or name.lower() in LOOPBACK

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is no error."""


def _cannot_listen(error: OSError, host: str, port: int) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        what, fix = f"The port {port} is taken.", "choose another with --port, or --port 0 for any free one"
    elif error.errno == errno.EACCES:
        what, fix = f"The port {port} needs more rights.", "choose one above 1023 with --port"
    else:
        what, fix = f"Nothing can listen on {host}: {error.strerror or error}.", "choose an address of this machine"
    return ConfigurationError(what, where=f"--host {host} --port {port}", fix=fix)
