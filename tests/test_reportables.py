"""Reportables: what they capture, that they capture it at once, and how they refuse what cannot be shown."""

from __future__ import annotations

import base64
import html
import io
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curidask.errors import ReportableError, WrongTypeError
from curidask.execution.base import FILES_PREFIX, Reported
from curidask.execution.stage_context import capture
from curidask.execution.tracebacks import describe_error, user_traceback
from curidask.reporting import (
    DFReporter,
    FigureReporter,
    HTMLReporter,
    ImageReporter,
    JsonReporter,
    LatexTableReporter,
    LinePlotReporter,
    Reportable,
    figures,
)
from curidask.reporting.templating import VOID, safe

HOSTILE = "<img src=x onerror=alert(1)>"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def captured(reportable: Any) -> Reported:
    return capture(reportable, "stage_0", "stage 'fit' of Record 0 (small)")


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


# --- tables ----------------------------------------------------------------------------------------------------------
def test_a_table_is_shown_escaped_and_kept_whole() -> None:
    frame = pd.DataFrame({HOSTILE: [HOSTILE, "b"], "n": [1.25, float("nan")]}, index=["<b>", "c"])
    made = captured(DFReporter(frame, name="scores", group="G"))
    page = Elements(made.html)
    assert (made.name, made.group, made.kind) == ("scores", "G", "DFReporter")
    assert not page.of("img")
    assert page.text.count(HOSTILE) == 2
    assert "<b>" in page.text
    kept = pd.read_csv(io.BytesIO(made.files["table.csv"]), index_col=0)
    pd.testing.assert_frame_equal(kept, frame, check_index_type=False, check_column_type=False, check_dtype=False)


def test_a_table_is_shown_as_it_was() -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    made = captured(DFReporter(frame))
    frame.loc[0, "a"] = 777
    assert "777" not in made.html
    assert b"777" not in made.files["table.csv"]


@pytest.mark.parametrize(
    "table",
    [
        pd.Series([1, 2], name="a"),
        pl.DataFrame({"a": [1, 2]}),
        pl.Series("a", [1, 2]),
        pd.DataFrame({("a", "b"): [1, 2]}),
    ],
)
def test_other_tables(table: Any) -> None:
    page = Elements(captured(DFReporter(table)).html)
    assert len(page.of("td")) == 2
    assert "a" in page.text


def test_of_a_huge_table_a_part_is_shown_and_all_is_kept() -> None:
    frame = pd.DataFrame(np.arange(500_000).reshape(10_000, 50))
    made = captured(DFReporter(frame))
    assert len(made.html) < 200_000
    assert "60 of 10,000 rows and 30 of 50 columns" in made.html
    assert made.files["table.csv"].count(b"\n") == 10_001


def test_digits_after_the_point() -> None:
    made = captured(DFReporter(pd.DataFrame({"a": [1.23456]}), float_precision=2))
    assert "1.23<" in made.html
    assert b"1.23456" in made.files["table.csv"]


def test_an_empty_table_says_so() -> None:
    assert "no rows" in captured(DFReporter(pd.DataFrame({"a": []}))).html


def test_latex_is_shown_and_kept() -> None:
    frame = pd.DataFrame({"a_b": [0.123456], "50%": ["x & y"]})
    made = captured(LatexTableReporter(frame, float_precision=2, caption="C", label="tab:c", index=False))
    text = made.files["table.tex"].decode()
    assert r"a\_b & 50\% \\" in text
    assert r"0.12 & x \& y \\" in text
    assert r"\caption{C}" in text
    assert r"\label{tab:c}" in text
    assert text.strip() in Elements(made.html).text


# --- JSON ------------------------------------------------------------------------------------------------------------
class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    where: Path


