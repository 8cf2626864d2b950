"""Where requests to a bucket of S3 go: asked of botocore, which reads how that is configured and makes s3fs's requests.

obstore is told the answer, so both send the same requests to the same place. It reads neither profiles nor services
sections itself, and takes variables that botocore does not know; where something is configured that it is not known to
do likewise, it is not used.
"""

from __future__ import annotations

import logging
import os
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import urlsplit

from curidask.store.backends.errors import Failure, classify
from curidask.store.backends.options import StorageOptions

NOBODY = "nobody"
SAMPLE = "a/b"
CREDENTIALS_LIFE = timedelta(minutes=10)

# Of the request that botocore makes: what obstore sends too, or what says nothing about the object.
_HEADERS = frozenset(
    {
        "user-agent",
        "x-amz-date",
        "x-amz-content-sha256",
        "authorization",
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "x-amz-request-payer",
        "x-amz-checksum-mode",
    }
)
_SIGNED = re.compile(rf"AWS4-HMAC-SHA256 Credential={NOBODY}/\d{{8}}/([^/]+)/s3/aws4_request,")

# What these say, botocore has answered for, or it changes no request to a bucket, and obstore does not read it.
_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_ACCOUNT_ID",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_SDK_LOAD_CONFIG",
        "AWS_VAULT",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_USE_FIPS_ENDPOINT",
        "AWS_USE_DUALSTACK_ENDPOINT",
        "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT",
        "AWS_S3_USE_ARN_REGION",
        "AWS_STS_REGIONAL_ENDPOINTS",
        "AWS_CA_BUNDLE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
        "AWS_EC2_METADATA_V1_DISABLED",
        "AWS_IMDS_USE_IPV6",
        "AWS_METADATA_SERVICE_TIMEOUT",
        "AWS_METADATA_SERVICE_NUM_ATTEMPTS",
        "AWS_RETRY_MODE",
        "AWS_MAX_ATTEMPTS",
        "AWS_REQUEST_CHECKSUM_CALCULATION",
        "AWS_RESPONSE_CHECKSUM_VALIDATION",
        "AWS_SDK_UA_APP_ID",
        "AWS_EXECUTION_ENV",
        "AWS_PAGER",
        "AWS_DEFAULT_OUTPUT",
    }
)
_GROUPS = ("AWS_ENDPOINT_URL_", "AWS_CONTAINER_", "AWS_CLI_", "AWS_BATCH_", "AWS_LAMBDA_", "AWS_SAGEMAKER_")


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests to a bucket go.

    Attributes
    ----------
    endpoint : str
        What the address of an object begins with, up to its key, or up to the bucket where that is part of the path.
    virtual : bool
        Whether the bucket is part of the host's name.
    region : str
        The one that requests are signed for.
    ca_bundle : str
        File with the certificates to trust; empty for the usual ones.
    """

    endpoint: str
    virtual: bool
    region: str
    ca_bundle: str = ""

    def address(self, bucket: str, key: str) -> str:
        """The address of an object whose key needs no escapes."""
        return f"{self.endpoint}/{key}" if self.virtual else f"{self.endpoint}/{bucket}/{key}"


class NotAlikeError(Exception):
    """Something is configured that obstore is not known to do as botocore does; the text says what."""


# --- what both clients are made from ----------------------------------------------------------------------------------
def client_settings(options: StorageOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a client is made from, and what its configuration is, in botocore's words: all that is not left to it."""
    for package in ("botocore", "aiobotocore"):
        for part in ("credentials", "tokens"):
            logging.getLogger(f"{package}.{part}").addFilter(_is_not_raised)
    config: dict[str, Any] = {
        "max_pool_connections": max(options.max_pool_connections, options.parallel_requests),
        "connect_timeout": options.connect_timeout_seconds,
        "read_timeout": options.read_timeout_seconds,
        "retries": {"total_max_attempts": 1, "mode": "standard"},  # ours are bounded in time, and know what is in doubt
    }
    if options.addressing_style != "auto":
        config["s3"] = {"addressing_style": options.addressing_style}
    settings = {
        "region_name": options.region or os.environ.get("AWS_REGION", ""),  # which botocore alone does not read
        "endpoint_url": options.endpoint_url,
        "verify": options.ca_bundle,
    }
    return {name: value for name, value in settings.items() if value}, config


def _is_not_raised(record: logging.LogRecord) -> bool:
    """Keeps out of the log, with its traceback, what is raised as an error, too."""
    return not (record.args and "mandatory" in record.args) and not record.getMessage().endswith("attempt failed")


