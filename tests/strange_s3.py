"""A small server with the requests of S3 that is slow, somewhere else, or holds keys that nobody can make here."""

from __future__ import annotations

import re
import socket
import time
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import unescape

from tests.careless_s3 import CarelessS3, Handler


class StrangeS3(CarelessS3):
    """Listens on a free port of the loopback interface; use it as a context manager.

    Parameters
    ----------
    region : str
        Requests that are signed for another one are sent there, as S3 does it; empty for any.
    pause_seconds : float
        After each tenth of a body.

    Attributes
    ----------
    asked : list of str
        The addresses that were asked for, as the requests have them, with their methods.
    headers : list of mapping
        The headers of each request, by their names in lower case.
    """

    def __init__(self, region: str = "", pause_seconds: float = 0.0) -> None:
        super().__init__("ignores")
        self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # what is not read is not sent
        self.region = region
        self.pause_seconds = pause_seconds
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._server.RequestHandlerClass = type("Bound", (StrangeHandler,), {"careless": self})

    def listing(self, bucket: str, prefix: str) -> bytes:
        """What is there, with its keys quoted as whoever asks for that gets it."""
        found = super().listing(bucket, prefix).decode()
        if "encoding-type=url" in self.asked[-1]:
            found = re.sub("(?s)<Key>(.*?)</Key>", lambda key: f"<Key>{quote(unescape(key[1]))}</Key>", found)
            found = found.replace("<IsTruncated>", "<EncodingType>url</EncodingType><IsTruncated>")
        for number in (1, 10, 127):  # XML cannot hold most of them as they are
            found = found.replace(chr(number), f"&#{number};")
        return found.encode()


class StrangeHandler(Handler):
    """Answers requests in its own way."""

    careless: StrangeS3

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if parsed:
            self.careless.asked.append(f"{self.command} {self.path}")
            self.careless.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.path = urlsplit(self.path)._replace(scheme="", netloc="").geturl()  # a proxy is asked for the whole
        return parsed

    def do_GET(self) -> None:
        if not self.is_elsewhere():
            super().do_GET()

    def do_PUT(self) -> None:
        if self.is_elsewhere():
            return
        source = self.headers.get("x-amz-copy-source")
        if source is None:
            super().do_PUT()
        else:
            self.careless.content[unquote(self.path)] = self.careless.content[unquote(f"/{source.lstrip('/')}")]
            self.answer(200, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>")

    def is_elsewhere(self) -> bool:
        """Whether the request belongs into another region; says so."""
        region = self.careless.region
        if not region or f"/{region}/s3/" in self.headers.get("Authorization", ""):
            return False
        self.body()
        if self.command == "HEAD":
            self.answer(400)
        else:
            self.answer(301, b"<Error><Code>PermanentRedirect</Code><Message>use another endpoint</Message></Error>")
        return True

    def body(self) -> bytes:
        length = int(self.headers.get("Content-Length", "0"))
        read = b""
        while len(read) < length:
            read += self.rfile.read(min(length - len(read), max(length // 10, 1)))
            time.sleep(self.careless.pause_seconds)
        return read

    def end_headers(self) -> None:
        if self.careless.region:
            self.send_header("x-amz-bucket-region", self.careless.region)
        super().end_headers()

    def answer(self, status: int, body: bytes = b"") -> None:
        if not self.careless.pause_seconds or len(body) < 10 or self.command == "HEAD":
            super().answer(status, body)
            return
        self.send_response(status)
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        step = max(len(body) // 10, 1)
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            time.sleep(self.careless.pause_seconds)
