"""A proxy in front of an S3 server that counts requests by kind and makes some of them go wrong on the wire."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

How = Literal["slow_down", "internal_error", "expired", "reset", "lost_reply", "truncated", "corrupted", "stall"]

BLOCK_BYTES = 1 << 16
REFUSALS = {
    "slow_down": (503, "SlowDown"),
    "internal_error": (500, "InternalError"),
    "expired": (400, "ExpiredToken"),
}


@dataclass(frozen=True)
class Request:
    """What a client asks for."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]

    @property
    def kind(self) -> str:
        """One word for what the request does."""
        if self.method == "GET":
            return "list" if "list-type" in self.query else "get"
        if self.method == "PUT" and "partnumber" in {name.lower() for name in self.query}:
            return "part"
        if self.method == "PUT":
            return "copy" if "x-amz-copy-source" in self.headers else "put"
        if self.method == "POST":
            return "bulk_delete" if "delete" in self.query else "multipart"
        return self.method.lower()


@dataclass
class Rule:
    """Makes requests go wrong: the next `times` that fit, or each by chance."""

    how: How
    kinds: frozenset[str]
    times: float = float("inf")
    share: float = 1.0
    name: str = ""
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def hits(self, request: Request) -> bool:
        """Whether it is this one's turn."""
        if self.times <= 0 or (self.kinds and request.kind not in self.kinds) or self.name not in request.path:
            return False
        if self.chance.random() >= self.share:
            return False
        self.times -= 1
        return True


class S3Proxy:
    """Listens on a free port of the loopback interface; use it as a context manager.

    Parameters
    ----------
    endpoint : str
        The server behind it.
    latency_seconds : float
        What each request waits before it is passed on, as on a long way.

    Attributes
    ----------
    counts : Counter
        Requests by kind, those that went wrong too.
    injected : Counter
        What went wrong.
    """

    def __init__(self, endpoint: str, latency_seconds: float = 0.0) -> None:
        parts = urlsplit(endpoint)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.latency_seconds = latency_seconds
        self.counts: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.seen: list[Request] = []
        self._rules: list[Rule] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> S3Proxy:
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def endpoint(self) -> str:
        """Where clients send their requests."""
        return f"http://127.0.0.1:{self.port}"

    def listen(self) -> None:
        """Open the port, the one it had before if it was closed."""
        self._run(self._listen())

    def close(self) -> None:
        """Close the port and all connections, as a server that is gone."""
        self._run(self._close())

    def fail(self, how: How, *kinds: str, times: float = 1, name: str = "") -> None:
        """Let the next requests of some kinds (all, if none is named), to names with a part, go wrong."""
        self._rules.append(Rule(how, frozenset(kinds), times=times, name=name))

    def fail_by_chance(self, share: float, seed: int, hows: Iterable[How]) -> None:
        """Let a share of all requests go wrong, in several ways."""
        hows = list(hows)
        for index, how in enumerate(hows):
            chance = random.Random(f"{seed} {index}")
            self._rules.append(Rule(how, frozenset(), share=share / len(hows), chance=chance))

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self._rules.clear()

    def reset_counts(self) -> None:
        """Count from zero again."""
        self.counts.clear()
        self.injected.clear()
        self.seen.clear()

    # --- in the loop's thread ----------------------------------------------------------------------------------------
    def _run(self, action: object) -> None:
        asyncio.run_coroutine_threadsafe(action, self._loop).result(30)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        upstream = None
        try:
            upstream = await asyncio.open_connection(*self._upstream, limit=BLOCK_BYTES)
            while await self._exchange(reader, writer, *upstream):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            for end in (writer, upstream[1] if upstream else None):
                if end is not None:
                    end.transport.abort()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> bool:
        """Pass one request on and its answer back; False when the connection ends."""
        head, request = await _read_request(reader)
        self.counts[request.kind] += 1
        self.seen.append(request)
        how = next((rule.how for rule in self._rules if rule.hits(request)), None)
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        if how is not None:
            self.injected[how] += 1
        if how == "stall":
            await asyncio.sleep(3600)
        if how == "reset":
            return False
        if "100-continue" in request.headers.get("expect", ""):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        refusal = REFUSALS.get(how or "")
        if refusal is None:
            to_server.write(re.sub(rb"(?im)^expect:.*\r\n", b"", head))
        target = to_server if refusal is None else None
        await _pass(reader, target, _length(request.headers), chunked=_is_chunked(request.headers))
        if refusal is not None:
            writer.write(_refusal(*refusal, empty=request.method == "HEAD"))
            await writer.drain()
            return True
        return await self._answer(request, how, from_server, writer)

    async def _answer(
        self, request: Request, how: How | None, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = await from_server.readuntil(b"\r\n\r\n")
        headers = _headers(head)
        empty = request.method == "HEAD" or head[9:12] in (b"204", b"304")
        length = 0 if empty else _length(headers)
        chunked = not empty and _is_chunked(headers)
        if how == "lost_reply":
            await _pass(from_server, None, length, chunked=chunked)
            return False
        if how in ("truncated", "corrupted") and length > 1:
            body = bytearray(await from_server.readexactly(length))
            if how == "corrupted":
                body[length // 2] ^= 1
            writer.write(head + (body if how == "corrupted" else body[: length // 2]))
            await writer.drain()
            return how == "corrupted"
        writer.write(head)
        await _pass(from_server, writer, length, chunked=chunked)
        await writer.drain()
        return "close" not in headers.get("connection", "").lower()


async def _read_request(reader: asyncio.StreamReader) -> tuple[bytes, Request]:
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    return head, Request(method, unquote(parts.path), query, _headers(head))


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


def _length(headers: dict[str, str]) -> int:
    return int(headers.get("content-length", "0"))


def _is_chunked(headers: dict[str, str]) -> bool:
    return "chunked" in headers.get("transfer-encoding", "").lower()


async def _pass(
    source: asyncio.StreamReader, target: asyncio.StreamWriter | None, length: int, *, chunked: bool = False
) -> None:
    """Pass a body on, or read it and forget it."""
    if not chunked:
        await _move(source, target, length)
        return
    size = 1
    while size:
        line = await source.readuntil(b"\r\n")
        if target is not None:
            target.write(line)
        size = int(line.split(b";")[0], 16)
        await _move(source, target, size + 2)


async def _move(source: asyncio.StreamReader, target: asyncio.StreamWriter | None, count: int) -> None:
    while count:
        block = await source.read(min(count, BLOCK_BYTES))
        if not block:
            raise asyncio.IncompleteReadError(b"", count)
        count -= len(block)
        if target is not None:
            target.write(block)
            await target.drain()


def _refusal(status: int, code: str, *, empty: bool) -> bytes:
    body = (
        b"" if empty else f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
    )
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