# --- asking botocore --------------------------------------------------------------------------------------------------
def find_target(bucket: str, options: StorageOptions) -> Target:
    """Let botocore make a request to a bucket, and read in it where it goes; nothing is sent.

    Raises
    ------
    NotAlikeError
        When obstore would not make this request.
    """
    import botocore.exceptions
    import botocore.session
    from botocore.config import Config

    _check_environment()
    settings, config = client_settings(options)
    unsigned = {"signature_version": _unsigned()} if options.anon else {}
    try:
        session = botocore.session.Session(profile=options.profile or None)
        client = session.create_client(
            "s3",
            aws_access_key_id=NOBODY,  # else it would look for real ones, and ask services for them
            aws_secret_access_key=NOBODY,
            config=Config(**config, **unsigned),
            **settings,
        )
        client.meta.events.register("before-send.s3", _stop)
        client.head_object(Bucket=bucket, Key=SAMPLE, **request_payer(options))
    except _Made as made:
        bundle = options.ca_bundle or session.get_config_variable("ca_bundle") or ""
        region = settings.get("region_name") or session.get_config_variable("region") or ""
        return _read(made.request, bucket, region, bundle)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise NotAlikeError(str(error)) from error
    raise NotAlikeError("botocore makes no request")


def request_payer(options: StorageOptions) -> dict[str, str]:
    """The parameter of a request that accepts to pay for it."""
    return {"RequestPayer": "requester"} if options.requester_pays else {}


def _unsigned() -> Any:
    from botocore import UNSIGNED

    return UNSIGNED


class _Made(Exception):
    """Carries a request out of botocore."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


def _stop(request: Any, **_: Any) -> NoReturn:
    raise _Made(request)


def _read(request: Any, bucket: str, region: str, ca_bundle: str) -> Target:
    strange = sorted({name.lower() for name in request.headers} - _HEADERS)
    if strange:
        raise NotAlikeError(f"requests carry {strange[0]}")
    endpoint, virtual = _split(request.url, bucket)
    host = urlsplit(endpoint).hostname or ""
    if region in ("", "aws-global") and host.endswith(".amazonaws.com"):
        raise NotAlikeError("the region of the bucket is to be found out")
    _check_proxies(urlsplit(endpoint).scheme, host)
    authorization = request.headers.get("Authorization", "")
    if isinstance(authorization, bytes):
        authorization = authorization.decode()
    signed = _SIGNED.match(authorization)
    if authorization and signed is None:
        raise NotAlikeError("requests are signed in another way")
    return Target(endpoint, virtual, signed[1] if signed else region or "us-east-1", ca_bundle)


def _split(url: str, bucket: str) -> tuple[str, bool]:
    """The address without bucket and key, and whether the bucket is in the host's name."""
    start, whole = url.removesuffix(f"/{SAMPLE}"), urlsplit(url)
    if start == url or whole.scheme not in ("http", "https"):
        raise NotAlikeError(f"the address of an object is {url}")
    if start.endswith(f"/{bucket}") and whole.path.endswith(f"/{bucket}/{SAMPLE}"):
        return start.removesuffix(f"/{bucket}"), False
    if whole.netloc.startswith(f"{bucket}.") and whole.path == f"/{SAMPLE}":
        return start, True
    raise NotAlikeError(f"the address of an object is {url}")


# --- what obstore reads by itself -------------------------------------------------------------------------------------
def _check_environment() -> None:
    for name in sorted(os.environ):
        if name.startswith("AWS_") and name not in _VARIABLES and not name.startswith(_GROUPS):
            raise NotAlikeError(f"{name} is set")


def _check_proxies(scheme: str, host: str) -> None:
    """Proxies are taken from the same variables; only some of their forms mean the same to both."""
    proxies = urllib.request.getproxies()
    if "all" in proxies:
        raise NotAlikeError("ALL_PROXY is set")
    if scheme not in proxies:
        return
    if urllib.request.proxy_bypass(host) or not proxies[scheme].startswith("http://"):
        raise NotAlikeError(f"the proxy for {scheme} is {proxies[scheme]}, with exceptions")


# --- credentials ------------------------------------------------------------------------------------------------------
def given_credentials(values: Mapping[str, str]) -> dict[str, Any]:
    """Credentials that are given themselves, as obstore wants them; empty where there are none."""
    if not values:
        return {}
    token = {"token": values["token"]} if "token" in values else {}
    return {"access_key_id": values["key"], "secret_access_key": values["secret"], **token, "expires_at": None}


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
