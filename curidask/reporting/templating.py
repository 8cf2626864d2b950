"""Templates, and how values are written in them."""

from __future__ import annotations

import secrets
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from curidask import __version__
from curidask.reporting.model import LOOKS

TEMPLATES = resources.files(__package__ or "curidask.reporting") / "templates"

POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; media-src 'self' data:; frame-src 'self' data:; base-uri 'none'; form-action 'none'"
)
"""What a page may load: its own files, and no script but its own.

Scripts in what users show in it do not run, and neither do those among their files (those in frames do, there): what
they wrote was there before the page was made, so it cannot name the number that the page's own script has.
"""


@cache
def environment() -> Environment:
    """The templates; all that is put into them is escaped."""
    made = Environment(
        loader=PackageLoader("curidask.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"duration": duration, "size": size, "number": number, "when": when, "cut": cut, "inside": inside}
    made.globals |= {"looks": LOOKS, "version": __version__, "sheets": ("style.css",)}
    return made


def page(template: str, **values: Any) -> str:
    """A template with values in it."""
    nonce = secrets.token_hex(16)
    return environment().get_template(template).render(nonce=nonce, policy=POLICY.format(nonce=nonce), **values)


def asset(name: str) -> str:
    """A file that pages load: ``style.css`` (with the map's) or ``report.js``."""
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    return text + (TEMPLATES / "map.css").read_text(encoding="utf-8") if name == "style.css" else text


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(n_bytes: int) -> str:
    """A number of bytes in the unit that suits it."""
    if n_bytes == 1:
        return "1 byte"
    value = float(n_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"


def number(value: Any) -> str:
    """A count, with its thousands apart."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def when(text: Any) -> str:
    """A moment out of ISO 8601, for people."""
    try:
        return datetime.fromisoformat(str(text)).strftime("%-d %b %Y, %H:%M:%S")
    except ValueError:
        return str(text)


def cut(text: str, length: int) -> str:
    """The beginning of a text."""
    return text if len(text) <= length else text[: length - 1] + "…"


def inside(path: str, folder: str | None) -> str:
    """A path as seen from a folder, when it is in it."""
    return path.removeprefix(f"{folder.rstrip('/')}/") if folder else path
