"""A small server with the requests of S3 that takes conditions and does not keep them, as several real ones do."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

Way = Literal["ignores", "races"]


class CarelessS3:
    """Listens on a free port of the loopback interface; use it as a context manager.

    Parameters
    ----------
    way : {"ignores", "races"}
        It overwrites in spite of `If-None-Match`, or it looks first and writes later, so that several may win.
    """

    def __init__(self, way: Way) -> None:
        self.way = way
        self.content: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"careless": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> CarelessS3:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """Where clients send their requests."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def put(self, path: str, data: bytes, *, only_new: bool) -> int:
        """Write an object; the HTTP status."""
        if only_new and self.way == "races":
            if path in self.content:
                return 412
            time.sleep(0.05)  # others look in the meantime
        self.content[path] = data
        return 200

    def listing(self, bucket: str, prefix: str) -> bytes:
        """What is there, as S3 lists it."""
        start = len(bucket) + 2
        keys = sorted(path[start:] for path in self.content if path[start:].startswith(prefix))
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.content[f'/{bucket}/{key}'])}</Size>"
            "<LastModified>2026-01-01T00:00:00Z</LastModified><ETag>x</ETag></Contents>"
            for key in keys
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode()


class Handler(BaseHTTPRequestHandler):
    """Answers requests with what the server has."""

    protocol_version = "HTTP/1.1"
    careless: CarelessS3

    def do_PUT(self) -> None:
        path = unquote(urlsplit(self.path).path)
        only_new = self.headers.get("If-None-Match") == "*"
        self.answer(self.careless.put(path, self.body(), only_new=only_new))

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query, path = parse_qs(parts.query), unquote(parts.path)
        if "list-type" in query:
            self.answer(200, self.careless.listing(path.strip("/"), query.get("prefix", [""])[0]))
        elif path in self.careless.content:
            self.answer(200, self.careless.content[path])
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.careless.content.pop(unquote(urlsplit(self.path).path), None)
        self.answer(204)

    def do_POST(self) -> None:
        bucket = urlsplit(self.path).path.strip("/")
        keys = [part.partition("</Key>")[0] for part in self.body().decode().split("<Key>")[1:]]
        for key in keys:
            self.careless.content.pop(f"/{bucket}/{unescape(key)}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (("ETag", '"x"'), ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
