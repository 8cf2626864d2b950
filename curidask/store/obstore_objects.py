"""Objects in S3, Google's or Azure's storage through obstore, which is several times faster than fsspec.

Places hold the same bytes under the same keys whichever of the two is used. obstore cannot be used in a process that
was forked after its first use (its threads are not there, and every request would wait for ever): there, and where it
is not installed, the same objects go on through fsspec.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from curidask.errors import CacheError
from curidask.store.entries import Entry
from curidask.store.failures import Failure, ShortBodyError, classify
from curidask.store.fsspec_objects import make_client
from curidask.store.remote import RemoteObjects
from curidask.store.requests import TOKEN, Ask, Client
from curidask.store.storage_options import SERVICES, StorageOptions
from curidask.store.transfers import PART_BYTES, PARTS_AT_ONCE

PAGE = 1000
TRANSFER_SECONDS = 120
CREDENTIALS_LIFE = timedelta(minutes=10)
COPY_BYTES = 5 << 30
UNDERSTOOD = {
    "s3": {"key": "access_key_id", "secret": "secret_access_key", "token": "session_token"},
    "gs": {"token": "application_credentials"},
    "az": {"account_name": "account_name", "account_key": "account_key", "sas_token": "sas_key"},
}
"""Options that are no setting of ours, and what obstore calls them."""

# Just below each character that a name may end in, without the separator, so that a listing can begin there.
_ORDER = sorted("-._" + "0123456789" + "abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ")

NO_NAMES = ("", ".", "..")
"""What obstore does not take as a part of a path."""

_used_in: int | None = None


class ObstoreObjects(RemoteObjects):
    """Objects of a service that obstore knows.

    Parameters
    ----------
    url : str
    options : StorageOptions or mapping, optional
    """

    def _make_client(self) -> Client:
        if _used_in in (None, os.getpid()) and installed():
            return _client(os.getpid(), self.url, self.options.token(), _Hidden(self.options))
        return make_client(self.url, self.options)


def installed() -> bool:
    """Whether obstore is there."""
    try:
        return find_spec("obstore") is not None
    except ValueError:  # its place in sys.modules was taken
        return False


def suits(url: str, options: StorageOptions) -> bool:
    """Whether obstore can do what a URL and options ask for, as fsspec would."""
    parts = urlsplit(url)
    service = SERVICES.get(parts.scheme)
    if service is None or "::" in url:
        return False
    named = {*options.credentials, *options.variables, *options.driver}
    if not named <= set(UNDERSTOOD[service]):
        return False
    if service == "s3":
        # Where a bucket is, obstore does not find out by itself; nor does it read profiles, which botocore does for it.
        known = bool(options.endpoint_url or _endpoint() or _region(options))
        return known and (_has_credentials(options) or find_spec("botocore") is not None)
    return not options.profile and not options.endpoint_url


class ObstoreClient:
    """The requests of obstore; see `curidask.store.requests.Client`."""

    repeats = False

    def __init__(self, url: str, options: StorageOptions) -> None:
        global _used_in  # noqa: PLW0603 - from now on its threads belong to this process
        self.parallel = options.parallel_requests
        self.root = urlsplit(url).path.strip("/")
        self._prefix = f"{self.root}/" if self.root else ""
        self.container = url[: len(url) - len(urlsplit(url).path)]
        self._ordered = not urlsplit(url).netloc.endswith("--x-s3")  # such buckets list in no order
        seconds = options.read_timeout_seconds
        self._once = _make_store(self.container, options, seconds, retry_seconds=0)
        self._transfer = _make_store(self.container, options, max(TRANSFER_SECONDS, seconds), options.retry_seconds)
        _used_in = os.getpid()

    def pages(self, prefix: str) -> Iterator[list[Entry]]:
        """The objects whose keys begin with a prefix."""
        import obstore

        whole = self._prefix + prefix
        folder, _, start = whole.rpartition("/")
        begin = before(whole) if start and self._ordered else None
        skip = len(self._prefix)
        for chunk in obstore.list(self._once, folder or None, offset=begin, chunk_size=PAGE):
            yield [
                Entry(item["path"][skip:], item["size"], item["last_modified"].timestamp())
                for item in chunk
                if item["path"].startswith(whole)
            ]
            if begin is not None and is_past(chunk[-1]["path"], whole):
                return

    def has(self, key: str) -> bool:
        """Whether there is an object."""
        import obstore

        try:
            obstore.head(self._once, self._prefix + key)
        except FileNotFoundError:
            return False
        return True

    def size(self, key: str) -> int:
        """Its size in bytes."""
        import obstore

        return int(obstore.head(self._once, self._prefix + key)["size"])

    def get(self, key: str) -> bytes:
        """Its bytes."""
        import obstore

        result = obstore.get(self._once, self._prefix + key)
        data = bytes(result.bytes())
        if len(data) != result.meta["size"]:
            raise ShortBodyError(f"{len(data)} bytes instead of {result.meta['size']}")
        return data

    def get_range(self, key: str, start: int, end: int) -> Any:
        """Some of its bytes."""
        import obstore

        return memoryview(obstore.get_range(self._once, self._prefix + key, start=start, end=end))

    def put(self, key: str, data: bytes) -> None:
        """Write it in one step."""
        import obstore

        obstore.put(self._transfer_for(len(data)), self._prefix + key, data, use_multipart=False)

    def create(self, key: str, data: bytes, token: str) -> bool:
        """Write it on the condition that it is not there."""
        import obstore

        # Never repeated by obstore itself: a repetition could not tell its own object from another's.
        try:
            attributes: Any = {TOKEN: token}
            obstore.put(self._once, self._prefix + key, data, mode="create", use_multipart=False, attributes=attributes)
        except Exception as error:
            if classify(error).kind == "exists":
                return False
            raise
        return True

    def creator(self, key: str) -> str:
        """The token it was created with; empty where that is not known."""
        import obstore

        attributes: Any = obstore.get(self._once, self._prefix + key, options={"head": True}).attributes
        return str(attributes.get(TOKEN, ""))

    def upload(self, key: str, blocks: Callable[[], Iterator[bytes]], size: int, ask: Ask) -> None:
        """Write a large one from blocks."""
        import obstore

        part_bytes = max(PART_BYTES, -(-size // 9_000))
        ask(
            lambda: obstore.put(
                self._transfer,
                self._prefix + key,
                blocks(),
                use_multipart=True,
                chunk_size=part_bytes,
                max_concurrency=PARTS_AT_ONCE,
            )
        )

    def delete(self, keys: list[str]) -> None:
        """Remove some."""
        import obstore

        try:
            obstore.delete(self._once, [self._prefix + key for key in keys])
        except FileNotFoundError as error:
            if classify(error).kind != "missing":
                raise
            for key in keys if len(keys) > 1 else ():  # not every service passes over what is not there
                self.delete([key])

    def copy(self, source: Any, source_key: str, key: str) -> bool:
        """Let the service copy an object."""
        import obstore

        if not isinstance(source, ObstoreClient) or source.container != self.container:
            return False
        if source.size(source_key) > COPY_BYTES:
            return False
        obstore.copy(self._transfer, source._prefix + source_key, self._prefix + key)
        return True

    def _transfer_for(self, size: int) -> Any:
        """The store with more patience for a request that carries much."""
        return self._once if size < PART_BYTES // 8 else self._transfer


# --- listing from the middle ------------------------------------------------------------------------------------------
def before(prefix: str) -> str | None:
    """A name just below all that begin with a prefix, None where there is no safe one.

    obstore lists folders, and what a name begins with is no folder; but a listing may begin after a name.
    """
    folder, slash, start = prefix.rpartition("/")
    below = [character for character in _ORDER if character < start[-1]]
    name = start[:-1] + (below[-1] + "~" if below else "")
    return folder + slash + name if name not in NO_NAMES else None


def is_past(name: str, prefix: str) -> bool:
    """Whether no name that begins with the prefix can follow in a listing.

    Services order names by their bytes, or folder by folder; it must be past in both.
    """
    return not name.startswith(prefix) and name > prefix and name.split("/") > prefix.split("/")


# --- opening ---------------------------------------------------------------------------------------------------------
class _Hidden:
    """Options as an argument of a cached function: all are equal, the token beside them tells them apart."""

    def __init__(self, options: StorageOptions) -> None:
        self.options = options

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=16)
def _client(pid: int, url: str, token: str, hidden: _Hidden) -> ObstoreClient:
    return ObstoreClient(url, hidden.options)


def _make_store(container: str, options: StorageOptions, seconds: float, retry_seconds: float) -> Any:
    from obstore.store import AzureStore, GCSStore, S3Store

    parts = urlsplit(container)
    service = SERVICES[parts.scheme]
    credentials = {UNDERSTOOD[service][name]: value for name, value in options.resolved().items()}
    credentials |= {UNDERSTOOD[service][name]: value for name, value in options.driver.items()}
    endpoint = options.endpoint_url or _endpoint()
    config: dict[str, Any] = {**credentials, **({"skip_signature": True} if options.anon else {})}
    rest: dict[str, Any] = {
        "client_options": _client_options(options, seconds, endpoint if service == "s3" else ""),
        "retry_config": {
            "max_retries": 10 if retry_seconds else 0,
            "retry_timeout": timedelta(seconds=retry_seconds),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
        },
    }
    if service == "gs":
        return GCSStore(parts.netloc, config=config, **rest)
    if service == "az":
        name, _, host = parts.netloc.partition("@")
        if host:
            config.setdefault("account_name", host.partition(".")[0])
        return AzureStore(name, config=config, **rest)
    config |= _s3_config(options, endpoint)
    if not options.anon and not _has_credentials(options):
        rest["credential_provider"] = BotocoreCredentials(options.profile, container)
    return S3Store(parts.netloc, config=config, **rest)


def _s3_config(options: StorageOptions, endpoint: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    region = _region(options)
    if region:
        config["region"] = region
    if endpoint:
        config["endpoint"] = endpoint
    if options.requester_pays:
        config["request_payer"] = True
    virtual = options.addressing_style == "virtual" or (options.addressing_style == "auto" and not endpoint)
    return {**config, "virtual_hosted_style_request": virtual}


def _client_options(options: StorageOptions, seconds: float, endpoint: str) -> dict[str, Any]:
    bundle = options.ca_bundle or os.environ.get("AWS_CA_BUNDLE", "")
    found: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=options.connect_timeout_seconds),
        "timeout": timedelta(seconds=seconds),
        "pool_max_idle_per_host": str(options.max_pool_connections),
    }
    if endpoint.startswith("http://"):
        found["allow_http"] = True
    if bundle:
        try:
            found["root_certificate"] = Path(bundle).read_bytes()
        except OSError as error:
            raise CacheError(
                f"The file of trusted certificates cannot be read: {error.strerror}.",
                where=bundle,
                fix="correct its path",
            ) from error
    return found


class BotocoreCredentials:
    """Gives obstore what botocore finds: profiles, single sign-on, roles of machines; renewed before they expire.

    Parameters
    ----------
    profile : str
        Empty for the usual one.
    url : str
        What they are for.
    """

    def __init__(self, profile: str, url: str) -> None:
        import botocore.exceptions
        import botocore.session

        try:
            self._found = botocore.session.Session(profile=profile or None).get_credentials()
        except botocore.exceptions.BotoCoreError as error:
            raise classify(error).error("read", url, url) from error
        if self._found is None:
            raise Failure("none").error("read", url, url)

    def __call__(self) -> dict[str, Any]:
        """The credentials that hold now."""
        frozen = self._found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + CREDENTIALS_LIFE,
        }


def _has_credentials(options: StorageOptions) -> bool:
    """Whether obstore finds credentials without botocore's help."""
    given = {*options.credentials, *options.variables}
    in_environment = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(os.environ)
    return options.anon or {"key", "secret"} <= given or (in_environment and not options.profile)


def _endpoint() -> str:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _region(options: StorageOptions) -> str:
    region = options.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    if region or find_spec("botocore") is None:
        return region
    import botocore.exceptions
    import botocore.session

    try:
        return botocore.session.Session(profile=options.profile or None).get_config_variable("region") or ""
    except botocore.exceptions.BotoCoreError:
        return ""  # what is wrong with the profile shows when it is used
