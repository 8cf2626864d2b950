"""Reportables as the documented API has them: custom ones that write into ``self.path``, names of keywords, typos."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from curidask.errors import ReportableError, UnknownKeywordError
from curidask.execution.base import FILES_PREFIX, Reported
from curidask.execution.stage_context import capture
from curidask.reporting import (
    DFReporter,
    FigureReporter,
    HTMLReporter,
    ImageReporter,
    JsonReporter,
    LatexTableReporter,
    LinePlotReporter,
    Reportable,
)

FRAME = pd.DataFrame({"a_b": [1.0, 2.5], "b": ["x & y", "z"]})


def captured(reportable: Any, name: str | None = "small", stage: str = "fit", *, aggregate: bool = False) -> Reported:
    params = None if name is None else SimpleNamespace(name=name)
    record = SimpleNamespace(params=params, is_aggregate=aggregate)
    return capture(reportable, f"{stage}_0", "stage 'fit'", record, stage)


def figure() -> Any:
    made = plt.Figure()
    made.subplots().plot([1, 2])
    return made


# --- custom ones -----------------------------------------------------------------------------------------------------
class Documented(Reportable):
    """The example of the documentation: a figure of its own."""

    def __init__(self, fig: Any, name: str | None = None, group: str | None = None) -> None:
        self.fig = fig
        super().__init__(name=name, group=group)

    def render(self) -> None:  # type: ignore[override]  # as it is documented
        self.fig.savefig(os.path.join(self.path, f"{self.qualified_name}.png"))

    def html(self) -> str:
        return f"<img src='{self.path}/{self.qualified_name}.png'>"


class Joined(Documented):
    """The older example: nothing between the folder and the name."""

    def render(self) -> None:
        self.fig.savefig(f"{self.path}{self.name}.png")

    def html(self) -> str:
        return f"<img src='{self.path}{self.name}.png'>"


def linked(reported: Reported) -> list[str]:
    return [unquote(name) for name in re.findall(re.escape(FILES_PREFIX) + r"([\w.~%-]+)", reported.html)]


@pytest.mark.parametrize("kind", [Documented, Joined])
def test_a_custom_figure_is_shown_by_its_path(kind: type[Documented]) -> None:
    made = captured(kind(figure(), "my plot"))
    (name,) = made.files
    assert made.files[name].startswith(b"\x89PNG")
    assert linked(made) == [name]
    assert "/tmp" not in made.html
    assert (made.name, made.kind) == ("my plot", kind.__name__)


HARD = ["1/2 of <it>", "a 'b' \"c\" & d?#%", "ünï cödé (x)", "x" * 3000, "../../up"]


@pytest.mark.parametrize("name", HARD)
def test_whatever_set_and_reportable_are_named_its_files_are_found(name: str) -> None:
    made = captured(Documented(figure(), name), name)
    assert linked(made) == list(made.files)
    assert "<it>" not in made.html


class Asked(Reportable):
    """Keeps what it saw."""

    seen: dict[str, Any]

    def render(self) -> None:  # type: ignore[override]
        assert Path(self.path).is_dir()
        assert not self.rendered
        Path(self.path, "sub").mkdir()
        Path(self.path, "sub", "data.txt").write_text("1")

    def html(self) -> list[str]:
        SEEN.append({name: getattr(self, name) for name in ("name", "group", "stage", "qualified_name", "rendered")})
        there = Path(self.path, "sub", "data.txt").read_text()
        return [f"<p>{there}</p>", f'<a href="{self.path}sub/data.txt">data</a>']


SEEN: list[dict[str, Any]] = []


@pytest.mark.parametrize(
    ("name", "params", "aggregate", "full"),
    [
        ("n", "small", False, "small_fit_n"),
        (None, "small", False, "small_fit_0"),
        ("n", None, True, "(Aggregate)_fit_n"),
        (None, "all", True, "(Aggregate)_all_fit_0"),
    ],
)
def test_what_a_reportable_knows_when_it_is_asked(
    name: str | None, params: str | None, aggregate: bool, full: str
) -> None:
    SEEN.clear()
    reportable = Asked(name, "G")
    made = captured(reportable, params, aggregate=aggregate)
    expected = {"name": name or "fit_0", "group": "G", "stage": "fit", "qualified_name": full, "rendered": True}
    assert [expected] == SEEN
    assert made.html.splitlines()[0] == "<p>1</p>"
    assert linked(made) == list(made.files) == ["sub/data.txt"]
    # The object that was reported knows it as well, but for the name, which the next stage gives anew.
    assert (reportable.qualified_name, reportable.stage, reportable.rendered) == (full, "fit", True)
    assert reportable.name == name
    assert reportable.record.is_aggregate == aggregate


def test_a_record_does_not_travel_with_a_reportable() -> None:
    reportable = JsonReporter({"a": 1})
    captured(reportable)
    reportable.record = lambda: None  # what cannot be pickled
    for other in (pickle.loads(pickle.dumps(reportable)), copy.copy(reportable)):
        assert other.record is None
        assert other.qualified_name == "small_fit_0"


def test_a_file_that_was_not_written_is_refused_by_name() -> None:
    class Missing(Documented):
        def html(self) -> str:
            return f"<img src='{self.path}/other.png'>"

    with pytest.raises(ReportableError, match=r"'other\.png', but render\(\) wrote 'small_fit_n\.png'"):
        captured(Missing(figure(), "n"))


def test_a_name_that_begins_as_another_is_not_taken_for_it() -> None:
    class Two(Reportable):
        def render(self) -> None:  # type: ignore[override]
            Path(self.path, "a").write_text("1")
            Path(self.path, "a.png").write_text("2")

        def html(self) -> str:
            return f"<img src={self.path}/a.png><a href='file://{self.path}/a'>a</a>"

    assert linked(captured(Two())) == ["a.png", "a"]


class GivenFolder(Reportable):
    """The other protocol, with a path of its own."""

    def __init__(self, path: str) -> None:
        super().__init__("n")
        self.path = path

    def render(self, folder: Path) -> None:  # type: ignore[override]
        (folder / "copy.txt").write_text(self.path)

    def html(self) -> str:
        return f'<a href="{self.link("copy.txt")}">copy</a>'


def test_a_folder_that_is_asked_for_is_given() -> None:
    assert captured(GivenFolder("/somewhere")).files == {"copy.txt": b"/somewhere"}


@pytest.mark.parametrize("base", [FigureReporter, LinePlotReporter])
def test_built_in_ones_can_be_built_upon(base: Any) -> None:
    class Captioned(base):  # type: ignore[misc]
        def render(self) -> None:
            super().render()
            Path(self.path, "more.txt").write_text("1")

        def html(self) -> str:
            return f"{super().html()}<p>{self.qualified_name}</p>"

    made = captured(Captioned(figure() if base is FigureReporter else [1, 2], name="n"))
    assert set(made.files) == {"figure.svg", "more.txt"}
    assert made.html.endswith("<p>small_fit_n</p>")


@dataclass(frozen=True)
class Frozen(Reportable):
    text: str = ""

    def html(self) -> str:
        return f"<p>{self.text}: {self.qualified_name}</p>"


def test_a_class_may_be_frozen() -> None:
    assert captured(Frozen(text="x")).html == "<p>x: small_fit_0</p>"


# --- keywords --------------------------------------------------------------------------------------------------------
CALLS: dict[str, Callable[[], Reportable]] = {
    "HTMLReporter": lambda: HTMLReporter(html_string="<p>x</p>", name="n", group="g"),
    "lines": lambda: HTMLReporter(["<p>", "x", "</p>"], "n", "g"),
    "content": lambda: HTMLReporter(content="<p>x</p>", name="n", group="g"),
    "JsonReporter": lambda: JsonReporter(dictionary={"a": 1}, name="n", group="g"),
    "value": lambda: JsonReporter(value=[1], name="n", group="g"),
    "DFReporter": lambda: DFReporter(df=FRAME, name="n", group="g", float_prec=2),
    "by position": lambda: DFReporter(FRAME, "n", "g", 2),
    "float_precision": lambda: DFReporter(FRAME, "n", "g", float_precision=2),  # type: ignore[call-arg]
    "ImageReporter": lambda: ImageReporter(image_path=SVG, name="n", group="g"),
    "image": lambda: ImageReporter(image=SVG, name="n", group="g"),
    "FigureReporter": lambda: FigureReporter(figure(), "n", "g", transparent=True, dpi=30, pad_inches=0.5),
    "LinePlotReporter": lambda: LinePlotReporter(
        [1, 2], [3, 4], "n", "g", {"marker": "o", "lw": 2}, {"format": "png", "dpi": 30}
    ),
    "plot_kwargs": lambda: LinePlotReporter(
        y=[1, 2], x=None, name="n", group="g", plot_kwargs={"color": "r"}, savefig_kwargs={}, marker="o"
    ),
    "LatexTableReporter": lambda: LatexTableReporter(FRAME, "n", "g", column_format="lrr", caption="C"),
}
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"/>'


@pytest.mark.parametrize("make", CALLS.values(), ids=CALLS.keys())
def test_the_documented_calls(make: Callable[[], Reportable]) -> None:
    made = captured(make())
    assert (made.name, made.group) == ("n", "g")
    assert made.html
    assert made.files


TYPOS: dict[str, tuple[Callable[[], Any], str]] = {
    "a name": (lambda: JsonReporter({}, nmae="n"), "'name'"),  # type: ignore[call-arg]
    "a synonym": (lambda: DFReporter(FRAME, float_precison=2), "'float_precision'"),  # type: ignore[call-arg]
    "HTML": (lambda: HTMLReporter(html_strng="x"), "'html_string'"),  # type: ignore[call-arg]
    "an image": (lambda: ImageReporter(image_pth="x"), "'image_path'"),  # type: ignore[call-arg]
    "savefig": (lambda: FigureReporter(figure(), transparnt=True), "'transparent'"),
    "a figure's own": (lambda: FigureReporter(figure(), nmae="n"), "'name'"),
    "plot": (lambda: LinePlotReporter([1], colour="red"), "'color'"),
    "a plot's own": (lambda: LinePlotReporter([1], xlable="x"), "'xlabel'"),
    "plot_kwargs": (lambda: LinePlotReporter([1], plot_kwargs={"markr": "o"}), "'marker'"),
    "savefig_kwargs": (lambda: LinePlotReporter([1], savefig_kwargs={"dpii": 3}), "'dpi'"),
    "LaTeX": (lambda: LatexTableReporter(FRAME, column_fmt="l"), "'column_format'"),
    "where to write": (lambda: LatexTableReporter(FRAME, buf="x"), ""),
    "the base": (lambda: Reportable(grup="g"), "'group'"),  # type: ignore[call-arg]
}


@pytest.mark.parametrize(("make", "near"), TYPOS.values(), ids=TYPOS.keys())
def test_a_typo_is_refused_at_once_with_the_near_name(make: Callable[[], Any], near: str) -> None:
    with pytest.raises(UnknownKeywordError) as caught:
        make()
    assert near in caught.value.fix


ORDER = {
    HTMLReporter: ["html_string", "name", "group"],
    LatexTableReporter: ["df", "name", "group"],
    DFReporter: ["df", "name", "group", "float_prec"],
    JsonReporter: ["dictionary", "name", "group"],
    FigureReporter: ["fig", "name", "group"],
    ImageReporter: ["image_path", "name", "group"],
    LinePlotReporter: ["y", "x", "name", "group", "plot_kwargs", "savefig_kwargs"],
}


@pytest.mark.parametrize("kind", ORDER, ids=lambda kind: kind.__name__)
def test_the_order_of_arguments(kind: type[Reportable]) -> None:
    parameters = inspect.signature(kind).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ORDER[kind]


# --- what they show --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(1.23456, 4, "1.2346"), (0.00001234, 4, "1.2340e-05"), (0.0, 2, "0.00"), (2.5, 0, "2"), (1 / 3, None, "0.333333")],
)
def test_digits_never_make_a_zero_of_a_number(value: float, digits: int | None, shown: str) -> None:
    reportable = DFReporter(pd.DataFrame({"a": [value]}), float_prec=digits)
    assert f"<td>{shown}</td>" in captured(reportable).html


def test_four_digits_unless_told_otherwise() -> None:
    assert "<td>0.3333</td>" in captured(DFReporter(pd.DataFrame({"a": [1 / 3]}))).html


def test_latex_as_it_is_where_cells_hold_latex() -> None:
    frame = pd.DataFrame({"a": [r"$\alpha$"]})
    assert rb"$\alpha$" in captured(LatexTableReporter(frame, escape=False)).files["table.tex"]
    assert rb"$\alpha$" not in captured(LatexTableReporter(frame)).files["table.tex"]
    plain = captured(LatexTableReporter(FRAME, hrules=False, position="h")).files["table.tex"]
    assert b"toprule" not in plain
    assert rb"\begin{table}[h]" in plain


def test_a_format_for_papers_is_kept_beside_what_is_shown() -> None:
    made = captured(FigureReporter(figure(), format="pdf"))
    assert made.files["figure.pdf"].startswith(b"%PDF")
    assert linked(made) == ["figure.svg", "figure.pdf"]


@pytest.mark.parametrize("options", [{"metadata": {"Author": "me"}}, {"pil_kwargs": {"optimize": True}}])
def test_what_is_for_pixels_gives_a_png(options: dict[str, Any]) -> None:
    assert list(captured(FigureReporter(figure(), **options)).files) == ["figure.png"]
    assert list(captured(LinePlotReporter([1, 2], savefig_kwargs=options)).files) == ["figure.png"]


class Money:
    def __str__(self) -> str:
        return "5 euros"


def test_json_of_what_has_a_text_of_its_own() -> None:
    assert b'"5 euros"' in captured(JsonReporter({"price": Money()})).files["value.json"]
    with pytest.raises(ReportableError, match="JSON cannot hold"):
        captured(JsonReporter({"f": figure}))
