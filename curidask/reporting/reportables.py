"""What a reportable is, and those that show text: HTML and JSON."""

from __future__ import annotations

import copy
import dataclasses
import html
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Set
from datetime import date, time, timedelta
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from curidask.errors import ReportableError
from curidask.executors.base import FILES_PREFIX, Reported
from curidask.reporting.fragments import balanced

IMAGE_SUFFIXES = (".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp")
LINKED_FILE = re.compile(re.escape(FILES_PREFIX) + r"([\w.~%-]+)", re.ASCII)
"""A place where a fragment names a file of its own."""

SIMPLER: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.value),
    (Set, lambda value: sorted(value, key=repr)),
    (Path | timedelta, str),
    (date | time, lambda value: value.isoformat()),
    (int, int),
)
"""How `JsonReporter` writes what JSON lacks."""

SVG_LENGTH = rb'\b%s="([\d.]+)(pt|px)?"'

SHOWN_JSON_CHARACTERS = 20_000
MAX_JSON_DEPTH = 100  # a bound of our own: what Python can follow depends on who calls
FRAME_HEIGHT = 420
"""Pixels that a page in a frame gets until it has told its height."""

TELL_HEIGHT = """
<script>
new ResizeObserver(() => parent.postMessage(
  {curidaskHeight: Math.ceil(document.documentElement.getBoundingClientRect().height)}, "*"
)).observe(document.documentElement);
</script>
"""


class Reportable:
    """Something that a stage shows in the run's report.

    Subclass it and override `html`, `render`, or both. Both are called where ``record.report(...)`` is called, at once,
    `render` first; what they give is plain text and files, which travel to the report and are kept in the cache with
    the stage's artifacts.

    Parameters
    ----------
    name : str, optional
        The title; the stage's name and a number by default.
    group : str, optional
        Reportables of one group stand together in the report, whatever record they come from.

    Examples
    --------
    >>> class Swatch(Reportable):
    ...     def __init__(self, colour, name=None, group=None):
    ...         super().__init__(name, group)
    ...         self.colour = colour
    ...
    ...     def html(self):
    ...         return f'<div style="background: {html.escape(self.colour)}">&nbsp;</div>'
    """

    # On the class too, so that a subclass need not call __init__.
    name: str | None = None
    group: str | None = None

    def __init__(self, name: str | None = None, group: str | None = None) -> None:
        self.name = name
        self.group = group

    # --- to be overridden --------------------------------------------------------------------------------------------
    def render(self, folder: Path) -> None:
        """Write files for the report.

        Parameters
        ----------
        folder : Path
            An empty folder; whatever lies in it afterwards belongs to the reportable.
        """

    def html(self) -> str:
        """Return a fragment of HTML to show: `link` gives the address of a file that `render` wrote.

        Unless it is overridden, the files themselves are shown: images as images, others as links. Whatever comes from
        outside has to be escaped (`html.escape`). Scripts in a fragment do not run; `HTMLReporter` shows pages that
        need them.
        """
        return ""

    # --- for subclasses ----------------------------------------------------------------------------------------------
    @staticmethod
    def link(name: str) -> str:
        """The address of one of the reportable's own files, for ``src`` and ``href`` in the fragment."""
        return FILES_PREFIX + quote(name, safe="")

    def refuse(self, what: str, fix: str) -> ReportableError:
        """The error that says why the reportable cannot be shown; to be raised.

        Parameters
        ----------
        what : str
            What is wrong, as the end of a sentence.
        fix : str
            What the user can do.
        """
        named = f" {self.name!r}" if self.name else ""
        return ReportableError(f"The reportable{named} ({type(self).__name__}) cannot be shown: {what}", fix=fix)

    # --- what curidask calls -----------------------------------------------------------------------------------------
    def capture(self, default_name: str) -> Reported:
        """Render, now.

        Parameters
        ----------
        default_name : str
            The title of a reportable without a name.

        Raises
        ------
        ReportableError
            When it cannot be rendered.
        """
        # A copy: the same object may be reported for several records, each time under another default name.
        return copy.copy(self)._capture(default_name)

    def _capture(self, default_name: str) -> Reported:
        self._check_names()
        self.name = self.name or default_name
        with tempfile.TemporaryDirectory(prefix="curidask-reportable-") as made:
            folder = Path(made)
            self._call(self.render, folder)
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _files(folder)}
        fragment = self._call(self.html)
        if not isinstance(fragment, str):
            raise self.refuse(f"html() returned {_kind(fragment)}, not text.", "return the fragment as a str")
        if not fragment and not files:
            raise self.refuse(
                "html() returned nothing and render() wrote no file.", "override html(), render(folder), or both"
            )
        self._check_links(fragment, files)
        shown = fragment or "".join(map(self._shown, files))
        if not self._is_ours():
            shown = balanced(shown)
        return Reported(self.name, self.group or "", type(self).__name__, shown, files)

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except ReportableError:
            raise
        except Exception as error:
            refused = self.refuse(f"{method.__name__}() raised {type(error).__name__}: {error}", self._advice())
            # With the frames of the method, which are the user's own when the class is.
            raise refused.with_traceback(error.__traceback__) from error

    def _advice(self) -> str:
        return "check what it was given" if self._is_ours() else f"correct {type(self).__name__}"

    def _is_ours(self) -> bool:
        return type(self).__module__.startswith("curidask.reporting.")

    def _check_names(self) -> None:
        for word in ("name", "group"):
            value = getattr(self, word)
            if value is not None and not isinstance(value, str):
                setattr(self, word, None)
                raise self.refuse(f"its {word} is {_kind(value)}, not text.", f"pass {word} as a str")

    def _check_links(self, fragment: str, files: Mapping[str, bytes]) -> None:
        for match in LINKED_FILE.finditer(fragment):
            name = unquote(match[1])
            if name not in files:
                there = ", ".join(map(repr, files)) or "no file"
                raise self.refuse(f"html() links to {name!r}, but render() wrote {there}.", "correct the name")

    def _shown(self, name: str) -> str:
        if Path(name).suffix.lower() in IMAGE_SUFFIXES:
            return image_tag(name, alt=f"{self.name}: {name}")
        return f'<p><a href="{self.link(name)}" download>{html.escape(name)}</a></p>'


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _kind(value: object) -> str:
    """A value's type, for messages."""
    return f"{type(value).__name__} ({value!r:.60})"


