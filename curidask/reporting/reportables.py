"""What a reportable is, and those that show text: HTML and JSON."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import html
import inspect
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from datetime import date, time, timedelta
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from curidask.core.keywords import CheckedCalls, keywords
from curidask.errors import ReportableError
from curidask.execution.base import FILES_PREFIX, Reported
from curidask.reporting.templating import safe

IMAGE_SUFFIXES = (".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".bmp")
LINKED_FILE = re.compile(re.escape(FILES_PREFIX) + r"([\w.~%-]+)", re.ASCII)
"""A place where a fragment names a file of its own."""

UNFIT = re.compile(r"[\x00-\x1f\x7f/\\<>\"'&#?%\ud800-\udfff]")
"""What stands in no file's name, or means something in an address or in HTML."""
LONGEST_PART = 60
"""Letters of each part of a qualified name: a file's name has 255 bytes at most."""

SIMPLER: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.value),
    (Set, lambda value: sorted(value, key=repr)),
    (Path | timedelta, str),
    (date | time, lambda value: value.isoformat()),
    (int, int),
)
"""How `JsonReporter` writes what JSON lacks."""

SVG_LENGTH = rb'\b%s="([\d.]+)(pt|px)?"'

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""In the text of an object that has none of its own."""
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


class Reportable(CheckedCalls):
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

    Attributes
    ----------
    path : str
        The folder for its files, while `render` and `html` are called; it ends with a separator.
    qualified_name : str
        The aggregate's mark, the parameter set, the stage and the name, as one text that is fit for a file's name.
    stage : str
        The stage that reported it, empty outside of stages.
    record : Record or None
        The record that reported it, as the stage has it.
    rendered : bool
        Whether `render` was called.

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
    path: str = ""
    qualified_name: str | None = None
    stage: str = ""
    record: Any = None
    rendered: bool = False

    @keywords()
    def __init__(self, name: str | None = None, group: str | None = None) -> None:
        self.name = name
        self.group = group
        self.qualified_name = name

    def __getstate__(self) -> Any:
        # A record belongs to its session and does not travel.
        state = super().__getstate__()
        held, slots = state if isinstance(state, tuple) else (state, None)
        held = {name: value for name, value in (held or {}).items() if name != "record"}
        return (held, slots) if slots else held

    # --- to be overridden --------------------------------------------------------------------------------------------
    def render(self, folder: Path | None = None) -> None:
        """Write files for the report.

        An override takes `folder` or leaves it out: `path` names the same folder.

        Parameters
        ----------
        folder : Path, optional
            An empty folder; whatever lies in it afterwards belongs to the reportable.
        """

    def html(self) -> str | list[str]:
        """Return a fragment of HTML to show, or a list of its lines.

        A file that `render` wrote is named by its place below `path`, or by `link`. Unless it is overridden, the files
        themselves are shown: images as images, others as links. Whatever comes from outside has to be escaped
        (`html.escape`). Scripts in a fragment do not run; `HTMLReporter` shows pages that need them.
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
    def capture(self, default_name: str, *, record: Any = None, stage: str = "") -> Reported:
        """Render, now.

        Parameters
        ----------
        default_name : str
            The title of a reportable without a name.
        record : Record, optional
            Who reports it.
        stage : str
            The stage that does.

        Raises
        ------
        ReportableError
            When it cannot be rendered.
        """
        self._check_names()
        name = self.name or default_name
        params, is_aggregate = getattr(record, "params", None), getattr(record, "is_aggregate", False)
        full = qualified_name(name, None if params is None else str(params.name), stage, is_aggregate=is_aggregate)
        known = {"record": record, "stage": stage, "qualified_name": full}
        # A copy: the same object may be reported for several records, each time under another default name.
        made = copy.copy(self)
        made._set(name=name, **known)
        reported = made._capture()
        self._set(rendered=True, **known)
        return reported

    def _capture(self) -> Reported:
        with tempfile.TemporaryDirectory(prefix="curidask-reportable-") as made:
            folder = Path(made).resolve()
            takes_folder = _takes_folder(self.render)
            means_another = takes_folder and "path" in vars(self) and not self._is_ours()
            if not means_another:
                self._set(path=f"{folder}{os.sep}")
            self._call(self.render, *([folder] if takes_folder else []))
            self._set(rendered=True)
            fragment = self._fragment()
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _files(folder)}
        fragment = self._with_links(fragment, folder, files)
        if not fragment and not files:
            raise self.refuse(
                "html() returned nothing and render() wrote no file.", "override html(), render(), or both"
            )
        self._check_links(fragment, files)
        shown = fragment or "".join(map(self._shown, files))
        if not self._is_ours():
            shown = safe(shown)
        return Reported(str(self.name), self.group or "", type(self).__name__, shown, files)

    def _fragment(self) -> str:
        fragment = self._call(self.html)
        if isinstance(fragment, list | tuple) and all(isinstance(line, str) for line in fragment):
            return "\n".join(fragment)
        if not isinstance(fragment, str):
            raise self.refuse(
                f"html() returned {_kind(fragment)}, not text.", "return the fragment as a str, or its lines as a list"
            )
        return fragment

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            with contextlib.suppress(AttributeError):  # a property of the class has its own say
                object.__setattr__(self, name, value)

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
                checked = copy.copy(self)
                checked._set(**{word: None})
                raise checked.refuse(f"its {word} is {_kind(value)}, not text.", f"pass {word} as a str")

    def _with_links(self, fragment: str, folder: Path, files: Iterable[str]) -> str:
        """The fragment with the addresses of the files in place of the paths that they have now."""
        named = {spelling: name for name in files for spelling in _spellings(name)}
        places = "|".join(map(re.escape, sorted(_spellings(str(folder)), key=len, reverse=True)))
        names = "|".join(map(re.escape, sorted(named, key=len, reverse=True)))
        if named:
            pattern = rf"(?:file://)?(?:{places})/+({names})(?![\w.%-])"
            fragment = re.sub(pattern, lambda match: self.link(named[match[1]]), fragment)
        left = re.search(rf"(?:{places})/+([\w.%][^\s\"'<>]*)", fragment)
        if left is not None:
            raise self._no_such_file(unquote(left[1]), files)
        return fragment

    def _check_links(self, fragment: str, files: Iterable[str]) -> None:
        for match in LINKED_FILE.finditer(fragment):
            name = unquote(match[1])
            if name not in files:
                raise self._no_such_file(name, files)

    def _no_such_file(self, name: str, files: Iterable[str]) -> ReportableError:
        there = ", ".join(map(repr, files)) or "no file"
        return self.refuse(f"html() links to {name!r}, but render() wrote {there}.", "correct the name")

    def _shown(self, name: str) -> str:
        if Path(name).suffix.lower() in IMAGE_SUFFIXES:
            return image_tag(name, alt=f"{self.name}: {name}")
        return file_link(name)


