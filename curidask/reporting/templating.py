"""Templates, and how values are written in them."""

from __future__ import annotations

import hashlib
import html
import re
import secrets
import warnings
from datetime import datetime
from functools import cache
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from curidask import __version__
from curidask.execution.base import FILES_PREFIX
from curidask.reporting.model import LOOKS
from curidask.session.config import Config

# --- style sheets of reports -----------------------------------------------------------------------------------------
# Ours, and one of the user's own, which comes after it and is never written to.

OURS = "style.css"
INSTEAD = "curidask.css"
"""The name of ours among the reports when `OURS` is a file of the user's."""
CUSTOM = "curidask-custom.css"
"""The copy of the user's own."""

SIGNATURE = re.compile(r"/\* curidask ([0-9a-f]{64})\b[^*]*\*/\n\Z")


def built_in() -> str:
    """Our style sheet, with a last line by which it is known again as long as nobody has changed it."""
    text = asset(OURS)
    return f"{text}/* curidask {_digest(text)}: a file that is changed above is yours, and stays as it is */\n"


def own_sheet(reports: Path, chosen: Path | None) -> bytes | None:
    """The user's own style sheet, None where there is none.

    Parameters
    ----------
    reports : Path
        The folder of all reports; a ``style.css`` there that is not ours is the user's.
    chosen : Path or None
        A style sheet that the configuration names.

    Warns
    -----
    UserWarning
        When the one that is named cannot be read. The default place may be empty.
    """
    path = chosen or reports / OURS
    try:
        content = path.read_bytes()
    except OSError as error:
        if chosen is not None and not (isinstance(error, FileNotFoundError) and _same(path, reports / OURS)):
            text = f"the style sheet {path} (report_css) cannot be read: {error.strerror or error}"
            warnings.warn(f"{text}; the report has the built-in one only", stacklevel=2)
        return None
    return None if _is_built_in(content) else content


def name_of_ours(reports: Path) -> str:
    """Under which name our style sheet is written among the reports, so that no file of the user's is replaced."""
    path = reports / OURS
    try:
        return OURS if _is_built_in(path.read_bytes()) else INSTEAD
    except FileNotFoundError:
        return INSTEAD if path.is_symlink() else OURS
    except OSError:
        return INSTEAD


def configured(config: Config) -> Path | None:
    """The style sheet that a project's configuration names."""
    return config.path(config.report_css) if config.report_css else None


def _is_built_in(content: bytes) -> bool:
    text = content.decode("utf-8", errors="replace")
    signature = SIGNATURE.search(text)
    return signature is not None and _digest(text[: signature.start()]) == signature[1]


def _same(one: Path, other: Path) -> bool:
    return one.absolute() == other.absolute()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


# --- templating ------------------------------------------------------------------------------------------------------
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


# --- fragments of HTML that users' own reportables return, and that are kept in caches which others can write to -----
# What is shown consists of elements and attributes that are known to be harmless, written anew from what was parsed.
# So it runs no script, sends nothing, leads the page nowhere, and closes no element but its own; a page of its own
# stands in a frame that can reach nothing around it.

_VOID = "area br col hr img source track wbr"
_HTML = """
    a abbr address article aside audio b bdi bdo blockquote caption cite code colgroup data dd del details dfn div dl dt
    em figcaption figure footer h1 h2 h3 h4 h5 h6 header hgroup i iframe ins kbd li main map mark menu meter nav ol p
    picture pre progress q rp rt ruby s samp search section small span strong style sub summary sup table tbody td tfoot
    th thead time tr u ul var video
"""
_SVG = """
    svg g defs symbol use path rect circle ellipse line polyline polygon text tspan textpath image title desc marker
    pattern mask clippath lineargradient radialgradient stop filter feblend fecolormatrix fecomposite feflood
    fegaussianblur femerge femergenode feoffset
"""
_SWALLOWED = "script iframe noscript template textarea select object xmp noembed noframes"
_REFUSED = """
    action allow archive background classid codebase contenteditable data dynsrc formaction formmethod formtarget
    http-equiv is lowsrc manifest nonce ping profile sandbox srcdoc xml:base xmlns
"""

