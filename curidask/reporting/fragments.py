"""Fragments of HTML that users' own reportables return."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
DROPPED = {"html", "head", "body", "script", "plaintext"}
"""A fragment stands within a page, whose policy lets no script of a fragment run."""


class _Balancer(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []
        self.open: list[str] = []
        self._skipping = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skipping = tag == "script"
        if tag in DROPPED:
            return
        self.parts.append(self.get_starttag_text() or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in DROPPED:
            self.parts.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._skipping = False
        if tag in self.open:
            while True:
                last = self.open.pop()
                self.parts.append(f"</{last}>")
                if last == tag:
                    break

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            # What is left of a tag that is not finished must not become one with what follows.
            self.parts.append(data if self.open[-1:] == ["style"] else data.replace("<", "&lt;"))

    def handle_entityref(self, name: str) -> None:
        self.parts.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.parts.append(f"&#{name};")


def balanced(fragment: str) -> str:
    """A fragment whose elements are all closed, and that closes none but its own.

    So a mistake in one reportable leaves the rest of the report as it is. Scripts and comments are left out.
    """
    balancer = _Balancer()
    balancer.feed(fragment)
    balancer.close()
    return "".join([*balancer.parts, *(f"</{tag}>" for tag in reversed(balancer.open))])
