"""How a place in the network is reached: endpoint, credentials, limits; and how that travels to other processes.

Credentials are best not given at all: each machine finds its own (environment variables, a profile, a machine's role).
An option whose name ends in ``_env`` names a variable that holds a value. A secret that is given itself stays in the
process: to send it to workers is refused unless `send_credentials` says so.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import logging
import os
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import urlsplit

from curidask.core.redaction import hide_secrets, holds_secret
from curidask.errors import CacheError, ConfigurationError
from curidask.store.backends.errors import Failure, classify

CLIENTS = ("auto", "fsspec", "obstore")
STYLES = ("auto", "path", "virtual")
CLIENT_VARIABLE = "CURIDASK_OBJECT_CLIENT"

S3_PROTOCOLS = ("s3", "s3a")
SERVICES = {
    **dict.fromkeys(S3_PROTOCOLS, "s3"),
    **dict.fromkeys(("gs", "gcs"), "gs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "az"),
}
STANDARD_VARIABLES = {
    "s3": {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN"},
    "az": {"account_name": "AZURE_STORAGE_ACCOUNT_NAME", "account_key": "AZURE_STORAGE_ACCOUNT_KEY"},
}
"""Where the clients of a service look for credentials by themselves."""

_SECRET_NAME = re.compile(
    r"secret|token|passw|pwd|credential|connection_string|sas|(?:^|_|account)key$|^authorization$"
)
_CREDENTIAL_VARIABLES = re.compile(r"(?:AWS|GOOGLE|AZURE)_.*(?:SECRET|TOKEN|PASSWORD|CREDENTIAL_STRING|_KEY)")
_AROUND = re.compile(r"AWS_|GOOGLE_|AZURE_|FSSPEC_|STORAGE_|\w+_proxy$", re.I)
_NOT_SECRET_TOKENS = ("google_default", "cloud", "anon", "cache", "browser")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageOptions:
    """How a place in the network is reached.

    Attributes
    ----------
    client : str
        ``fsspec``, ``obstore``, or ``auto``: obstore where it is installed and can do what the options say.
    endpoint_url, region, profile : str
        Of a service like S3; empty for what the environment or the profile says.
    anon : bool
        Make requests without credentials.
    addressing_style : str
        Whether the bucket is part of the path or of the host name; ``auto`` decides by the endpoint.
    ca_bundle : str
        File with the certificates to trust.
    requester_pays : bool
        Accept to pay for requests to somebody else's bucket.
    max_pool_connections, parallel_requests : int
        Connections that are kept, and requests made at the same time.
    connect_timeout_seconds, read_timeout_seconds, retry_seconds : float
        How long to wait for a connection, for an answer, and how long to repeat what fails for the moment.
    send_credentials : bool
        Send credentials to the workers. Only for clusters with encrypted connections.
    credentials : dict
        Values that are secret, by option name.
    variables : dict
        Names of the environment variables that hold values, by option name.
    driver : dict
        Further options for the file system behind the URL.
    """

    client: str = "auto"
    endpoint_url: str = ""
    region: str = ""
    profile: str = ""
    anon: bool = False
    addressing_style: str = "auto"
    ca_bundle: str = ""
    requester_pays: bool = False
    max_pool_connections: int = 64
    parallel_requests: int = 24
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 15.0
    retry_seconds: float = 30.0
    send_credentials: bool = False
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict)
    driver: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> StorageOptions:
        """Sort options by what they are for.

        Raises
        ------
        ConfigurationError
            For a value of the wrong kind.
        """
        known: dict[str, Any] = {}
        credentials: dict[str, str] = {}
        variables: dict[str, str] = {}
        driver: dict[str, Any] = {}
        for name, value in options.items():
            if name in NAMES:
                known[name] = _checked(name, value)
            elif name.endswith("_env"):
                variables[name.removesuffix("_env")] = _checked_text(name, value)
            elif isinstance(value, str) and _is_secret(name, value):
                credentials[name] = value
            else:
                driver[name] = value
        return cls(**known, credentials=credentials, variables=variables, driver=driver)

    def given(self) -> dict[str, Any]:
        """The options as they were given, secrets too."""
        changed = {name: getattr(self, name) for name in NAMES if getattr(self, name) != _DEFAULTS[name]}
        named = {f"{name}_env": variable for name, variable in self.variables.items()}
        return {**changed, **named, **self.credentials, **self.driver}

    def to_send(self, url: str) -> dict[str, Any]:
        """What another process needs to open the same place.

        Raises
        ------
        CacheError
            When that is a secret which must not be sent.
        """
        if self.send_credentials:
            service = SERVICES.get(url.partition("://")[0], "")
            found = {
                name: os.environ[variable]
                for name, variable in STANDARD_VARIABLES.get(service, {}).items()
                if os.environ.get(variable) and not self.profile and not self.anon
            }
            return {**self.given(), **found, **self.resolved()}
        secret = sorted(self.credentials) or sorted(_secret_names(self.driver))
        if secret:
            raise CacheError(
                f"The option {secret[0]!r} holds a secret, which is not sent to other processes.",
                where=url,
                fix=f'put it into an environment variable of each machine and give its name, {secret[0]}_env = "…", or '
                "use a profile; or set send_credentials = true when the connections of the cluster are encrypted",
            )
        return self.given()

    def resolved(self) -> dict[str, str]:
        """The credentials that are given, here or in variables, by option name.

        Raises
        ------
        CacheError
            When a variable is not set.
        """
        found = dict(self.credentials)
        for name, variable in self.variables.items():
            if not os.environ.get(variable):
                raise CacheError(
                    f"The environment variable {variable} is not set on this machine.",
                    where=f"[tool.curidask.storage], {name}_env",
                    fix="set it here; each worker needs it too",
                )
            found[name] = os.environ[variable]
        return found

    def secrets(self) -> set[str]:
        """Texts that must never be shown."""
        found = {value for name, value in os.environ.items() if value and _CREDENTIAL_VARIABLES.search(name)}
        found |= {os.environ[variable] for variable in self.variables.values() if os.environ.get(variable)}
        return found | set(self.credentials.values()) | set(_secret_names(self.driver).values())

    def token(self) -> str:
        """Tells connections apart that must not be shared: by the options, and by credentials in the environment."""
        around = {name: value for name, value in os.environ.items() if _AROUND.match(name)}
        named = {variable: os.environ.get(variable) for variable in self.variables.values()}
        text = json.dumps([self.given(), around, named], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()


_FIELDS = {f.name: f for f in dataclasses.fields(StorageOptions)}
NAMES = tuple(name for name in _FIELDS if name not in ("credentials", "variables", "driver"))
_DEFAULTS = {name: _FIELDS[name].default for name in NAMES}


def options_for(url: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a configuration's table has for a URL.

    A table may hold further tables, named by the beginning of addresses; the longest one that fits is laid over it.
    """
    general = {name: value for name, value in table.items() if not _is_address(name)}
    fitting = [name for name in table if _is_address(name) and _begins(url, name)]
    return {**general, **(table[max(fitting, key=len)] if fitting else {})}


