"""Objects in S3, Google's or Azure's storage through obstore, which is several times faster than fsspec.

Places hold the same bytes under the same keys whichever of the two is used. obstore is used where all that is
configured is known to mean the same to it, which each process decides for itself. It cannot be used in a process that
was forked after its first use (its threads are not there, and every request would wait for ever). There, and where it
is not installed, the same objects go on through fsspec; so do those of a bucket that turns out to be elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curidask.errors import CacheError
from curidask.store.backends.addresses import Address, split_address
from curidask.store.backends.entries import Entry, plain_tag
from curidask.store.backends.errors import ShortBodyError, classify
from curidask.store.backends.fsspec import configured_for_fsspec, make_client
from curidask.store.backends.options import (
    NOBODY,
    SAMPLE,
    SERVICES,
    BotocoreCredentials,
    NotAlikeError,
    StorageOptions,
    Target,
    find_target,
    given_credentials,
)
from curidask.store.backends.remote import RemoteObjects
from curidask.store.backends.requests import TOKEN, Ask, Client
from curidask.store.backends.transfer import COPY_BYTES, PART_BYTES, PARTS_AT_ONCE, WHOLE_BYTES

# --- whether obstore does what fsspec does with what is configured, and how its stores are made ----------------------
LONGEST_REQUEST = timedelta(days=1)
UNDERSTOOD = {
    "s3": {"key": "access_key_id", "secret": "secret_access_key", "token": "session_token"},
    "gs": {"token": "application_credentials"},
    "az": {"account_name": "account_name", "account_key": "account_key", "sas_token": "sas_key"},
}
"""Options that are no setting of ours, and what obstore calls them."""

_VARIABLES = {
    "gs": (("GOOGLE_", "STORAGE_EMULATOR_HOST"), ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT")),
    "az": (("AZURE_",), ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY")),
}
"""How the names of variables begin that a service's clients read, and those that mean the same to obstore."""

_used_in: int | None = None


class Hidden:
    """Options as an argument of a cached function: all are equal, the token beside them tells them apart."""

    def __init__(self, options: StorageOptions) -> None:
        self.options = options

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden)

    def __hash__(self) -> int:
        return 0


# --- whether it does the same ----------------------------------------------------------------------------------------
def installed() -> bool:
    """Whether obstore is there."""
    try:
        return find_spec("obstore") is not None
    except ValueError:  # its place in sys.modules was taken
        return False


def suits(url: str, options: StorageOptions) -> bool:
    """Whether obstore does here what fsspec does with this URL, these options, and what else is configured."""
    try:
        check_suits(url, options)
    except NotAlikeError:
        return False
    return _used_in in (None, os.getpid())


def check_suits(url: str, options: StorageOptions) -> None:
    """Raise `NotAlikeError`, which says why, where obstore is not known to do what fsspec does."""
    why = _why_not(os.getpid(), split_address(url).container, options.token(), Hidden(options))
    if why:
        raise NotAlikeError(why)


def uses_threads() -> None:
    """Note that obstore has begun to work in this process, and so cannot in its forked children."""
    global _used_in  # noqa: PLW0603 - from now on its threads belong to this process
    _used_in = os.getpid()


@lru_cache(maxsize=64)
def _why_not(pid: int, container: str, token: str, hidden: Hidden) -> str:
    """Why obstore is not known to do what fsspec does; empty where it is."""
    address, options = split_address(container), hidden.options
    try:
        _check_options(address, options)
        if SERVICES[address.protocol] == "s3" and _used_in in (None, pid):
            _s3_target(pid, container, token, hidden)
    except NotAlikeError as error:
        return str(error)
    return ""


