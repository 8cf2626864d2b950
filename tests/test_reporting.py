"""The report of a run, its map, and the index: made from run records alone, whatever names they hold."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curidask.errors import ConfigurationError, ProjectError
from curidask.execution.base import FILES_PREFIX, Reported
from curidask.reporting import graph_layout, graph_svg, index, report, sections, templating
from curidask.reporting.model import RunView, read_run
from curidask.reporting.report import write_report
from curidask.reporting.server import ReportServer
from curidask.reporting.templating import cut, duration, size
from tests.run_folders import run_record, task, write_run

HOSTILE = "<img src=x onerror=alert(1)>"
HARD_NAMES = [
    HOSTILE,
    '"><script>alert(1)</script>',
    "' onmouseover=alert(1) x='",
    "{{ 7 * 7 }}{% raw %}",
    "</title></svg></style></main>",
    "javascript:alert(1)",
    "../../etc/passwd",
    "ünïcödé \u202e مرحبا 🎉",
    "a\nb\tc",
    "&lt;b&gt; &amp;",
    "x" * 3000,
]


class Page(HTMLParser):
    """A page's elements, attributes, text and addresses."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.structure: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.structure.append((tag, tuple(name for name, _ in attrs)))
        values = dict(attrs)
        self.addresses += [value for name in ("src", "href", "data") if (value := values.get(name))]
        self.ids += [value for name in ("id",) if (value := values.get(name))]

    def handle_data(self, data: str) -> None:
        self.text += data

    def missing_targets(self) -> list[str]:
        """Addresses that lead to no file, or to no place in it."""
        missing = []
        for address in self.addresses:
            name, _, anchor = address.partition("#")
            target = self.path.parent / unquote(name) if name else self.path
            if address.startswith("data:"):
                continue
            if not target.exists() or (anchor and anchor not in re.findall(r'id="([^"]*)"', target.read_text())):
                missing.append(address)
        return missing


def shown(name: str, group: str = "", html: str = "<p>shown</p>", **files: bytes) -> Reported:
    return Reported(name, group, "Own", html, {key.replace("_", "."): data for key, data in files.items()})


def make(tmp_path: Path, data: dict[str, Any], reported: Sequence[tuple[int, Reported]] = ()) -> Page:
    folder = write_run(tmp_path / "runs", data, reported)
    return Page(write_report(folder, tmp_path / "reports", logs=tmp_path / "logs"))