def qualified_name(name: str, params_name: str | None, stage: str, *, is_aggregate: bool = False) -> str:
    """The full name of a reportable: the aggregate's mark, the parameter set, the stage, and its own name.

    Parameters
    ----------
    name : str
        Its name; one that was made of the stage and a number counts as the number.
    params_name : str or None
        Of the parameter set, None without one.
    stage : str
    is_aggregate : bool
    """
    own = name.removeprefix(f"{stage}_") if re.fullmatch(rf"{re.escape(stage)}_\d+", name) else name
    parts = ["(Aggregate)" if is_aggregate else "", params_name or "", stage, own]
    return "_".join(UNFIT.sub("_", part)[:LONGEST_PART] for part in parts if part)


def _takes_folder(render: Callable[..., Any]) -> bool:
    """Whether a method is given the folder, rather than to find it as `path`."""
    first = next(iter(inspect.signature(render).parameters.values()), None)
    if first is None or first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        return False
    return first.name == "folder" or first.default is first.empty


def _spellings(name: str) -> set[str]:
    """A name as fragments spell it: as it is, escaped, and quoted."""
    return {name, html.escape(name), quote(name)}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _kind(value: object) -> str:
    """A value's type, for messages."""
    return f"{type(value).__name__} ({value!r:.60})"


