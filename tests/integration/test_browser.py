"""Reports, their index and the server as a browser shows them: Debian's chromium, driven by playwright.

Whatever a page asks for is seen here: a test fails on a message in the console, a request that fails, one that would
leave this machine, and on a dialog.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from curidask.execution.base import Reported
from curidask.reporting.report import write_report
from curidask.reporting.server import ReportServer
from tests.conftest import Project
from tests.run_folders import run_record, write_run

pytestmark = pytest.mark.timeout(900)  # it may have to be installed first
PACKAGES = ("chromium", "fonts-dejavu-core")

EXPERIMENT = '''
from dataclasses import dataclass

import curidask as cf
from curidask.caching import JsonCacher
from curidask.reporting import DFReporter, HTMLReporter, JsonReporter, LinePlotReporter, Reportable

NAMES = ["plain", "<img src=x onerror=alert(1)>", "'\\"><script>alert(2)</script>", "javascript:alert(3)"]


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1
    note: str = "</script><script>alert(4)</script>"


class Drawing(Reportable):
    """As documented: a file below self.path, whatever the parameter set is named."""

    def render(self):
        with open(f"{self.path}/{self.qualified_name}.svg", "w") as file:
            file.write('<svg xmlns="http://www.w3.org/2000/svg" width="140" height="90">')
            file.write('<circle cx="60" cy="45" r="40"/></svg>')

    def html(self):
        return ["<figure>", f"<img alt='a disc' src='{self.path}/{self.qualified_name}.svg'>", "</figure>"]


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    """<script>alert(6)</script>"""
    return record.params.x


@cf.stage(["data"], ["score"], [JsonCacher])
def fit(record, data):
    if data == 3:
        raise ValueError(record.params.name)
    name = record.params.name
    record.report(LinePlotReporter({name: [1, data, 3], "b": [2, 2]}, name=name, group=name, title=name))
    record.report(JsonReporter({name: name}, name="json"))
    record.report(Drawing(name="drawn"))
    return data


@cf.aggregate(["score"], ["table"], [JsonCacher])
def compare(record, records, score):
    import pandas as pd

    record.report(DFReporter(pd.DataFrame({"set": [r.name for r in score], "<b>": 1}), name="table"))
    record.report(HTMLReporter(PAGE, name="own page"))
    return {r.name: value for r, value in score.items()}


PAGE = """
<p id="said">no script ran</p><div style="height: 700px"></div>
<script>
  let parentIs = "within reach";
  try { parent.document.title } catch { parentIs = "out of reach" }
  document.getElementById("said").textContent = "a script ran, the report is " + parentIs;
</script>
"""


def get_params():
    return [Params(name, x=i) for i, name in enumerate(NAMES)]


def run(param_sets, manager):
    records = []
    for params in param_sets:
        records.append(fit(load(cf.Record(manager, params))))
    compare(cf.Record(manager, None), records[:3])
'''


# --- the browser -----------------------------------------------------------------------------------------------------
def find_browser() -> str | None:
    chosen = os.environ.get("CURIDASK_TEST_BROWSER")
    return chosen or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where chromium is; on a CI machine it is installed when it is not there."""
    found = find_browser()
    if found is None and os.environ.get("CI") and os.getuid() == 0 and shutil.which("apt-get"):
        # One of the test processes installs it, the others wait.
        with open(tmp_path_factory.getbasetemp().parent / "apt-get.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if find_browser() is None:
                for command in (
                    ["update"],
                    ["install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
                ):
                    subprocess.run(
                        ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *command],
                        check=True,
                        timeout=900,
                        stdout=subprocess.DEVNULL,
                        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                    )
        found = find_browser()
    if found is None:
        pytest.fail(
            "These tests need a chromium: `apt-get install chromium`, or name one in CURIDASK_TEST_BROWSER.",
            pytrace=False,
        )
    return found


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=browser_path,
            args=[
                *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            ],
        )
        yield running
        running.close()


@dataclass
class Watched:
    """A page with all that went wrong on it."""

    page: Page
    context: BrowserContext
    trouble: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    expected: str = "$^"

    def open(self, address: str | Path) -> Page:
        self.page.goto(address.as_uri() if isinstance(address, Path) else address, wait_until="load")
        return self.page