# --- what is in it ---------------------------------------------------------------------------------------------------
def test_a_report_says_what_was_run_and_how_to_do_it_again(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "demo_1_2026-05-01-T101500.log"
    log.parent.mkdir()
    log.write_text("t [INFO] a: first\nt [WARNING] a: second <b>\n")
    data = run_record(
        warnings=["a damaged artifact"],
        notes="A better rate\n\nSince the old one was too slow.",
        git={"commit": "abc123", "changed": True},
        folder="/project dir",
        log=str(log),
        packages={"numpy": "2.1"},
    )
    page = make(tmp_path, data)
    for text in (
        "demo_1_2026-05-01-T101500",
        "experiment demo --parallel 2",
        "cd '/project dir'\ngit checkout abc123\nexperiment demo --parallel 2",
        "abc123 with uncommitted changes",
        "ada on engine",
        "3.12.1",
        "/project/data/cache",
        "a damaged artifact",
        "A better rate",
        "Since the old one was too slow.",
        "numpy 2.1",
        "second <b>",
        "Load it.",
        "of one",
        "not in the cache",
        "/project/data/cache/f",
    ):
        assert text in page.text, text
    assert page.missing_targets() == []
    assert len(page.ids) == len(set(page.ids))


def test_a_failed_run_shows_what_failed_and_what_did_not_run(tmp_path: Path) -> None:
    page = make(tmp_path, run_record(["one", "two"], failing=[1]))
    assert "load failed for Record 1 (two)" in page.text
    assert "ValueError: about two" in page.text
    assert "in two\n" in page.text
    assert "2 stages that depend on it did not run" in page.text
    assert page.missing_targets() == []


def test_a_stored_run_says_how_its_folder_gives_the_results_again(tmp_path: Path) -> None:
    words = ["experiment", "demo", "--names", "it's <b>", "--cache", "data/runs/x", "--dry-cache"]
    page = make(tmp_path, run_record(reproduce=words, folder="/project dir", git={"commit": "abc"}))
    quoted = "experiment demo --names 'it'\"'\"'s <b>' --cache data/runs/x --dry-cache"
    assert f"cd '/project dir'\ngit checkout abc\n{quoted}" in page.text


def test_a_run_outside_of_a_repository_says_so(tmp_path: Path) -> None:
    assert "this ran in no git repository" in make(tmp_path, run_record(git={"repository": False})).text
    assert "this ran in no git repository" not in make(tmp_path, run_record(git={})).text


@pytest.mark.parametrize("command", [["/x/ipykernel_launcher.py", "-f", "k.json"], [""], []])
def test_a_session_has_no_command(tmp_path: Path, command: list[str]) -> None:
    assert "no command that repeats it" in make(tmp_path, run_record(command=command)).text


def test_a_script_is_run_with_python(tmp_path: Path) -> None:
    assert RunView(run_record(command=["a b.py", "$HOME"])).reproduce()[-1] == "python 'a b.py' '$HOME'"


def test_reportables_stand_by_group_and_are_listed_by_record(tmp_path: Path) -> None:
    reported = [
        (1, shown("loss", "Curves", f'<img src="{FILES_PREFIX}loss.svg">', loss_svg=b"<svg/>")),
        (1, shown("words", html="<p>only text</p>")),
        (3, shown("loss", "Curves")),
        (4, shown("table", "Results")),
    ]
    page = make(tmp_path, run_record(), reported)
    headings = [page.source.index(f">{title}</h3>") for title in ("Results", "Curves", "Without a group")]
    assert headings == sorted(headings)  # the results of the aggregate come first
    assert "reportables/0000-loss/loss.svg" in page.addresses
    assert (page.path.parent / "reportables/0000-loss/loss.svg").read_bytes() == b"<svg/>"
    assert 'data-record="Record 1 (two)"' in page.source
    assert re.search(r'<a href="#reportable-0">Record 0 \(one\)', page.source)
    assert page.missing_targets() == []


def test_without_groups_reportables_stand_by_record(tmp_path: Path) -> None:
    page = make(tmp_path, run_record(), [(1, shown("a")), (3, shown("b")), (4, shown("c"))])
    headings = [page.source.index(f">{title}</h3>") for title in ("Record 2 (aggregate)", "Record 0 (one)")]
    assert headings == sorted(headings)
    assert "Without a group" not in page.source
    assert page.missing_targets() == []


def test_reportables_of_stages_that_did_not_run_are_marked(tmp_path: Path) -> None:
    data = run_record()
    data["tasks"][1] |= {"status": "reused", "action": "reuse"}
    page = make(tmp_path, data, [(1, shown("kept")), (3, shown("new"))])
    assert page.text.count("from the cache") == 1


def test_a_reportable_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", run_record(), [(1, shown("lost")), (3, shown("there", html="<p>here</p>"))])
    (folder / "reportables/0000-lost/fragment.html").unlink()
    page = Page(write_report(folder, tmp_path / "reports"))
    assert "not in the run's folder any more" in page.text
    assert "here" in page.text


def test_a_run_record_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "secret.txt").write_text("secret")
    data = run_record()
    row = {"task": 1, "stage": "fit", "record": 0, "set": "one", "hash": "", "name": "n", "group": "", "kind": "K"}
    folder = write_run(tmp_path / "runs", data)
    for place, files in (("..", {"a": "secret.txt"}), ("reportables/x", {"a": "../../../secret.txt"}), ("/", {})):
        (folder / "run.json").write_text(json.dumps(data | {"reportables": [row | {"folder": place, "files": files}]}))
        page = Page(write_report(folder, tmp_path / "reports"))
        assert "not in the run's folder any more" in page.text
        assert not list((tmp_path / "reports").rglob("secret.txt"))