def check_storage_table(table: Mapping[str, Any], source: str) -> None:
    """Raise a `ConfigurationError` when a table of options cannot be used, before anything is opened."""
    for name, value in table.items():
        if _is_address(name):
            if not isinstance(value, Mapping):
                raise ConfigurationError(f"{name!r} is {value!r}.", where=source, fix="give a table of options")
            check_storage_table(value, f"{source}, {name}")
            continue
        if name not in NAMES and not name.endswith("_env"):
            near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.8)
            if near:
                raise ConfigurationError(
                    f"There is no storage option {name!r}.", where=source, fix=f"did you mean {near[0]!r}?"
                )
    try:
        StorageOptions.of({name: value for name, value in table.items() if not _is_address(name)})
    except ConfigurationError as error:
        raise ConfigurationError(error.what, where=source, fix=error.fix) from None


def refuse_password(url: str) -> None:
    """Raise a `CacheError` for an address with a password in it: addresses are shown and kept."""
    if holds_secret(url):
        raise CacheError(
            "The address of the cache holds a password or key, which would be shown and stored with each run.",
            where=hide_secrets(url),
            fix='take it out of the address and name a variable that holds it: password_env = "…" (or key_env, '
            "secret_env) in [tool.curidask.storage]",
        )


def _checked(name: str, value: Any) -> Any:
    default = _DEFAULTS[name]
    choices = {"client": CLIENTS, "addressing_style": STYLES}.get(name)
    if choices is not None:
        fits, fix = value in choices, f"use one of {', '.join(choices)}"
    elif isinstance(default, bool):
        fits, fix = isinstance(value, bool), "use true or false"
    elif isinstance(default, int):
        fits, fix = type(value) is int and value > 0, "give a whole number from 1 on"
    elif isinstance(default, float):
        fits, fix = type(value) in (int, float) and value > 0, "give a number of seconds above 0"
    else:
        fits, fix = isinstance(value, str), "give a text in quotes"
    if not fits:
        raise ConfigurationError(f"The storage option {name!r} is {value!r}.", fix=fix)
    return float(value) if isinstance(default, float) else value


def _checked_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(
            f"The storage option {name!r} is {value!r}.", fix="give the name of an environment variable in quotes"
        )
    return value


def _is_secret(name: str, value: object) -> bool:
    if not isinstance(value, str) or not value or not _SECRET_NAME.search(name.lower()):
        return False
    # Google's `token` is a kind of credentials or a file with them more often than it is a secret.
    return not (name == "token" and (value in _NOT_SECRET_TOKENS or os.path.exists(os.path.expanduser(value))))


def _secret_names(options: Mapping[str, Any]) -> dict[str, str]:
    """Secrets in options, by name, also of options within options."""
    found: dict[str, str] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            found |= _secret_names({str(key): inner for key, inner in value.items()})
        elif _is_secret(str(name), value):
            found[str(name)] = value
    return found


def _is_address(name: str) -> bool:
    return "://" in name


def _begins(url: str, address: str) -> bool:
    return url == address or url.startswith(address.rstrip("/") + "/")


# --- where requests to a bucket of S3 go -----------------------------------------------------------------------------
# Asked of botocore, which reads how that is configured and makes s3fs's requests.
#
# obstore is told the answer, so both send the same requests to the same place. It reads neither profiles nor services
# sections itself, and takes variables that botocore does not know; where something is configured that it is not known
# to do likewise, it is not used.

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