def image_tag(name: str, alt: str, size: tuple[int, int] | None = None) -> str:
    """An image among the reportable's files, on paper: what is drawn for white stays readable on a dark page.

    Parameters
    ----------
    name : str
        Of the file.
    alt : str
        What it shows, in words.
    size : (int, int), optional
        Width and height in pixels, so that the page keeps the place free until it is loaded.
    """
    measured = f' width="{size[0]}" height="{size[1]}"' if size else ""
    return f'<img class="paper" loading="lazy" src="{Reportable.link(name)}" alt="{html.escape(alt)}"{measured}>'


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG or SVG image, None for what does not say it plainly."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    tag = re.search(rb"<svg[^>]*>", data[:4000])
    found = [re.search(SVG_LENGTH % name, tag[0]) for name in (b"width", b"height")] if tag else [None]
    lengths = [round(float(m[1]) * (4 / 3 if m[2] == b"pt" else 1)) for m in found if m is not None]
    return (lengths[0], lengths[1]) if len(lengths) == 2 else None


class HTMLReporter(Reportable):
    """Shows a page or a fragment of HTML of the user's own, with its scripts, in a frame that cannot touch the report.

    Parameters
    ----------
    content : str or object
        The HTML, or an object that has it: ``_repr_html_()`` or ``to_html()``.
    name, group : str, optional
        See `Reportable`.
    height : int, optional
        Of the frame, in pixels; by default it follows the page.
    """

    def __init__(
        self, content: Any, name: str | None = None, group: str | None = None, *, height: int | None = None
    ) -> None:
        super().__init__(name, group)
        self.content = content
        self.height = height

    def render(self, folder: Path) -> None:
        """Write the page."""
        text = self._text()
        if not re.match(r"\s*(<!doctype|<html)", text, re.IGNORECASE):
            text = f'<!doctype html>\n<meta charset="utf-8">\n<style>body {{ font-family: sans-serif }}</style>\n{text}'
        told = "" if self.height is not None else TELL_HEIGHT
        (folder / "page.html").write_text(text + told, encoding="utf-8", errors="replace")

    def html(self) -> str:
        """The frame."""
        height = FRAME_HEIGHT if self.height is None else self.height
        if isinstance(height, bool) or not isinstance(height, int) or height <= 0:
            raise self.refuse(f"its height is {_kind(height)}.", "pass a number of pixels, as in height=400")
        fixed = "" if self.height is None else " data-fixed"
        title = html.escape(self.name or "")
        return (
            f'<iframe class="page" sandbox="allow-scripts" loading="lazy" src="{self.link("page.html")}"'
            f' title="{title}" width="100%" height="{height}"{fixed}></iframe>'
        )

    def _text(self) -> str:
        content = self.content
        if not isinstance(content, str):
            make = getattr(content, "_repr_html_", None) or getattr(content, "to_html", None)
            if make is None or isinstance(content, type):
                raise self.refuse(
                    f"it was given {_kind(content)}, which is no HTML.", "pass HTML as a str, or what has to_html()"
                )
            content = make()
        if not isinstance(content, str) or not content.strip():
            raise self.refuse("its HTML is empty.", "pass what is to be shown")
        return content