@pytest.mark.parametrize("reference", ["../x", "a/b", ".hidden", "_latest", ""])
def test_a_reference_is_the_name_of_a_folder(tmp_path: Path, reference: str) -> None:
    folder = write_run(tmp_path / "runs", run_record())
    (folder / "run.json").write_text(json.dumps(run_record(reference=reference)))
    with pytest.raises(ProjectError):
        write_report(folder, tmp_path / "reports")
    assert not list(tmp_path.glob("x"))


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"reference": 5}'])
def test_what_is_no_run_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(ProjectError) as caught:
        write_report(tmp_path, tmp_path / "reports")
    assert str(tmp_path) in caught.value.where


def test_a_run_record_of_an_older_form_is_shown(tmp_path: Path) -> None:
    data = run_record()
    for name in ("records", "stages", "reportables"):
        del data[name]
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(data))
    page = Page(write_report(folder, tmp_path / "reports"))
    assert "Record 1 (two)" in page.text


def test_hidden_records_and_shared_artifacts(tmp_path: Path) -> None:
    data = run_record()
    data["records"].append(data["records"][0] | {"index": 3, "name": "twin of one"})
    data["tasks"].append(task(5, "load", -1, "secret"))
    run = RunView(data)
    assert [record.label for record in run.records][2:] == [
        "Record 2 (aggregate)",
        "Record 3 (twin of one)",
        "hidden record (secret)",
    ]
    twin = run.records[3]
    assert (twin.tasks, [t.id for t in twin.shared]) == ([], [0, 1])
    page = make(tmp_path, data)
    assert "The same artifacts as another record" in page.text
    assert page.missing_targets() == []


def test_differing_fields_stand_out(tmp_path: Path) -> None:
    values = [{"name": str(i), "rate": 0.1, "depth": 3 if i else 9, "width": i, "model": "svm"} for i in range(5)]
    data = run_record([str(i) for i in range(5)])
    data["param_sets"] = {f"{i:032x}": {"name": str(i), "values": v} for i, v in enumerate(values)}
    table = sections.parameter_sets(RunView(data))
    assert table.varying == ["depth", "width"]
    assert table.constant == [("rate", "0.1"), ("model", "svm")]
    assert [[cell.odd for cell in row.cells] for row in table.rows] == [[True, False], *[[False, False]] * 4]
    page = make(tmp_path, data)
    with open(page.path.parent / "parameter_sets.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["depth"] for row in rows] == ["9", "3", "3", "3", "3"]


def test_sets_with_different_fields(tmp_path: Path) -> None:
    data = run_record(["a", "b"])
    first, second = data["param_sets"].values()
    first["values"] = {"name": "a", "x": 1}
    second["values"] = {"name": "b", "y": [1, None]}
    table = sections.parameter_sets(RunView(data))
    assert [[cell.text for cell in row.cells] for row in table.rows] == [["1", "null"], ["null", "[1, null]"]]


def test_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "demo_1_2026-05-01-T101500.log"
    log.parent.mkdir()
    log.write_text("".join(f"t [{'ERROR' if i == 99_999 else 'INFO'}] line {i}\n" for i in range(100_000)))
    tail = sections.log_tail(log)
    assert tail.lines[-1] == ("error", "t [ERROR] line 99999")
    assert tail.skipped + len(tail.lines) == 100_000
    page = make(tmp_path, run_record(log=str(log)))
    assert len(page.source) < 200_000
    assert (page.path.parent / "log.txt").stat().st_size == log.stat().st_size


# --- whatever names they hold ----------------------------------------------------------------------------------------
def hard_run(tmp_path: Path, name: str) -> Page:
    data = run_record([name, "two"], failing=[0], warnings=[name], notes=f"{name}\nmore", user=name, host=name)
    data["tasks"][1]["stage"] = name
    data["tasks"][1]["described"]["value"]["preview"] = name
    data["tasks"][3]["reason"] = name
    data["param_sets"]["0" * 32]["values"] |= {name: name}
    data["packages"] = {"p": name}
    reported = [(3, shown(name, name, html="<p>x</p>", x_png=b"1"))]
    return make(tmp_path, data, reported)


@pytest.fixture(scope="module")
def plain_structure(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, tuple[str, ...]]]:
    return hard_run(tmp_path_factory.mktemp("plain"), "plain").structure


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(lambda s: s.strip())


