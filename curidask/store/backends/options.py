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
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curidask.core.redaction import hide_secrets, holds_secret
from curidask.errors import CacheError, ConfigurationError

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
