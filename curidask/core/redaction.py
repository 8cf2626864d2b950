"""Keeping secrets that stand in addresses out of what is shown and kept."""

from __future__ import annotations

import re

HIDDEN = "***"

_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl", "oss", "r2", "b2", "swift"})
"""Protocols whose addresses have no port, so that what stands behind a colon in front of an ``@`` is a secret."""

# A secret may hold anything, also slashes; it ends at the last `@` before a space or a quote. Behind `simplecache::`
# and the like stands another address, which is found for itself.
_LOGIN = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^\s\"'<>/@:]*):(?P<secret>[^\s\"'<>]+)@")
_PORT = re.compile(r"\d{1,5}(?:[/?#,]|$)")
_SIGNED = re.compile(
    r"""(?P<before>[?&;](?:(?:x-(?:amz|goog)-)?(?:signature|credential|security-token)|awsaccesskeyid|sig|se?cret
    |secret_?(?:access_?)?key|access_?token|auth_?token|token|api_?key|account_?key|key|passw(?:or)?d|pwd)=)
    [^&;\s"'<>]+""",
    re.VERBOSE | re.IGNORECASE,
)


def hide_secrets(text: str) -> str:
    """A text with what is secret in the addresses in it replaced: passwords, keys, and signatures."""
    if "://" not in text:
        return text
    if "@" in text:
        text = _LOGIN.sub(_without_login, text)
    return _SIGNED.sub(rf"\g<before>{HIDDEN}", text) if "=" in text else text


def _without_login(match: re.Match[str]) -> str:
    return f"{match['protocol']}://{HIDDEN}@" if _is_login(match) else match[0]


def _is_login(match: re.Match[str]) -> bool:
    return match["protocol"].lower() in _BUCKETS or not _PORT.match(match["secret"])


def holds_secret(url: str) -> bool:
    """Whether an address holds a password or a key."""
    return hide_secrets(url) != url