@given(name=names)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_change_nothing_but_text(
    plain_structure: list[Any], tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    # With a character that nothing else in a report has: a name that stands in it already may be shown once only.
    structure = hard_run(tmp_path_factory.mktemp("hard"), f"{name.strip()}\u2042").structure
    assert structure == plain_structure


for hard in HARD_NAMES:
    test_names_change_nothing_but_text = example(name=hard)(test_names_change_nothing_but_text)


def test_a_hostile_name_is_shown_as_text_everywhere(tmp_path: Path) -> None:
    page = hard_run(tmp_path, HOSTILE)
    assert page.text.count(HOSTILE) > 10
    assert "<img src=x" not in page.source
    listing = Page(tmp_path / "reports/index.html")
    assert HOSTILE in listing.text
    assert "<img src=x" not in listing.source
    inside = [p for p in (tmp_path / "reports").rglob("*") if "<" in p.name or ">" in p.name]
    assert inside == []


def test_links_with_script_are_never_made(tmp_path: Path) -> None:
    page = hard_run(tmp_path, "javascript:alert(1)")
    assert not [address for address in page.addresses if address.lower().startswith("javascript")]


def test_pages_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = make(tmp_path, run_record())
    for made in (page, Page(tmp_path / "reports/index.html")):
        assert not [address for address in made.addresses if "//" in address]
        assert "default-src &#39;none&#39;" in made.source
    assert "http" not in (page.path.parent / "style.css").read_text()


# --- the map ---------------------------------------------------------------------------------------------------------
def overlapping(boxes: Sequence[graph_layout.Box]) -> list[tuple[int, int]]:
    return [
        (a.ref, b.ref)
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height
    ]


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Runs whose stages depend on each other in any way that is possible, within records and across them."""
    n_records = draw(st.integers(1, 6))
    n_tasks = draw(st.integers(1, 14))
    data = run_record([f"set {i}" for i in range(n_records)])
    data["tasks"], owner = [], []
    for number in range(n_tasks):
        record = draw(st.integers(0, n_records - 1))
        owner.append(record)
        after = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        data["tasks"].append(task(number, f"stage{number % 4}", record, f"set {record}", after))
    data["records"] = [
        {
            "index": i,
            "name": f"set {i}",
            "hash": f"{i:032x}",
            "aggregate": False,
            "inputs": [],
            "tasks": [t for t in range(n_tasks) if owner[t] == i],
        }
        for i in range(n_records)
    ]
    return data


@given(data=graphs(), by_stage=st.booleans())
@settings(max_examples=60, deadline=None)
def test_boxes_never_overlap_and_nothing_is_left_out(data: dict[str, Any], by_stage: bool) -> None:
    run = RunView(data)
    made = graph_layout._by_stage(run) if by_stage else graph_layout.arrange(run)
    assert set(made.nodes) == (set(range(len(run.stages))) if by_stage else set(run.tasks))
    assert overlapping(list(made.nodes.values())) == []
    assert overlapping(made.groups) == []
    for box in (*made.nodes.values(), *made.groups):
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= made.width
        assert box.y + box.height <= made.height
    for group in made.groups:
        for each in run.records[group.ref].tasks:
            node = made.nodes[each.id]
            assert group.x <= node.x
            assert node.x + node.width <= group.x + group.width
            assert group.y <= node.y
            assert node.y + node.height <= group.y + group.height
    svg, _ = graph_svg.draw(run)
    assert svg.count("<svg") == svg.count("</svg>")


def test_stages_follow_each_other_to_the_right() -> None:
    run = RunView(run_record([f"set {i}" for i in range(20)]))
    made = graph_layout.arrange(run)
    assert all(made.nodes[a].x < made.nodes[b].x for a, b, _ in made.edges)
    tops = [made.nodes[i * 2].y for i in range(20)]
    assert tops == sorted(tops)  # records keep their order
    assert made.groups[-1].x > made.groups[0].x + made.groups[0].width


@pytest.mark.parametrize(("n", "by_stage"), [(59, False), (60, True)])
def test_a_map_of_many_records_is_by_stage(tmp_path: Path, n: int, by_stage: bool) -> None:
    page = make(tmp_path, run_record([f"set {i}" for i in range(n)], failing=[3]))
    nodes = re.findall(r'<a class="node (\w+)" href="#(\w+)-(\d+)"', page.source)
    if by_stage:
        assert [(look, kind) for look, kind, _ in nodes] == [
            ("failed", "stage"),
            ("notrun", "stage"),
            ("notrun", "stage"),
        ]
        assert "59 ran · 1 failed" in page.text
    else:
        assert len(nodes) == 2 * n + 1
        assert sum(look == "failed" for look, _, _ in nodes) == 1
    assert page.missing_targets() == []


def test_without_the_layout_library_the_report_says_how_to_get_the_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "igraph", None)
    page = make(tmp_path, run_record())
    assert "pip install 'curidask[reports]'" in page.text
    assert "Record 1 (two)" in page.text


def test_an_empty_run_has_a_report(tmp_path: Path) -> None:
    page = make(tmp_path, run_record([], tasks=[], records=[], stages={}))
    assert "Nothing was planned" in page.text


# --- of many sets ----------------------------------------------------------------------------------------------------
def test_of_many_sets_a_part_is_shown_and_files_have_all(tmp_path: Path) -> None:
    n = 3000
    page = make(tmp_path, run_record([f"set {i}" for i in range(n)], failing=[2900]))
    assert page.path.stat().st_size < 1_500_000
    assert "Shown are 200 of 3,001 records" in page.text
    assert "load failed for Record 2900" in page.text
    assert "#task-5800" in page.addresses  # what failed is among those that are shown
    assert "Shown are 500 of 3,000 sets" in page.text
    with open(page.path.parent / "stages.csv", newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 2 * n + 1
    with open(page.path.parent / "parameter_sets.csv", newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == n
    assert page.missing_targets() == []


def test_many_reportables_are_on_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PAGE_SIZE", 10)
    names = [f"set {i}" for i in range(30)]
    reported = [(2 * i, shown(f"r{i}", "Group", html=f"<p>content {i};</p>")) for i in range(30)]
    page = make(tmp_path, run_record(names), [*reported, (60, shown("result", "Best"))])
    pages = [page, *(Page(path) for path in sorted(page.path.parent.glob("reportables-*.html")))]
    assert len(pages) == 4
    everything = "".join(each.text for each in pages)
    assert all(f"content {i};" in everything for i in range(30))
    assert all(each.missing_targets() == [] for each in pages)
    assert "reportables-4.html#reportable-29" in page.addresses
    assert [each.source.count("(continued)") for each in pages] == [0, 1, 1, 1]


# --- places ----------------------------------------------------------------------------------------------------------
def test_a_report_is_replaced_and_nothing_is_left_behind(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    make(tmp_path, run_record(), [(1, shown("old", x_txt=b"1"))])
    page = make(tmp_path, run_record())
    assert not list(page.path.parent.rglob("x.txt"))
    assert sorted(path.name for path in reports.iterdir()) == [
        ".index",
        "_latest",
        "demo_1_2026-05-01-T101500",
        "index.html",
        "report.js",
        "runs.json",
        "style.css",
    ]


def test_latest_leads_to_the_newest_run(tmp_path: Path) -> None:
    def latest() -> str:
        return (tmp_path / "reports/_latest/index.html").resolve().parent.name

    first = run_record(reference="demo_1_a", started="2026-05-01T10:00:00+00:00")
    second = run_record(reference="demo_2_b", started="2026-05-02T10:00:00+00:00")
    make(tmp_path, first)
    assert latest() == "demo_1_a"
    make(tmp_path, second)
    assert latest() == "demo_2_b"
    make(tmp_path, first)
    assert latest() == "demo_2_b"
    for path in sorted((tmp_path / "reports/demo_2_b").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "reports/demo_2_b").rmdir()
    make(tmp_path, first)
    assert latest() == "demo_1_a"


def test_a_folder_in_the_place_of_latest_gives_way(tmp_path: Path) -> None:
    (tmp_path / "reports/_latest").mkdir(parents=True)
    (tmp_path / "reports/_latest/old").write_text("")
    make(tmp_path, run_record())
    assert (tmp_path / "reports/_latest/index.html").exists()
    assert not (tmp_path / "reports/_latest/old").exists()


def test_a_reports_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", run_record())
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(ProjectError) as caught:
        write_report(folder, tmp_path / "reports")
    assert "reports" in caught.value.where
    assert caught.value.fix


def test_the_run_folder_is_not_changed_by_its_report(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", run_record(), [(1, shown("a", x_png=b"1"))])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    write_report(folder, tmp_path / "reports")
    write_report(folder, tmp_path / "reports")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# --- style sheets ----------------------------------------------------------------------------------------------------
def sheets(page: Path) -> list[str]:
    """The texts of a page's style sheets, in their order."""
    return [
        (page.parent / name).read_text()
        for name in re.findall(r'<link rel="stylesheet" href="(.*?)">', page.read_text())
    ]


def test_the_built_in_sheet_is_replaced_and_one_that_was_changed_is_the_users(tmp_path: Path) -> None:
    page = make(tmp_path, run_record()).path
    listing = tmp_path / "reports/index.html"
    ours = tmp_path / "reports/style.css"
    assert sheets(page) == sheets(listing) == [ours.read_text()]
    assert ours.read_text() == templating.built_in()
    ours.write_text(ours.read_text().replace("#1f57c3", "#123456"))
    changed = ours.read_text()
    for _ in range(2):
        make(tmp_path, run_record())
        index.update(tmp_path / "runs", tmp_path / "reports")
        assert sheets(page) == sheets(listing) == [templating.built_in(), changed]
        assert ours.read_text() == changed
    ours.unlink()
    make(tmp_path, run_record())
    assert sheets(page) == sheets(listing) == [templating.built_in()]
    assert ours.read_text() == templating.built_in()


def test_a_sheet_of_an_older_version_of_ours_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templating, "asset", lambda name: "/* older */\n")
    make(tmp_path, run_record())
    assert "older" in (tmp_path / "reports/style.css").read_text()
    monkeypatch.undo()
    page = make(tmp_path, run_record()).path
    assert sheets(page) == sheets(tmp_path / "reports/index.html") == [templating.built_in()]


