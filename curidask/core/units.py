"""Sizes and ages as people write them: ``200GB``, ``30d``."""

from __future__ import annotations

import re

from curidask.errors import ConfigurationError

_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)
_AGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", re.IGNORECASE)


def parse_size(text: str | int, where: str = "") -> int:
    """A number of bytes out of a text such as ``20GB``, ``1.5 TB`` or ``512MiB``.

    Raises
    ------
    ConfigurationError
    """
    match = _SIZE.fullmatch(str(text))
    if match is None:
        raise ConfigurationError(f"{text!r} is no size.", where=where, fix="write a number and a unit, as in 20GB")
    return int(float(match[1]) * _SIZES[(match[2] or "").lower()])


def parse_age(text: str, where: str = "") -> float:
    """Seconds out of a text such as ``30d``, ``12h`` or ``90m``.

    Raises
    ------
    ConfigurationError
    """
    match = _AGE.fullmatch(text)
    if match is None:
        fix = "write a number and a unit out of s, m, h, d, w, as in 30d for thirty days"
        raise ConfigurationError(f"{text!r} is no length of time.", where=where, fix=fix)
    return float(match[1]) * _SECONDS[match[2].lower()]


def format_size(size_bytes: float) -> str:
    """A size in three digits: ``1.23 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.3g} {unit}" if unit != "B" else f"{size_bytes:.0f} B"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB" if size_bytes < 999.5 else f"{size_bytes:,.0f} TB"


def format_age(seconds: float) -> str:
    """A length of time in its largest unit: ``3 d``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
