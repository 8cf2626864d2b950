"""Fragments of HTML that users' own reportables return, and that are kept in caches which others can write to.

What is shown consists of elements and attributes that are known to be harmless, written anew from what was parsed. So
it runs no script, sends nothing, leads the page nowhere, and closes no element but its own; a page of its own stands in
a frame that can reach nothing around it.
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

from curidask.execution.base import FILES_PREFIX

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