@pytest.mark.parametrize("there", ["a link to nothing", "a folder"])
def test_what_is_no_sheet_is_left_alone(tmp_path: Path, there: str) -> None:
    place = tmp_path / "reports/style.css"
    place.parent.mkdir()
    place.mkdir() if there == "a folder" else place.symlink_to("nowhere")
    page = make(tmp_path, run_record()).path
    assert sheets(page) == sheets(tmp_path / "reports/index.html") == [templating.built_in()]
    assert place.is_dir() if there == "a folder" else os.readlink(place) == "nowhere"


def test_a_sheet_that_is_named_comes_after_ours(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", run_record())
    named = tmp_path / "mine.css"
    named.write_bytes(b"h1 { color: red } \xff")
    page = write_report(folder, tmp_path / "reports", css=named)
    for place in (page, tmp_path / "reports/index.html"):
        assert place.read_text().index("style.css") < place.read_text().index("curidask-custom.css")
        assert (place.parent / "curidask-custom.css").read_bytes() == named.read_bytes()
    with pytest.raises(TypeError, match="did you mean 'css'"):
        write_report(folder, tmp_path / "reports", cs=named)  # type: ignore[call-arg]


def test_only_a_sheet_at_another_place_is_missed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", run_record())
    write_report(folder, tmp_path / "reports", tmp_path / "reports/style.css")
    with pytest.warns(UserWarning, match=r"mine\.css \(report_css\) cannot be read: No such file"):
        page = write_report(folder, tmp_path / "reports", tmp_path / "mine.css")
    assert sheets(page) == [templating.built_in()]


# --- the index -------------------------------------------------------------------------------------------------------
def listed(reports: Path) -> list[str]:
    return [row["reference"] for row in json.loads((reports / "runs.json").read_text())]


def test_the_index_has_the_newest_run_first(tmp_path: Path) -> None:
    for day in (2, 3, 1):
        started = f"2026-05-0{day}T10:00:00+00:00"
        make(tmp_path, run_record(reference=f"demo_{day}_x", number=day, started=started, notes=f"note {day}\nmore"))
    reports = tmp_path / "reports"
    assert listed(reports) == ["demo_3_x", "demo_2_x", "demo_1_x"]
    page = Page(reports / "index.html")
    assert page.text.index("note 3") < page.text.index("note 2") < page.text.index("note 1")
    assert "more" not in page.text
    assert page.missing_targets() == []


def test_a_report_that_was_deleted_is_listed_without_a_link(tmp_path: Path) -> None:
    make(tmp_path, run_record(reference="demo_1_x"))
    gone = make(tmp_path, run_record(reference="demo_2_y")).path.parent
    os.rename(gone, tmp_path / "elsewhere")
    make(tmp_path, run_record(reference="demo_3_z"))
    page = Page(tmp_path / "reports/index.html")
    assert page.text.count("(no report)") == 1
    assert page.missing_targets() == []


def test_the_index_is_rebuilt_from_runs_and_reports(tmp_path: Path) -> None:
    reports, runs = tmp_path / "reports", tmp_path / "runs"
    kept = make(tmp_path, run_record(reference="demo_1_x"))
    write_run(runs, run_record(reference="demo_2_y"))  # a run without a report
    (runs / "demo_1_x/run.json").unlink()  # a report whose run is gone
    (runs / "broken").mkdir()
    (runs / "broken/run.json").write_text('{"reference": "broken"')
    (reports / ".index/demo_9_gone.json").write_text('{"reference": "demo_9_gone"}')
    (reports / "index.html").unlink()
    assert index.update(runs, reports) == 2
    assert sorted(listed(reports)) == ["demo_1_x", "demo_2_y"]
    assert "demo_1_x/index.html" in Page(reports / "index.html").addresses
    assert kept.path.exists()


def test_an_index_of_nothing(tmp_path: Path) -> None:
    assert index.update(tmp_path / "runs", tmp_path / "reports") == 0
    assert "no run yet" in Page(tmp_path / "reports/index.html").text


@pytest.mark.parametrize(
    "row", ["", "[]", '{"reference": "other"}', '{"reference": "demo_9_x", "looks": 3, "seconds": "x"}']
)
def test_lines_that_others_damaged_do_no_harm(tmp_path: Path, row: str) -> None:
    make(tmp_path, run_record())
    (tmp_path / "reports/.index/demo_9_x.json").write_text(row)
    make(tmp_path, run_record(reference="demo_2_y"))
    page = Page(tmp_path / "reports/index.html")
    assert {"demo_1_2026-05-01-T101500/index.html", "demo_2_y/index.html"} <= set(page.addresses)


WRITER = """
import sys
from pathlib import Path
from curidask.reporting.report import write_report
folder, reports = map(Path, sys.argv[1:3])
for _ in range(2):
    for run in sys.argv[3:]:
        write_report(folder / run, reports)
"""


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    names = [f"demo_{i}_x" for i in range(6)]
    for name in names:
        write_run(tmp_path / "runs", run_record(reference=name), [(1, shown("a", x_png=b"1"))])
    command = [sys.executable, "-c", WRITER, str(tmp_path / "runs"), str(tmp_path / "reports")]
    # Each process has a run of its own, and one that all of them write.
    running = [subprocess.Popen([*command, name, names[0]]) for name in names[1:]]
    assert [process.wait(timeout=150) for process in running] == [0] * len(running)
    assert sorted(listed(tmp_path / "reports")) == names
    page = Page(tmp_path / "reports/index.html")
    assert {f"{name}/index.html" for name in names} <= set(page.addresses)
    for name in names:
        assert Page(tmp_path / "reports" / name / "index.html").missing_targets() == []
    assert not list((tmp_path / "reports").glob(".new-*"))
    assert not list((tmp_path / "reports").glob(".old*"))


# --- the server ------------------------------------------------------------------------------------------------------
@pytest.fixture
def server(tmp_path: Path) -> Iterator[ReportServer]:
    make(tmp_path, run_record(), [(1, shown("a b", x_html=b"<script>1</script>"))])
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "reports/outwards").symlink_to(tmp_path / "secret")
    (tmp_path / "reports/empty").mkdir()
    with ReportServer(tmp_path / "reports", port=0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server: ReportServer, path: str, host: str | None = None) -> tuple[int, str, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_address[1]}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, {name.lower(): value for name, value in answer.getheaders()}


