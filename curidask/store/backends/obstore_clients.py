"""Whether obstore does what fsspec does with what is configured, and how its stores are made."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curidask.errors import CacheError
from curidask.store.backends.addresses import Address, split_address
from curidask.store.backends.fsspec import configured_for_fsspec
from curidask.store.backends.options import SERVICES, StorageOptions
from curidask.store.backends.s3_target import (
    NOBODY,
    SAMPLE,
    BotocoreCredentials,
    NotAlikeError,
    Target,
    find_target,
    given_credentials,
)

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