def _check_options(address: Address, options: StorageOptions) -> None:
    service = SERVICES.get(address.protocol)
    if service is None or "::" in address.container:
        raise NotAlikeError(f"obstore knows nothing of {address.protocol}://")
    if configured_for_fsspec(address.protocol):
        raise NotAlikeError(f"fsspec is configured for {address.protocol}://")
    named = {*options.credentials, *options.variables, *options.driver}
    others = named - set(UNDERSTOOD[service])
    if others:
        raise NotAlikeError(f"the option {min(others)!r} is for fsspec")
    if service == "s3":
        _check_s3_options(named)
    else:
        _check_cloud_options(service, options)


def _check_s3_options(named: set[str]) -> None:
    if named and not {"key", "secret"} <= named:
        raise NotAlikeError("a key and its secret are not given together")
    if find_spec("botocore") is None:
        raise NotAlikeError("botocore, which reads how S3 is configured, is missing")


def _check_cloud_options(service: str, options: StorageOptions) -> None:
    if options.profile or options.endpoint_url:
        raise NotAlikeError("a profile or an endpoint is given")
    beginnings, known = _VARIABLES[service]
    others = [name for name in os.environ if name.startswith(beginnings) and name not in known]
    if others:
        raise NotAlikeError(f"{min(others)} is set")


@lru_cache(maxsize=64)
def _s3_target(pid: int, container: str, token: str, hidden: Hidden) -> Target:
    """What botocore says, if obstore's requests go to the same place."""
    address, options = split_address(container), hidden.options
    target = find_target(address.bucket, options)
    import obstore
    from obstore.store import S3Store

    # Tried, since obstore lets variables win over what it is told.
    nobody = {"access_key_id": NOBODY, "secret_access_key": NOBODY, "expires_at": None}
    store: Any = S3Store(
        address.bucket,
        config=_s3_config(target, options, signs=True),
        client_options={"allow_http": True},
        credential_provider=partial(dict, nobody),
    )
    uses_threads()
    url, _, query = obstore.sign(store, "GET", SAMPLE, timedelta(minutes=1)).partition("?")
    if url != target.address(address.bucket, SAMPLE):
        raise NotAlikeError(f"obstore would send requests to {url}")
    if not re.search(rf"Credential={NOBODY}%2F\d{{8}}%2F{re.escape(target.region)}%2Fs3%2F", query):
        raise NotAlikeError("obstore would sign requests in another way")
    return target


def store_maker(address: Address, options: StorageOptions) -> Callable[[float, float], Any]:
    """What makes stores that wait so many seconds while nothing arrives, and repeat requests for so many."""
    service = SERVICES[address.protocol]
    make, target = (_s3_maker if service == "s3" else _cloud_maker)(address, options)
    client = _client_options(options, target)

    def make_store(silence_seconds: float, retry_seconds: float) -> Any:
        return make(
            client_options={**client, "read_timeout": timedelta(seconds=silence_seconds)},
            retry_config={
                "max_retries": 10 if retry_seconds else 0,
                "retry_timeout": timedelta(seconds=retry_seconds),
                "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
            },
        )

    return make_store


def _s3_maker(address: Address, options: StorageOptions) -> tuple[Callable[..., Any], Target | None]:
    from obstore.store import S3Store

    url = address.container
    target = _s3_target(os.getpid(), url, options.token(), Hidden(options))
    rest: dict[str, Any] = {"config": _s3_config(target, options, signs=not options.anon)}
    if not options.anon:
        # Also those that are given: else obstore would complete them from the environment.
        given = given_credentials({**options.driver, **options.resolved()})
        rest["credential_provider"] = partial(dict, given) if given else BotocoreCredentials(options.profile, url)
    return partial(S3Store, address.bucket, **rest), target


def _s3_config(target: Target, options: StorageOptions, *, signs: bool) -> dict[str, Any]:
    return {
        "endpoint": target.endpoint,
        "virtual_hosted_style_request": target.virtual,
        "region": target.region,
        "skip_signature": not signs,
        "request_payer": options.requester_pays,
    }