def test_the_server_serves_the_reports(server: ReportServer) -> None:
    status, body, headers = ask(server, "/")
    assert (status, "All runs" in body or "Runs" in body) == (200, True)
    assert headers["x-content-type-options"] == "nosniff"
    assert "content-security-policy" not in headers
    assert ask(server, "/_latest/")[0] == 200
    assert ask(server, "/demo_1_2026-05-01-T101500/style.css")[2]["content-type"].startswith("text/css")


def test_what_users_put_in_is_sandboxed(server: ReportServer) -> None:
    status, body, headers = ask(server, "/_latest/reportables/0000-a%2520b/x.html")
    assert (status, body) == (200, "<script>1</script>")
    assert headers["content-security-policy"] == "sandbox allow-scripts"


@pytest.mark.parametrize(
    "word", ["reportables", "%72eportables", "r%65portables", ".//reportables", "x/../reportables"]
)
def test_no_spelling_of_an_address_takes_the_sandbox_away(server: ReportServer, word: str) -> None:
    for folder in ("_latest", "demo_1_2026-05-01-T101500", "x/../_latest"):
        for name in ("x.html", "x.html?a#b", "x%2Ehtml", "%78.html"):
            status, _, headers = ask(server, f"/{folder}/{word}/0000-a%2520b/{name}")
            assert status == 200
            assert headers["content-security-policy"] == "sandbox allow-scripts"