def file_link(name: str) -> str:
    """A link to one of the reportable's files."""
    return f'<p class="files"><a href="{Reportable.link(name)}" download>{html.escape(name)}</a></p>'


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
    html_string : str, list of str or object
        The HTML, its lines, or an object that has it: ``_repr_html_()`` or ``to_html()``. (`content` is another name.)
    name, group : str, optional
        See `Reportable`.
    height : int, optional
        Of the frame, in pixels; by default it follows the page.
    """

    @keywords(content="html_string")
    def __init__(
        self, html_string: Any, name: str | None = None, group: str | None = None, *, height: int | None = None
    ) -> None:
        super().__init__(name, group)
        self.html_string = html_string
        self.height = height

    def render(self, folder: Path | None = None) -> None:
        """Write the page."""
        text = self._text()
        if not re.match(r"\s*(<!doctype|<html)", text, re.IGNORECASE):
            text = f'<!doctype html>\n<meta charset="utf-8">\n<style>body {{ font-family: sans-serif }}</style>\n{text}'
        told = "" if self.height is not None else TELL_HEIGHT
        (Path(folder or self.path) / "page.html").write_text(text + told, encoding="utf-8", errors="replace")

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
        given = self.html_string
        if isinstance(given, list | tuple) and all(isinstance(line, str) for line in given):
            given = "\n".join(given)
        if not isinstance(given, str):
            make = getattr(given, "_repr_html_", None) or getattr(given, "to_html", None)
            if make is None or isinstance(given, type):
                raise self.refuse(
                    f"it was given {_kind(given)}, which is no HTML.",
                    "pass HTML as a str, its lines as a list, or what has to_html()",
                )
            given = make()
        if not isinstance(given, str) or not given.strip():
            raise self.refuse("its HTML is empty.", "pass what is to be shown")
        return given


class JsonReporter(Reportable):
    """Shows a value as JSON, and keeps it as a file.

    Beside JSON's own types it takes dataclasses, numpy scalars and arrays, pandas objects, sets, paths, dates and
    enumerations; of other objects it shows the text that ``str`` gives, where that is more than an address in memory.
    NaN and infinities, which JSON lacks, become the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"``.

    Parameters
    ----------
    dictionary : object
        What to show, most often a dict. (`value` is another name.)
    name, group : str, optional
        See `Reportable`.
    """

    @keywords(value="dictionary")
    def __init__(self, dictionary: Any, name: str | None = None, group: str | None = None) -> None:
        super().__init__(name, group)
        self.data = dictionary
        self._text = ""

    def render(self, folder: Path | None = None) -> None:
        """Write the JSON."""
        self._text = json.dumps(self._plain(self.data, "the value", ()), indent=2, ensure_ascii=False)
        (Path(folder or self.path) / "value.json").write_text(self._text, encoding="utf-8", errors="replace")

    def html(self) -> str:
        """The beginning of the JSON, and a link to all of it."""
        shown = self._text[:SHOWN_JSON_CHARACTERS]
        note = ""
        if len(shown) < len(self._text):
            share = f"{len(shown):,} of {len(self._text):,}"
            note = f'<p class="note">Shown are {share} characters; the file has all of them.</p>'
        return f'<pre class="json"><code>{html.escape(shown)}</code></pre>{note}{file_link("value.json")}'

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
        text = str(value)
        if ADDRESS.search(text):
            raise self.refuse(
                f"{where} is {_kind(value)}, which JSON cannot hold.", "turn it into numbers, text or lists"
            )
        return text


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