def test_json_of_many_kinds() -> None:
    value = {
        "nan": float("nan"),
        "infinite": [float("inf"), float("-inf")],
        1: {3, 1, 2},
        "array": np.arange(3),
        "scalar": np.float32(0.5),
        "numpy nan": np.float64("nan"),
        "point": Point(1.5, Path("a/b")),
        "day": date(2026, 5, 1),
        "colour": Colour.RED,
        "frame": pd.DataFrame({"a": [1]}),
        "text": HOSTILE,
        "flag": True,
    }
    made = captured(JsonReporter(value))
    read = json.loads(made.files["value.json"], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read == {
        "nan": "NaN",
        "infinite": ["Infinity", "-Infinity"],
        "1": [1, 2, 3],
        "array": [0, 1, 2],
        "scalar": 0.5,
        "numpy nan": "NaN",
        "point": {"x": 1.5, "where": "a/b"},
        "day": "2026-05-01",
        "colour": "red",
        "frame": {"a": {"0": 1}},
        "text": HOSTILE,
        "flag": True,
    }
    page = Elements(made.html)
    assert HOSTILE in page.text
    assert not page.of("img")


def test_long_json_is_shown_in_part() -> None:
    made = captured(JsonReporter(list(range(50_000))))
    assert len(made.html) < 50_000
    assert json.loads(made.files["value.json"]) == list(range(50_000))


def cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> Any:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


# --- figures ---------------------------------------------------------------------------------------------------------
def test_a_figure_is_captured_whatever_happens_to_it() -> None:
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3])
    axes.set_title("before")
    reportable = FigureReporter(figure, name="f")
    first = captured(reportable)
    axes.plot(range(100))
    plt.close(figure)
    second = captured(reportable)
    assert first.files["figure.svg"] != second.files["figure.svg"]
    assert b"<svg" in first.files["figure.svg"]
    (image,) = Elements(first.html).of("img")
    assert image["src"] == FILES_PREFIX + "figure.svg"
    assert image["alt"]
    assert int(image["width"] or 0) > 100


def test_pyplot_stays_as_it_is() -> None:
    figure, axes = plt.subplots()
    axes.plot([1])
    other = plt.figure()
    before = (mpl.get_backend(), plt.get_fignums(), plt.gcf(), figure.canvas, dict(mpl.rcParams))
    captured(FigureReporter(figure))
    captured(LinePlotReporter([1, 2]))
    captured(FigureReporter(axes, format="png"))
    assert (mpl.get_backend(), plt.get_fignums(), plt.gcf(), figure.canvas, dict(mpl.rcParams)) == before
    plt.close(figure)
    plt.close(other)


def test_a_plot_never_loads_pyplot() -> None:
    code = (
        "import sys; from curidask.reporting import LinePlotReporter; LinePlotReporter([1, 2]).capture('p');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_same_figure_gives_the_same_file() -> None:
    reported = [captured(LinePlotReporter([1, 2, 3], title="t", format="png")).files["figure.png"] for _ in range(2)]
    assert reported[0] == reported[1]
    assert reported[0].startswith(b"\x89PNG")


def test_a_figure_of_very_many_points_is_a_png(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "LARGEST_SVG_BYTES", 30_000)
    assert set(captured(LinePlotReporter([1, 2])).files) == {"figure.svg"}
    made = captured(LinePlotReporter(list(np.random.default_rng(0).random(3000)), marker="o"))
    assert set(made.files) == {"figure.png"}


def test_lines_by_label_with_holes() -> None:
    y = {"a": [1, None, float("inf"), 4], "_hidden?": np.array([1.0, 2.0]), HOSTILE: pd.Series([1, 2, 3])}
    made = captured(LinePlotReporter(y, {"a": [0, 1, 2, 3], "_hidden?": [5, 6], HOSTILE: [0, 1, 2]}, title=HOSTILE))
    assert HOSTILE.encode() not in made.files["figure.svg"]
    (image,) = Elements(made.html).of("img")
    assert HOSTILE in str(image["alt"])


def test_a_data_frame_gives_a_line_a_column() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [2, 3]}, index=[10, 20])
    assert "of a, b" in captured(LinePlotReporter(frame)).html


@pytest.mark.parametrize("given", ["path", "text", "bytes"])
def test_an_image_is_kept_as_it_is(tmp_path: Path, given: str) -> None:
    path = tmp_path / "pixel.png"
    path.write_bytes(PIXEL)
    reportable = ImageReporter({"path": path, "text": str(path), "bytes": PIXEL}[given], alt=HOSTILE)
    made = captured(reportable)
    path.unlink()
    assert made.files == {"image.png": PIXEL}
    (image,) = Elements(made.html).of("img")
    assert (image["alt"], image["width"], image["height"]) == (HOSTILE, "1", "1")