class JsonReporter(Reportable):
    """Shows a value as JSON, and keeps it as a file.

    Beside JSON's own types it takes dataclasses, numpy scalars and arrays, pandas objects, sets, paths, dates and
    enumerations. NaN and infinities, which JSON lacks, become the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"``.

    Parameters
    ----------
    value : object
    name, group : str, optional
        See `Reportable`.
    """

    def __init__(self, value: Any, name: str | None = None, group: str | None = None) -> None:
        super().__init__(name, group)
        self.value = value
        self._text = ""

    def render(self, folder: Path) -> None:
        """Write the JSON."""
        self._text = json.dumps(self._plain(self.value, "the value", ()), indent=2, ensure_ascii=False)
        (folder / "value.json").write_text(self._text, encoding="utf-8", errors="replace")

    def html(self) -> str:
        """The beginning of the JSON, and a link to all of it."""
        shown = self._text[:SHOWN_JSON_CHARACTERS]
        note = ""
        if len(shown) < len(self._text):
            share = f"{len(shown):,} of {len(self._text):,}"
            note = f'<p class="note">Shown are {share} characters; the file has all of them.</p>'
        return (
            f'<pre class="json"><code>{html.escape(shown)}</code></pre>{note}'
            f'<p class="files"><a href="{self.link("value.json")}" download>value.json</a></p>'
        )

    def _plain(self, value: Any, where: str, within: tuple[int, ...]) -> Any:
        """The value out of JSON's own types."""
        if value is None or isinstance(value, bool | str) or type(value) is int:
            return value
        if isinstance(value, float):
            return _number(float(value))
        if id(value) in within:
            raise self.refuse(f"{where} holds itself, so it has no end as JSON.", "report a part of it")
        if len(within) == MAX_JSON_DEPTH:
            raise self.refuse(f"the value is nested more than {MAX_JSON_DEPTH} deep.", "report a part of it")
        within = (*within, id(value))
        if isinstance(value, Mapping):
            return {self._key(key, where): self._plain(v, f"{where}[{key!r}]", within) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(item, f"{where}[{i}]", within) for i, item in enumerate(value)]
        return self._plain(self._simpler(value, where), where, within)

    def _key(self, key: Any, where: str) -> str:
        if isinstance(key, str):
            return key
        if key is None or isinstance(key, bool | int | float | tuple) or hasattr(key, "item"):
            return str(key)
        raise self.refuse(f"{where} has the key {_kind(key)}, which is not text.", "make the keys text")

    def _simpler(self, value: Any, where: str) -> Any:
        """One step nearer to JSON."""
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        for kinds, simplify in SIMPLER:
            if isinstance(value, kinds):
                return simplify(value)
        for method in ("tolist", "to_dict", "to_list"):  # numpy, pandas, polars
            make = getattr(value, method, None)
            if make is not None and not isinstance(value, type):
                return make()
        raise self.refuse(f"{where} is {_kind(value)}, which JSON cannot hold.", "turn it into numbers, text or lists")


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
