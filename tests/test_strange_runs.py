"""What comes out of a run's folder is data from a stranger too: records, status files, parameter sets, reportables."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import curidask as cf
from curidask.caching import JsonCacher
from curidask.cli.cache.copy import KnownRun, _recorded
from curidask.cli.runs import runs_command
from curidask.errors import ArtifactDamagedError, ProjectError, SelectionError
from curidask.execution import outputs
from curidask.execution.base import Reported
from curidask.reporting import index
from curidask.reporting.model import read_run
from curidask.reporting.report import write_report
from curidask.reporting.reportables import Reportable
from curidask.reporting.templating import POLICY, safe
from curidask.runs import param_registry
from curidask.runs.record import new_reference
from curidask.runs.schema import read_record
from curidask.runs.status import all_runs, read_status
from curidask.session.config import Config
from curidask.session.export import prefix_of
from tests.run_folders import run_record, write_run

WRONG: list[Any] = [None, True, 7, -1, 1e300, float("nan"), "x", "../../x", [], [1], [[]], {}, {"a": {"b": 1}}, [{}]]
EVIL = "\x1b[2J\x07"


def with_wrong(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy of a record with another value at a place."""
    made: dict[str, Any] = json.loads(json.dumps(data))
    inner: Any = made
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return made


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in a record."""
    steps = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for step in steps for place in ((*path, step), *places(value[step], (*path, step)))]


RECORD = run_record(failing=[1], warnings=["w"], git={"commit": "abc"}, notes="n", packages={"a": "1"}) | {
    "reportables": [
        {
            "task": 1, "stage": "fit", "record": 0, "set": "one", "hash": "", "name": "n", "group": "", "kind": "K",
            "folder": "reportables/0000-n", "files": {"a.png": "a.png"},
        }
    ]
}  # fmt: skip
PLACES = [place for place in places(RECORD) if place != ("reference",)]


# --- run.json --------------------------------------------------------------------------------------------------------
@settings(max_examples=80, deadline=None)
@given(place=st.sampled_from(PLACES), value=st.sampled_from(WRONG))
def test_no_value_in_a_record_breaks_what_reads_it(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], value: Any
) -> None:
    root = tmp_path_factory.mktemp("runs")
    folder = root / "runs" / RECORD["reference"]
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(with_wrong(RECORD, place, value)))
    run = read_run(folder)
    assert run.reference == RECORD["reference"]
    write_report(folder, root / "reports")
    assert len(list(all_runs(root / "runs"))) <= 1
    assert index.update(root / "runs", root / "reports") == 1
    list(_recorded(Config(root=root, runs="runs")))
    prefix_of(folder, "demo")


def test_one_odd_record_hides_no_other_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "curidask.toml").write_text("")
    runs = tmp_path / "data/runs"
    write_run(runs, run_record(reference="good_1_x"))
    odd = ['{"reference": 1}', "[" * 100_000, "null", "", json.dumps(run_record(started=5, reference="odd_2"))]
    odd += [json.dumps(run_record(reference=name)) for name in ("../../escaped", "a/b", "..", ".hidden")]
    for number, text in enumerate(odd):
        (runs / f"odd_{number}").mkdir()
        (runs / f"odd_{number}" / "run.json").write_text(text)
    status = {"reference": "odd", "name": "odd", "status": "done", "started": "x", "updated": [], "stages": {"a": {}}}
    for number, wrong in enumerate(
        [{}, {"started": 1.0, "updated": 2.0, "stages": {EVIL: {"done": "x"}}}, {"pid": 1e9}]
    ):
        (runs / f"status_{number}").mkdir()
        (runs / f"status_{number}" / "status.json").write_text(json.dumps(status | wrong))
    (runs / "pipe").mkdir()
    os.mkfifo(runs / "pipe" / "run.json")
    assert [run.reference for run in all_runs(runs)] == ["good_1_x"]
    done = CliRunner().invoke(runs_command, ["--all"])
    assert (done.exit_code, "good_1_x" in done.output) == (0, True), done.exception
    assert [run.reference for run in _recorded(Config(root=tmp_path))] == ["good_1_x"]
    assert index.update(runs, tmp_path / "reports") == 2  # odd_2 has no time, and is shown without
    assert not list(tmp_path.rglob("escaped*"))


def test_what_a_run_is_called_does_not_control_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "curidask.toml").write_text("")
    folder = write_run(tmp_path / "data/runs", run_record(notes=f"title{EVIL}"))
    (folder / "run.json").rename(folder / "was.json")
    record = json.loads((folder / "was.json").read_text()) | {"name": f"demo{EVIL}"}
    (folder / "run.json").write_text(json.dumps(record))
    done = CliRunner().invoke(runs_command, [])
    assert "title" in done.output
    assert not set("\x1b\x07") & set(done.output)


def test_a_status_of_the_right_form_is_read(tmp_path: Path) -> None:
    status = {
        "reference": "a",
        "name": "a",
        "status": "done",
        "started": 1.0,
        "updated": 2,
        "stages": {"s": {"done": 1}},
    }
    (tmp_path / "status.json").write_text(json.dumps(status))
    found = read_status(tmp_path)
    assert found is not None
    assert found.stages["s"].done == 1


def test_names_of_artifacts_in_a_record_lead_nowhere(tmp_path: Path) -> None:
    data = run_record(["one"])
    data["tasks"][0] |= {"artifacts": ["../../x"], "marker": "/etc/passwd"}
    write_run(tmp_path / "runs", data)
    found: list[KnownRun] = list(_recorded(Config(root=tmp_path, runs="runs")))
    assert [stem for run in found for stem in run.stems if "x" in stem or "etc" in stem] == []


def test_a_report_takes_no_file_that_a_record_names(tmp_path: Path) -> None:
    secret = tmp_path / "logs" / "secret.log"
    secret.parent.mkdir()
    secret.write_text("the secret")
    folder = write_run(
        tmp_path / "runs", run_record(log=str(secret)), [(1, Reported("a", "", "K", "<p>a</p>", {"a.txt": b"1"}))]
    )
    (folder / "x.log").symlink_to(secret)
    place = folder / "reportables/0000-a"
    (place / "a.txt").unlink()
    (place / "a.txt").symlink_to(secret)
    page = write_report(folder, tmp_path / "reports", logs=tmp_path / "logs")
    (place / "fragment.html").unlink()
    (place / "fragment.html").symlink_to(secret)
    write_report(folder, tmp_path / "reports", logs=tmp_path / "logs")
    os.rename(place, folder / "moved")
    place.symlink_to(folder / "moved")
    write_report(folder, tmp_path / "reports", logs=tmp_path / "logs")
    assert not [path for path in page.parent.rglob("*") if path.is_file() and b"the secret" in path.read_bytes()]
    own = tmp_path / "logs" / f"{RECORD['reference']}.log"
    own.write_text("own words")
    write_report(folder, tmp_path / "reports", logs=tmp_path / "logs")
    assert (page.parent / "log.txt").read_text() == "own words"


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"reference": "../x"}', '{"reference": ""}', '{"reference": "_latest"}', "[" * 100_000):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ProjectError):
            read_record(tmp_path)


# --- the registry of parameter sets ----------------------------------------------------------------------------------
def test_one_odd_set_hides_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "param_sets" / "exp"
    folder.mkdir(parents=True)
    good = {"hash": "a" * 32, "name": "good", "values": {"x": 1}, "hashed": {"x": "1"}, "experiment": "exp", "run": "r"}
    (folder / f"{'a' * 32}+good.json").write_text(json.dumps(good))
    odd: list[Any] = [
        [],
        "x",
        {**good, "more": 1},
        *({**good, name: wrong} for name in good for wrong in (1, None, [1])),
    ]
    for number, value in enumerate(odd):
        (folder / f"{number:032x}+good.json").write_text(json.dumps(value))
    (folder / f"{'b' * 32}+good.json").write_text("[" * 100_000)
    assert param_registry.find("good", [], tmp_path).values == {"x": 1}
    with pytest.raises(SelectionError):
        param_registry.find("b" * 32, [], tmp_path)


# --- what stages reported --------------------------------------------------------------------------------------------
def put(folder: Path, rows: Any, marker: str = "exp_h_s_files.0123456789ab") -> dict[str, Path]:
    """What a stage reported, as a cache has it; its files by their names in the store."""
    (folder / "x").mkdir(parents=True, exist_ok=True)
    (folder / "x" / "index.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
    (folder / "x" / "0-a").write_bytes(b"own")
    (folder / "secret").write_bytes(b"secret")
    return {f"{marker}.reported/{name}": folder / "x" / name for name in ("index.json", "0-a")}


ROW = {"name": "n", "group": "", "kind": "K", "html": "<p>", "files": {"a": "0-a"}}


def test_a_kept_reportable_has_files_of_its_stage_only(tmp_path: Path) -> None:
    marker = "exp_h_s_files.0123456789ab"
    assert outputs.read(marker, put(tmp_path, [ROW])) == [Reported("n", "", "K", "<p>", {"a": b"own"})]
    secret = tmp_path / "secret"
    for kept in ("../secret", str(secret), "/etc/passwd", ".", "", "x/../0-a", "0-b", 5, None):
        with pytest.raises(ArtifactDamagedError):
            outputs.read(marker, put(tmp_path, [{**ROW, "files": {"a": kept}}]))


@pytest.mark.parametrize(
    "rows",
    ["{}", "1", "[1]", "[" * 100_000, "[{}]", "\\", *({**ROW, name: 5} for name in ROW), [{**ROW, "files": [1]}]],
)
def test_kept_reportables_of_another_form_are_damage(tmp_path: Path, rows: Any) -> None:
    with pytest.raises(ArtifactDamagedError):
        outputs.read("exp_h_s_files.0123456789ab", put(tmp_path, rows if not isinstance(rows, dict) else [rows]))


HARMFUL = [
    "<script>X()</script>",
    "<script src=reportables/x.js></script>",
    "<img src=x onerror=X()>",
    "<svg onload=X()>",
    "<svg><script>X()</script></svg>",
    "<svg><style><img src=x onerror=X()></style></svg>",
    "<svg><animate attributeName=href values=javascript:X() /></svg>",
    '<a href="javascript:X()">a</a>',
    '<a href="java\tscript:X()">a</a>',
    '<a href=" javascript:X()">a</a>',
    '<a href="data:text/html,<script>X()</script>">a</a>',
    '<iframe srcdoc="<script>X()</script>"></iframe>',
    '<iframe src="javascript:X()"></iframe>',
    '<iframe src="index.html"></iframe>',
    '<iframe src="https://evil.example/"></iframe>',
    '<iframe src="data:text/html,x" sandbox="allow-same-origin allow-scripts allow-top-navigation"></iframe>',
    '<meta http-equiv="refresh" content="0;url=https://evil.example/">',
    '<META HTTP-EQUIV="refresh" CONTENT="0;url=javascript:X()">',
    '<base href="https://evil.example/">',
    '<link rel="stylesheet" href="https://evil.example/x.css">',
    '<object data="x.html"></object><embed src="x.html">',
    '<form action="https://evil.example/"><input name=a><button formaction=javascript:X()>b</button></form>',
    "<style>@import 'https://evil.example/x.css'; </style>",
    "<style>a { background: url(https://evil.example/x) }</style>",
    "<style>a { background: \\75rl(https://evil.example/x) }</style>",
    '<p style="background: url(https://evil.example/x)">a</p>',
    '<img src="https://evil.example/x"><img src="//evil.example/x"><img srcset="https://evil.example/x 2x">',
    '<svg><use href="data:image/svg+xml,<svg/>#x"/><image href="https://evil.example/x"/></svg>',
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=x onerror=X()&gt;\">",
    '<noscript><p title="</noscript><img src=x onerror=X()>">',
    "<textarea><img title=\"</textarea><img src=x onerror=X()>\"></textarea>",
    "<title><img title=\"</title><img src=x onerror=X()>\"></title>",
    "<xmp><img title=\"</xmp><img src=x onerror=X()>\"></xmp>",
    "<template><script>X()</script></template>",
    "<!--><img src=x onerror=X()>-->",
    "<![CDATA[<img src=x onerror=X()>]]>",
    "<p/onclick=X()>a<p a=b\"onclick=X()//\">",
    "</div></main></body></html><body onload=X()>",
    '<video poster="https://evil.example/x"><source src="https://evil.example/x"></video>',
    "<isindex action=javascript:X()><frameset onload=X()><frame src=javascript:X()>",
]  # fmt: skip
ALLOWED_ATTRIBUTE = re.compile(r'\s([^\s=>"]+)(?:="([^"]*)")?')


def attributes(fragment: str) -> list[tuple[str, str, str]]:
    """Element, name and value of each attribute, of text that has no angle bracket but around elements."""
    found = []
    for tag, rest in re.findall(r"<([a-z][a-z0-9]*)((?:\s[^\s=>\"]+(?:=\"[^\"]*\")?)*)>", fragment):
        found += [(tag, name, value) for name, value in ALLOWED_ATTRIBUTE.findall(rest)]
    return found


@pytest.mark.parametrize("fragment", HARMFUL)
def test_a_fragment_does_no_harm(fragment: str) -> None:
    made = safe(f"<div><b>before</b>{fragment}after</div>")
    left = re.sub(r"<style>[^<]*</style>", "", made)
    tags = re.findall(r"</?([a-z][a-z0-9]*)(?:\s[^\s=>\"]+(?:=\"[^\"<>]*\")?)*>", left)
    assert left.count("<") == left.count(">") == len(tags)  # each bracket is one of an element that was written anew
    assert not {"script", "meta", "base", "link", "object", "embed", "form", "math", "template", "noscript"} & set(tags)
    for tag, name, value in attributes(made):
        assert not name.startswith("on")
        assert name not in ("srcdoc", "srcset", "action", "formaction", "http-equiv")
        assert "evil.example" not in value
        assert "script:" not in value
        assert tag != "iframe" or name != "sandbox" or value == "allow-scripts"
        assert tag != "iframe" or name != "src" or value.startswith(("data:", "curidask-files:"))
    assert "evil.example" not in left.replace("&lt;", "").split("<")[0]
    assert safe(made) == made


@given(st.lists(st.sampled_from([*HARMFUL, *"<>\"'/= \t!-", "<style>", "</style>", "<p ", "on", "x"]), max_size=8))
def test_no_mixture_of_fragments_does(parts: list[str]) -> None:
    made = safe("".join(parts))
    left = re.sub(r"<style>[^<]*</style>", "", made)
    assert len(re.findall(r"</?[a-z][a-z0-9]*(?:\s[^\s=>\"]+(?:=\"[^\"<>]*\")?)*>", left)) == left.count("<")
    assert not [name for _, name, _ in attributes(made) if name.startswith("on") or name in ("srcdoc", "srcset")]
    assert not re.search(r"<(?:script|meta|base|link|object|embed|form|template)\b", made)


HARMLESS = [
    '<p class="a" id="b" data-x="1" aria-label="c">a &amp; b</p>',
    '<img class="paper" loading="lazy" src="curidask-files:a.png" alt="a" width="3" height="4">',
    '<img src="data:image/png;base64,AAAA" alt="">',
    '<a href="curidask-files:a.csv" download>a</a>',
    '<a href="https://example.org/?a=1&amp;b=2#c">a</a>',
    '<a href="#here">a</a>',
    "<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>",
    "<style>#T_1 td { color: red; }</style>",
    '<p style="color: red; background: #fff">a</p>',
    '<svg viewbox="0 0 1 1"><lineargradient id="g"></lineargradient><path d="M0 0" fill="url(#g)"></path></svg>',
    "<details><summary>a</summary><pre><code>1 &lt; 2</code></pre></details>",
    '<iframe sandbox="allow-scripts" class="page" src="curidask-files:page.html" title="a" data-fixed></iframe>',
]  # fmt: skip


@pytest.mark.parametrize("fragment", HARMLESS)
def test_what_people_show_stays_as_it_is(fragment: str) -> None:
    assert safe(fragment) == fragment


class Own(Reportable):
    def html(self) -> str:
        return "<p>own</p>"


def test_markup_that_was_changed_in_a_cache_is_harmless_where_it_is_shown(tmp_path: Path) -> None:
    @cf.stage(None, ["value"], [JsonCacher])
    def report(record: cf.Record) -> int:
        record.report(Own(name="own"))
        return 1

    def session() -> cf.ArtifactManager:
        return cf.ArtifactManager(
            "exp", cache_path=str(tmp_path / "cache"), runs_path=str(tmp_path / "runs"), parallel=0
        )

    with session() as manager:
        report(cf.Record(manager, None))
        assert "<p>own</p>" in manager.display_all_reportables().data
        kept = next((tmp_path / "runs").rglob("fragment.html"))
        kept.write_text('<p onclick=X()>own</p><script>X()</script><meta http-equiv="refresh" content="0;url=x">')
        shown = manager.display_all_reportables().data
        assert "<p>own</p>" in shown
        assert not re.search("<script|<meta|onclick", shown)
        assert not re.search("<script|<meta|onclick", manager.reportables[0].html())


def test_the_pages_own_script_is_the_only_one(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path / "runs", run_record()), tmp_path / "reports")
    texts = [path.read_text() for path in (page, tmp_path / "reports/index.html")]
    nonces = {match for text in texts for match in re.findall(r"script-src &#39;nonce-(\w{32})&#39;", text)}
    assert len(nonces) == 2
    assert all(re.search(f'<script src="report.js" nonce="{"|".join(nonces)}', text) for text in texts)
    assert "script-src 'nonce-{nonce}';" in POLICY


def test_folders_that_are_called_like_runs_change_no_number(tmp_path: Path) -> None:
    for number in ("7", "9" * 20, "9" * 5000):
        with contextlib.suppress(OSError):  # a name has an end
            (tmp_path / f"slow_{number}_2026-01-01-T000000").mkdir()
    assert new_reference("slow", tmp_path, reserve=True)[0] == 8