def _cloud_maker(address: Address, options: StorageOptions) -> tuple[Callable[..., Any], Target | None]:
    from obstore.store import AzureStore, GCSStore

    service = SERVICES[address.protocol]
    given = {**options.driver, **options.resolved()}
    config: dict[str, Any] = {UNDERSTOOD[service][name]: value for name, value in given.items()}
    if options.anon:
        config["skip_signature"] = True
    if service == "gs":
        return partial(GCSStore, address.bucket, config=config), None
    name, _, host = address.bucket.partition("@")
    if host:
        config.setdefault("account_name", host.partition(".")[0])
    return partial(AzureStore, name, config=config), None


def _client_options(options: StorageOptions, target: Target | None) -> dict[str, Any]:
    bundle = target.ca_bundle if target else options.ca_bundle
    found: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=options.connect_timeout_seconds),
        "timeout": LONGEST_REQUEST,  # what is limited is how long nothing arrives
        "pool_max_idle_per_host": str(options.max_pool_connections),
    }
    if target and target.endpoint.startswith("http://"):
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


# --- obstore ---------------------------------------------------------------------------------------------------------
PAGE = 1000
SLOWEST_BYTES_PER_SECOND = 1 << 16
SMALL_BYTES = 1 << 17
# Just below each character that a name may end in, without the separator, so that a listing can begin there.
_ORDER = sorted("-._" + "0123456789" + "abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ")

NO_NAMES = ("", ".", "..")
"""What obstore does not take as a part of a path."""


class ObstoreObjects(RemoteObjects):
    """Objects of a service that obstore knows."""

    def _make_client(self) -> Client:
        if installed() and suits(self.url, self.options):
            return _client(os.getpid(), self.url, self.options.token(), Hidden(self.options))
        return self._make_other()

    def _make_other(self) -> Client:
        return make_client(self.url, self.options)


class ObstoreClient:
    """The requests of obstore; see `curidask.store.backends.requests.Client`."""

    repeats = False

    def __init__(self, url: str, options: StorageOptions) -> None:
        address = split_address(url)
        self.parallel = options.parallel_requests
        self.root = address.path
        self._prefix = f"{self.root}/" if self.root else ""
        self.container = address.container
        self._other: Callable[[], Client] = partial(make_client, url, options)
        self._lists: Client = self
        make = store_maker(address, options)
        silence = options.read_timeout_seconds
        # While a body is sent nothing is read, so a large one needs more patience than silence would get.
        sending = WHOLE_BYTES / SLOWEST_BYTES_PER_SECOND
        self._once = make(silence, 0.0)
        self._transfer = make(silence + sending, options.retry_seconds)
        uses_threads()

    def pages(self, prefix: str) -> Iterator[list[Entry]]:
        """The objects whose keys begin with a prefix."""
        if self._lists is self:
            try:
                yield from self._own_pages(prefix)
                return
            except Exception as error:
                if not _is_foreign_key(error):
                    raise
            self._lists = self._other()  # somebody else's key, which obstore cannot pass over
        yield from self._lists.pages(prefix)

    def _own_pages(self, prefix: str) -> Iterator[list[Entry]]:
        import obstore

        whole = self._prefix + prefix
        folder, _, start = whole.rpartition("/")
        begin = before(whole) if start else None
        skip = len(self._prefix)
        for chunk in obstore.list(self._once, folder or None, offset=begin, chunk_size=PAGE):
            yield [
                Entry(item["path"][skip:], item["size"], item["last_modified"].timestamp(), plain_tag(item["e_tag"]))
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
        return self._once if size < SMALL_BYTES else self._transfer


def _is_foreign_key(error: Exception) -> bool:
    """Whether a listing has a key that obstore takes for no path, or that XML cannot hold."""
    kind = type(error).__name__
    return kind == "InvalidPathError" or re.search(r"invalid path|invalid list response", str(error), re.I) is not None


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
@lru_cache(maxsize=16)
def _client(pid: int, url: str, token: str, hidden: Hidden) -> ObstoreClient:
    return ObstoreClient(url, hidden.options)
