"""Addresses of places in the network, taken apart in one way for all clients.

Each client has its own way to read what is no plain name in an address: to some ``#`` begins a fragment or a
generation, ``?`` a version, and of ``//`` or ``..`` some make another path. So those are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from curidask.core.artifact_names import is_object_name
from curidask.errors import CacheError
from curidask.store.backends.options import SERVICES


@dataclass(frozen=True, slots=True)
class Address:
    """An address in parts.

    Attributes
    ----------
    bucket : str
        What follows the protocol up to the path; Azure's may name an account behind an ``@``.
    path : str
        Below the bucket, without slashes at its ends.
    """

    protocol: str
    bucket: str
    path: str

    @property
    def container(self) -> str:
        """The address without its path."""
        return f"{self.protocol}://{self.bucket}"


def split_address(url: str) -> Address:
    """Take an address apart."""
    protocol, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    return Address(protocol, bucket, path.strip("/"))


def check_address(url: str) -> None:
    """Raise a `CacheError` for an address of a bucket that does not mean the same to all clients."""
    for part in url.split("::"):
        if part.partition("://")[0] in SERVICES:
            problem = _problem(part.rstrip("/"))
            if problem:
                raise CacheError(
                    f"The address of the cache has {problem}.",
                    where=url,
                    fix="give a bucket, and below it plain names with one '/' between two, as in s3://bucket/team/cache",
                )


def _problem(url: str) -> str:
    address = split_address(url)
    if not address.bucket:
        return "no bucket"
    for character in "#?":
        if character in url:
            return f"a {character!r}, which not all clients take for a part of a name"
    if not url.isprintable():
        return "a character that does not show"
    below = url[len(address.container) + 1 :]
    if below and not is_object_name(below):
        return f"a part that is no plain name: {below!r}"
    return ""


def inside_one_another(urls: Iterable[str]) -> tuple[str, str] | None:
    """An address and one that lies inside of it, if there are such."""
    known = [url.rstrip("/") for url in urls]
    return next(((outer, inner) for outer in known for inner in known if inner.startswith(f"{outer}/")), None)