VOID = frozenset(_VOID.split())
ELEMENTS = VOID.union(_HTML.split(), _SVG.split())
"""What is in no list leaves its content behind, but for what `SWALLOWED` says."""
SWALLOWED = frozenset(_SWALLOWED.split())
"""Their content goes too: browsers read it in ways of their own."""
REFUSED = frozenset(_REFUSED.split())
ATTRIBUTE = re.compile(r"(?!on)[a-z][a-z0-9_.:-]*")
LINKS = frozenset(("href", "xlink:href"))
SOURCES = frozenset(("src", "poster"))

_LINK = re.compile(r"(?:https?:|mailto:|#|[^\s:/?#\\][^:\\]*\Z)", re.IGNORECASE)
_SOURCE = re.compile(r"(?:data:(?:image|video|audio|font)/|[^\s:/?#\\][^:\\]*\Z)", re.IGNORECASE)
_FRAME = re.compile(r"data:text/html[;,]", re.IGNORECASE)
_UNSAFE_STYLE = re.compile(r"<|\\|@import|url\((?!\s*[\"']?(?:data:image/|#))", re.IGNORECASE)


class _Sanitizer(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []
        self.open: list[str] = []
        self._swallowing = ""
        self._depth = 0
        self._style: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._swallowing:
            self._depth += tag == self._swallowing
            return
        if tag in ELEMENTS:
            self._begin(tag, attrs)
        if tag in SWALLOWED:
            self._swallowing, self._depth = tag, 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._swallowing:
            self._depth -= tag == self._swallowing
            self._swallowing = self._swallowing if self._depth else ""
            return
        self._end_style()
        if tag in self.open:
            while True:
                last = self.open.pop()
                self.parts.append(f"</{last}>")
                if last == tag:
                    break

    def handle_data(self, data: str) -> None:
        if self._style is not None:
            self._style.append(data)
        elif not self._swallowing:
            self.parts.append(data.replace("<", "&lt;").replace(">", "&gt;"))

    def handle_entityref(self, name: str) -> None:
        self._text(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._text(f"&#{name};")

    def finish(self) -> str:
        """What was parsed, with all closed that is open."""
        self.close()
        self._end_style()
        return "".join([*self.parts, *(f"</{tag}>" for tag in reversed(self.open))])

    def _begin(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_style()
        if tag == "style":
            self._style = []
            return
        own = "".join(_attribute(tag, name, value) for name, value in attrs)
        if tag == "iframe":
            self.parts.append(f'<iframe sandbox="allow-scripts"{own}></iframe>')
            return
        self.parts.append(f"<{tag}{own}>")
        if tag not in VOID:
            self.open.append(tag)

    def _text(self, text: str) -> None:
        if self._style is None and not self._swallowing:
            self.parts.append(text)

    def _end_style(self) -> None:
        """Write a sheet that loads nothing; in a sheet no other element can begin."""
        if self._style is not None:
            sheet, self._style = "".join(self._style), None
            if not _UNSAFE_STYLE.search(sheet):
                self.parts.append(f"<style>{sheet}</style>")


def _attribute(tag: str, name: str, value: str | None) -> str:
    if not ATTRIBUTE.fullmatch(name) or name in REFUSED:
        return ""
    if value is None:
        return f" {name}"
    if not _is_harmless(tag, name, value):
        return ""
    return f' {name}="{html.escape(value)}"'


def _is_harmless(tag: str, name: str, value: str) -> bool:
    if name == "style":
        return not _UNSAFE_STYLE.search(value)
    if name in ("srcset", "imagesrcset"):
        return False
    is_link, is_source = name in LINKS, name in SOURCES
    if not is_link and not is_source:
        return "url(" not in value.lower() or not _UNSAFE_STYLE.search(value)
    if value.startswith(FILES_PREFIX):
        return True
    if is_link and tag == "use":
        return value.startswith("#")
    if tag == "iframe":
        return _FRAME.match(value) is not None
    return (_LINK if is_link and tag in ("a", "area") else _SOURCE).match(value) is not None


def safe(fragment: str) -> str:
    """A fragment that does no harm where it is shown, whoever wrote it; all its elements are closed.

    Scripts, handlers, comments, forms, and what loads or leads elsewhere are left out.
    """
    sanitizer = _Sanitizer()
    sanitizer.feed(fragment)
    return sanitizer.finish()