def test_a_link_or_a_folders_own_page_takes_no_sandbox_away(server: ReportServer, tmp_path: Path) -> None:
    report = tmp_path / "reports/demo_1_2026-05-01-T101500"
    (report / "reportables/0000-a%20b/index.html").write_text("<script>2</script>")
    (tmp_path / "reports/near").symlink_to(report / "reportables/0000-a%20b")
    (report / "short.html").symlink_to(report / "reportables/0000-a%20b/x.html")
    for path in ("/near/", "/near/x.html", "/_latest/short.html", "/_latest/reportables/0000-a%2520b/"):
        status, _, headers = ask(server, path)
        assert status == 200
        assert headers["content-security-policy"] == "sandbox allow-scripts"


@pytest.mark.parametrize(
    "path",
    ["/empty/", "/.index/", "/.index/x.json", "/../secret", "/%2e%2e/secret", "/..%2fsecret", "/outwards", "/nothing"],
)
def test_the_server_shows_nothing_else(server: ReportServer, path: str) -> None:
    status, body, _ = ask(server, path)
    assert status == 404
    assert "secret" not in body.replace(path, "")


@pytest.mark.parametrize(("host", "status"), [("localhost:1", 200), ("[::1]:1", 200), ("evil.example", 421), ("", 421)])
def test_the_server_answers_to_its_own_name_only(server: ReportServer, host: str, status: int) -> None:
    assert ask(server, "/", host=host or " ")[0] == status


def test_the_server_takes_many_at_once(server: ReportServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: ask(server, "/_latest/index.html")[0], range(40))) == {200}


def test_a_taken_port_is_told(server: ReportServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="taken"):
        ReportServer(tmp_path, port=server.server_address[1])


def test_an_address_of_another_machine_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1"):
        ReportServer(tmp_path, host="192.0.2.1", port=0)


# --- words -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0.4 ms"),
        (0.25, "250 ms"),
        (0.9999, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3725, "1 h 2 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1 kB"), (2_500_000, "2.5 MB")]
)
def test_sizes(n: int, text: str) -> None:
    assert size(n) == text


def test_cut() -> None:
    assert [cut("abc", n) for n in (3, 2)] == ["abc", "a…"]


def test_a_report_reads_nothing_but_the_run_folder(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", run_record(), [(1, shown("a", x_png=b"1"))])
    moved = tmp_path / "elsewhere"
    os.rename(folder, moved)
    page = Page(write_report(moved, tmp_path / "reports"))
    assert page.missing_targets() == []
    again = read_run(page.path.parent)  # a report has all that its own making needs
    assert again.summary() == read_run(moved).summary()