@pytest.fixture
def watched(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    options = getattr(request, "param", {})
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    context.set_default_timeout(30_000)
    page = context.new_page()
    made = Watched(page, context)

    def asked(request: Any) -> None:
        made.requests.append(request.url)
        if not re.match(r"file:///|data:|http://127\.0\.0\.1:", request.url):
            made.trouble.append(f"asked for {request.url}")

    def dialog(opened: Any) -> None:
        made.trouble.append(f"dialog: {opened.message}")
        opened.dismiss()

    context.on("request", asked)
    context.on("requestfailed", lambda request: made.trouble.append(f"failed: {request.url} {request.failure}"))
    context.on("response", lambda r: made.trouble.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    context.on("console", lambda message: made.trouble.append(f"console: {message.text}"))
    context.on("weberror", lambda error: made.trouble.append(f"error: {error.error}"))
    context.on("dialog", dialog)
    yield made
    trouble = [text for text in made.trouble if not re.search(made.expected, text)]
    context.close()  # which ends requests that are still under way, as those of pictures further down
    assert trouble == []


# --- what is looked at -----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of a run that failed, and of one with many sets."""
    project = Project(tmp_path_factory.mktemp("browser") / "project")
    project.write("curidask.toml", "")
    project.write("experiments/looked_at.py", EXPERIMENT)
    done = project.experiment("looked_at", "--parallel", "0", timeout=150)
    assert done.returncode == 1, done.stderr
    shown = [(2 * i, Reported(f"r{i}", "", "Own", f"<p>content {i}</p>")) for i in range(150)]
    many = run_record(
        [f"set {i}" for i in range(1500)], reference="many_2_x", name="many", started="2020-01-01T00:00:00"
    )
    write_report(write_run(project.root / "data/runs", many, shown), project.root / "reports")
    return project.root / "reports"


def settled(page: Page) -> None:
    """Wait until all images are loaded, also those further down."""
    page.evaluate("document.querySelectorAll('img, iframe').forEach((each) => { each.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every((each) => each.complete)")


# --- the report ------------------------------------------------------------------------------------------------------
def test_the_report_opens_from_disk(watched: Watched, reports: Path) -> None:
    page = watched.open(reports / "_latest/index.html")
    settled(page)
    assert page.locator("h1").inner_text().startswith("looked_at")
    sizes = page.evaluate("[...document.images].map((each) => each.naturalWidth)")
    assert len(sizes) == 6
    assert min(sizes) > 100
    assert page.locator("figure img[alt='a disc']").count() == 3
    assert any(url.endswith("/page.html") for url in watched.requests)
    assert all(url.startswith(("file:", "data:")) for url in watched.requests)


def test_the_hostile_name_is_text_everywhere(watched: Watched, reports: Path) -> None:
    page = watched.open(reports / "_latest/index.html")
    for selector in ("#records summary .name", ".toc a", "#parameters td", "#reportables h4", "#map text", ".card td"):
        texts = " ".join(page.locator(selector).all_text_contents())
        assert "<img src=x" in texts, selector
    assert page.locator("img[onerror], a[href^=javascript]").count() == 0
    assert page.locator("script").count() == 1


CARELESS = (
    "<div><p onclick='alert(1)'>careless</p><img alt='' src='data:image/png;base64,AA' onerror='alert(2)'>"
    "<script>alert(3)</script><iframe title='f' srcdoc='<script>parent.alert(4)</script>'></iframe>"
    "<a href='javascript:alert(5)'>link</a><script src='reportables/0000-r/x.js'></script>"
    "<iframe title='g' srcdoc='<script src=reportables/0000-r/x.js></script>'></iframe>"
)


def test_nothing_runs_out_of_a_careless_fragment(watched: Watched, tmp_path: Path) -> None:
    reported = Reported("r", "", "Own", CARELESS + "<meta http-equiv=refresh content='0;url=about:blank'>", {})
    page = watched.open(write_report(write_run(tmp_path / "runs", run_record(), [(1, reported)]), tmp_path / "reports"))
    page.get_by_text("careless").click()
    page.get_by_text("link", exact=True).click()
    page.wait_for_timeout(300)
    assert page.url.endswith("index.html")
    assert watched.trouble == []  # nothing of it is there, so nothing has to be stopped


def test_the_page_would_stop_it_too(watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curidask.reporting.cards.safe", lambda fragment: fragment)
    reported = Reported("r", "", "Own", CARELESS, {"x.js": b"alert(6)"})
    page = watched.open(write_report(write_run(tmp_path / "runs", run_record(), [(1, reported)]), tmp_path / "reports"))
    page.get_by_text("careless").click()
    page.get_by_role("link", name="link", exact=True).click()
    page.wait_for_timeout(300)
    watched.expected = "Content Security Policy|csp$"
    assert len(watched.trouble) >= 5


def test_own_pages_run_in_a_frame_without_reach(watched: Watched, reports: Path) -> None:
    page = watched.open(reports / "_latest/index.html")
    frame = page.locator("iframe.page")
    frame.scroll_into_view_if_needed()
    said = page.frame_locator("iframe.page").locator("#said")
    said.get_by_text("a script ran, the report is out of reach").wait_for()
    page.wait_for_function("document.querySelector('iframe.page').offsetHeight > 700")
    assert frame.bounding_box()["height"] < 900  # type: ignore[index]


def test_the_map_leads_to_the_details(watched: Watched, reports: Path) -> None:
    page = watched.open(reports / "_latest/index.html")
    failed = page.locator("#map a.node.failed")
    assert failed.count() == 1
    box = failed.bounding_box()
    assert box is not None
    assert box["width"] > 80
    assert failed.locator("title").text_content()
    failed.focus()
    page.keyboard.press("Enter")
    target = page.locator(page.url[page.url.index("#") :])
    target.wait_for(state="visible")
    assert "ValueError" in target.inner_text()
    assert target.evaluate("(each) => each.closest('details').open")


def test_reportables_can_be_arranged(watched: Watched, reports: Path) -> None:
    page = watched.open(reports / "_latest/index.html")
    before = page.locator("#arranged .card").count()
    headings = page.locator("#arranged > h3")
    by_group = headings.all_text_contents()
    tools = page.get_by_role("group", name="Arrange by")
    tools.get_by_role("button", name="record", exact=True).click()
    assert headings.all_text_contents()[0] == "Record 0 (plain)"
    tools.get_by_role("button", name="stage", exact=True).click()
    assert headings.all_text_contents() == ["fit", "compare"]
    tools.get_by_role("button", name="group", exact=True).click()
    assert headings.all_text_contents() == by_group
    assert page.locator("#arranged .card").count() == before
    # A frame that is moved loads again, which ends its first load.
    watched.expected = r"page\.html net::ERR_ABORTED$"


def test_records_are_found_and_tables_sorted(watched: Watched, reports: Path) -> None:
    page = watched.open(reports / "many_2_x/index.html")
    page.get_by_label("Find records").fill("set 17")
    found = page.locator("#records details.record:visible")
    assert 11 <= found.count() < 20
    assert all("17" in text for text in found.all_text_contents())
    column = page.locator("#parameters thead button", has_text="x")
    column.click()
    column.click()
    first = page.locator("#parameters tbody tr").first
    assert "499" in first.inner_text()


def test_of_many_sets_the_map_is_by_stage_and_pages_follow(watched: Watched, reports: Path) -> None:
    page = watched.open(reports / "many_2_x/index.html")
    assert page.locator("#map a.node").count() == 3
    assert page.locator("#map .group").count() == 0
    page.get_by_role("link", name="next").first.click()
    page.wait_for_url("**/reportables-2.html")
    assert page.get_by_text("content 149").is_visible()
    page.get_by_role("link", name="previous").first.click()
    page.wait_for_url("**/index.html*")


STYLE = """
:root { --accent: rgb(120, 0, 80); }
h1 { color: rgb(1, 2, 3); background: url(http://elsewhere.example/x.png); }
"""


def test_a_style_sheet_of_ones_own_comes_last_and_loads_nothing_from_elsewhere(
    watched: Watched, tmp_path: Path
) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "style.css").write_text(STYLE)
    reported = [(1, Reported("r", "", "Own", "<p>content</p>"))]
    page = write_report(write_run(tmp_path / "runs", run_record(), reported), reports)
    watched.expected = "Content Security Policy|elsewhere"
    with ReportServer(reports, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            for address in (page, reports / "index.html", f"{server.url}_latest/index.html", server.url):
                opened = watched.open(address)
                assert opened.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"
                assert opened.evaluate("getComputedStyle(document.querySelector('a[href]')).color") == "rgb(120, 0, 80)"
        finally:
            server.shutdown()
            thread.join()
    assert [text for text in watched.trouble if text.startswith("failed")] == [
        "failed: http://elsewhere.example/x.png csp"
    ] * 4
    assert (reports / "style.css").read_text() == STYLE


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


CONTRASTS = """
() => {
  const background = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (/^rgb\\(/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const selector = "p, a, dd, dt, td, th, h1, h2, h3, h4, span.look, .note, .muted, summary, b";
  const shown = [...document.querySelectorAll(selector)];
  return shown.filter((each) => each.checkVisibility() && each.textContent.trim() && !each.closest("svg, .badge"))
    .map((each) => [each.textContent.trim().slice(0, 40), getComputedStyle(each).color, background(each)]);
}
"""


@pytest.mark.parametrize(
    "watched", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=["light", "dark"]
)
def test_text_can_be_read(watched: Watched, reports: Path) -> None:
    for place in ("_latest/index.html", "many_2_x/index.html", "index.html"):
        page = watched.open(reports / place)
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        found = page.evaluate(CONTRASTS)
        assert len(found) > 15
        for text, colour, background in found:
            light, dark = sorted((luminance(colour), luminance(background)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (place, text, colour, background)
    body = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(body) > 0.5) == (page.evaluate("matchMedia('(prefers-color-scheme: light)').matches"))


@pytest.mark.parametrize("watched", [{"viewport": {"width": 360, "height": 740}}], indirect=True, ids=["narrow"])
def test_on_a_narrow_screen_nothing_sticks_out(watched: Watched, reports: Path) -> None:
    for place in ("_latest/index.html", "many_2_x/index.html", "many_2_x/reportables-2.html", "index.html"):
        page = watched.open(reports / place)
        page.evaluate("document.querySelectorAll('main details').forEach((each) => { each.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, place


def test_the_page_has_an_outline_and_names(watched: Watched, reports: Path) -> None:
    for place in ("_latest/index.html", "index.html"):
        page = watched.open(reports / place)
        levels = page.evaluate(
            "[...document.querySelectorAll('h1, h2, h3, h4')].map((each) => Number(each.tagName[1]))"
        )
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 2 for before, after in pairwise(levels))
        assert page.locator("main").count() == 1
        assert page.evaluate("document.documentElement.lang") == "en"
        unnamed = (
            "[...document.querySelectorAll('img:not([alt]), iframe:not([title]), svg[role]:not([aria-label])')].length"
        )
        assert page.evaluate(unnamed) - page.locator("#careless img").count() == 0


def test_the_report_prints(watched: Watched, reports: Path, tmp_path: Path) -> None:
    page = watched.open(reports / "_latest/index.html")
    page.emulate_media(media="print")
    assert not page.locator(".toc").is_visible()
    assert len(page.pdf()) > 20_000


@pytest.mark.parametrize("watched", [{"java_script_enabled": False}], indirect=True, ids=["no script"])
def test_without_scripts_everything_is_there(watched: Watched, reports: Path) -> None:
    page = watched.open(reports / "many_2_x/index.html")
    assert page.locator("#map a.node").count() == 3
    page.locator("#record-1 summary").click()
    assert page.locator("#task-2").is_visible()
    assert not page.get_by_text("Arrange by").is_visible()


# --- the index and the server ----------------------------------------------------------------------------------------
def test_the_index_leads_to_the_reports(watched: Watched, reports: Path) -> None:
    page = watched.open(reports / "index.html")
    rows = page.locator("#runs tbody tr")
    assert [text.split()[0] for text in rows.all_inner_texts()] == ["looked_at", "many"]
    page.get_by_label("Find runs").fill("many")
    assert page.locator("#runs tbody tr:visible").count() == 1
    page.get_by_role("link", name="many 1").click()
    page.wait_for_url("**/many_2_x/index.html")
    page.get_by_role("link", name="All runs").click()
    page.wait_for_url("**/reports/index.html")


def test_the_served_pages_are_the_same(watched: Watched, reports: Path) -> None:
    with ReportServer(reports, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            page = watched.open(server.url)
            page.get_by_role("link", name="the latest report").click()
            page.wait_for_url("**/_latest/index.html")
            settled(page)
            page.frame_locator("iframe.page").locator("#said").get_by_text("out of reach").wait_for()
            assert page.locator("img.paper").first.evaluate("(each) => each.naturalWidth") > 100
            assert all(url.startswith((server.url, "data:")) for url in watched.requests)
        finally:
            server.shutdown()
            thread.join()