def test_an_svg_image() -> None:
    made = captured(
        ImageReporter(b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"/>')
    )
    assert list(made.files) == ["image.svg"]
    assert 'width="20" height="10"' in made.html


@pytest.mark.parametrize(
    ("data", "suffix"), [(b"BM\x0a\0\0\0more", "bmp"), (b"\0\0\0\x1cftypavif rest", "avif"), (PIXEL, "png")]
)
def test_what_kind_of_image_it_is(data: bytes, suffix: str) -> None:
    assert list(captured(ImageReporter(data)).files) == [f"image.{suffix}"]


# --- HTML ------------------------------------------------------------------------------------------------------------
def test_a_page_of_ones_own_is_in_a_frame_that_may_only_run_scripts() -> None:
    made = captured(HTMLReporter("<script>1</script>", name=HOSTILE))
    (frame,) = Elements(made.html).of("iframe")
    assert frame["sandbox"] == "allow-scripts"
    assert frame["src"] == FILES_PREFIX + "page.html"
    assert frame["title"] == HOSTILE
    assert b"<script>1</script>" in made.files["page.html"]
    assert made.files["page.html"].lower().startswith(b"<!doctype html>")


def test_a_page_of_fixed_height_and_objects_with_html() -> None:
    made = captured(HTMLReporter(pd.DataFrame({"a": [1]}), height=123))
    (frame,) = Elements(made.html).of("iframe")
    assert frame["height"] == "123"
    assert b"<table" in made.files["page.html"]
    assert b"curidaskHeight" not in made.files["page.html"]


def drawn() -> Any:
    figure = plt.Figure()
    figure.subplots().plot([1, 2])
    return figure


# --- what cannot be shown --------------------------------------------------------------------------------------------
REFUSED: dict[str, Callable[[], Any]] = {
    "no table": lambda: DFReporter(5, name="mine"),
    "no table at all": lambda: DFReporter(None, name="mine"),
    "no line": lambda: LinePlotReporter([], name="mine"),
    "no lines": lambda: LinePlotReporter({}, name="mine"),
    "an empty line among others": lambda: LinePlotReporter({"a": [1], "b": []}, name="mine"),
    "lengths that differ": lambda: LinePlotReporter([1, 2], [1], name="mine"),
    "a label without x": lambda: LinePlotReporter({"a": [1]}, {"b": [1]}, name="mine"),
    "two dimensions": lambda: LinePlotReporter([[1, 2], [3, 4]], name="mine"),
    "a ragged list": lambda: LinePlotReporter([[1], [2, 3]], name="mine"),
    "words": lambda: LinePlotReporter(["a", "b"], name="mine"),
    "a word": lambda: LinePlotReporter("abc", name="mine"),
    "a number": lambda: LinePlotReporter(3, name="mine"),
    "nothing to plot": lambda: LinePlotReporter(None, name="mine"),
    "an argument that plot cannot take": lambda: LinePlotReporter([1], name="mine", color="redd"),
    "an argument of another format": lambda: FigureReporter(drawn(), name="mine", format="svg", pil_kwargs={}),
    "mathematics that cannot be set": lambda: LinePlotReporter([1], name="mine", title=r"$\frac{1$"),
    "no figure": lambda: FigureReporter("f.png", name="mine"),
    "a class": lambda: FigureReporter(plt.Figure, name="mine"),
    "an empty figure": lambda: FigureReporter(plt.Figure(), name="mine"),
    "a format that is none": lambda: FigureReporter(drawn(), name="mine", format="pfd"),
    "no file": lambda: ImageReporter("nowhere.png", name="mine"),
    "a folder": lambda: ImageReporter("/", name="mine"),
    "no image": lambda: ImageReporter(b"GIF? no", name="mine"),
    "no bytes": lambda: ImageReporter(b"", name="mine"),
    "an image of nothing": lambda: ImageReporter(None, name="mine"),
    "an object": lambda: JsonReporter({"a": [object()]}, name="mine"),
    "an object as key": lambda: JsonReporter({object(): 1}, name="mine"),
    "a cycle": lambda: JsonReporter(cycle(), name="mine"),
    "too deep": lambda: JsonReporter(deep(), name="mine"),
    "no HTML": lambda: HTMLReporter(5, name="mine"),
    "empty HTML": lambda: HTMLReporter("  ", name="mine"),
    "nothing": lambda: Reportable(name="mine"),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_shown_is_refused_by_name(make: Callable[[], Any]) -> None:
    with pytest.raises(ReportableError) as caught:
        captured(make())
    error = caught.value
    assert "'mine'" in error.what
    assert type(make()).__name__ in error.what
    assert error.where == "stage 'fit' of Record 0 (small)"
    assert error.fix
    travelled = pickle.loads(pickle.dumps(describe_error(error, portable=True)))
    assert travelled.message == error.what
    assert "curidask/reporting" not in user_traceback(error, chain=False)


@pytest.mark.parametrize("what", ["text", None, DFReporter, [1]])
def test_what_is_no_reportable_is_refused(what: Any) -> None:
    with pytest.raises(ReportableError, match="no reportable"):
        captured(what)


@pytest.mark.parametrize("word", ["name", "group"])
def test_names_are_text(word: str) -> None:
    with pytest.raises(WrongTypeError, match=word):
        JsonReporter(1, **{word: 5})
    reportable = JsonReporter(1)
    setattr(reportable, word, 5)
    with pytest.raises(ReportableError, match=word):
        captured(reportable)


# --- own ones --------------------------------------------------------------------------------------------------------
class Both(Reportable):
    def __init__(self, files: dict[str, bytes], fragment: Any = None) -> None:  # does not call the base's
        self.given = files
        self.fragment = fragment

    def render(self, folder: Path) -> None:
        for name, data in self.given.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

    def html(self) -> Any:
        return self.fragment if self.fragment is not None else super().html()


def test_files_without_a_fragment_are_shown() -> None:
    made = captured(Both({"a b&c.png": PIXEL, "sub/data.bin": b"1"}))
    page = Elements(made.html)
    assert [image["src"] for image in page.of("img")] == [FILES_PREFIX + "a%20b%26c.png"]
    assert [link["href"] for link in page.of("a")] == [FILES_PREFIX + "sub%2Fdata.bin"]
    assert made.files == {"a b&c.png": PIXEL, "sub/data.bin": b"1"}
    assert made.name == "stage_0"


def test_the_same_object_reported_twice_gets_two_names() -> None:
    reportable = JsonReporter(1)
    names = [capture(reportable, default, "").name for default in ("a", "b")]
    assert names == ["a", "b"]
    assert reportable.name is None


def test_a_fragment_may_only_link_to_its_own_files() -> None:
    with pytest.raises(ReportableError, match=r"missing\.png"):
        captured(Both({"there.png": PIXEL}, f'<img src="{Reportable.link("missing.png")}">'))


@pytest.mark.parametrize("fragment", [5, b"x", ["a", 1]])
def test_a_fragment_is_text(fragment: Any) -> None:
    with pytest.raises(ReportableError, match="html"):
        captured(Both({}, fragment))


class Broken(Reportable):
    def html(self) -> str:
        raise KeyError(HOSTILE)


def test_an_error_in_ones_own_code_shows_ones_own_frames() -> None:
    with pytest.raises(ReportableError) as caught:
        captured(Broken("mine"))
    info = describe_error(caught.value, portable=True)
    assert "KeyError" in info.message
    assert "raise KeyError(HOSTILE)" in info.traceback_text
    assert "curidask/" not in info.traceback_text


# --- fragments -------------------------------------------------------------------------------------------------------
class Nesting(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.stray: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.stray.append(tag)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("<div><p>a", "<div><p>a</p></div>"),
        ("a</div></main>b", "ab"),
        ("<ul><li>a<li>b</ul>c", "<ul><li>a<li>b</li></li></ul>c"),
        ("<script>alert(1)</script>x", "x"),
        ("<body onload=x>a</body>", "a"),
        ("<br>&amp;&#65;<img src=x>", '<br>&amp;&#65;<img src="x">'),
        ("1 < 2 <b", "1 &lt; 2 &lt;b"),
        ("<style>a > b { }</style>", "<style>a > b { }</style>"),
    ],
)
def test_fragments_close_what_they_open(given: str, expected: str) -> None:
    assert safe(given) == expected


PIECES = [
    "<div>",
    "</div>",
    "<p class='a'>",
    "</p>",
    "</main>",
    "<br>",
    "a",
    "&amp;",
    "<b",
    ">",
    "<!--",
    "-->",
    "<script>",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_fragments_never_close_what_is_around_them(pieces: list[str]) -> None:
    nesting = Nesting(safe("".join(pieces)))
    assert nesting.open == []
    assert nesting.stray == []


def test_own_fragments_are_balanced_and_built_in_ones_are_whole() -> None:
    assert captured(Both({}, "<div>open")).html == "<div>open</div>"
    for reportable in (
        DFReporter(pd.DataFrame({"a": [1]})),
        JsonReporter([1]),
        HTMLReporter("x"),
        LinePlotReporter([1]),
    ):
        nesting = Nesting(captured(reportable).html)
        assert nesting.open == []
        assert nesting.stray == []


def test_links_survive_escaping() -> None:
    name = "a'\"<b>.txt"
    made = captured(Both({name: b"1"}, f'<a href="{html.escape(Reportable.link(name))}">x</a>'))
    assert re.search(r'href="curidask-files:[\w.~%-]+"', made.html)
