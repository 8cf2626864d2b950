"""Reports as a user gets them: from the command line, in this process and on workers, and in a notebook."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from urllib.parse import unquote
from urllib.request import urlopen

import pytest

from tests.conftest import Project, clean_environment
from tests.prepared import COMMANDS

ROOT = Path(__file__).parents[2]

REPORTING = '''
"""Numbers with pictures."""
from dataclasses import dataclass

import curidask as cf
from curidask.caching import JsonCacher
from curidask.reporting import DFReporter, JsonReporter, LinePlotReporter


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    """Load the numbers."""
    record.report(JsonReporter({"x": record.params.x}, name="loaded"))
    return record.params.x


@cf.stage(["data"], ["score"], [JsonCacher])
def score(record, data):
    if data == 13:
        raise ValueError(f"unlucky {record.params.name}")
    record.report(LinePlotReporter([data, 2 * data], name="curve", group="Curves"))
    return 2 * data


@cf.stage(["data"], ["cube"])
def cube(record, data):
    record.report(JsonReporter(data**3, name="cubed"))
    return data**3


@cf.aggregate(["score"], ["table"], [JsonCacher])
def gather(record, records, score):
    import pandas as pd

    frame = pd.DataFrame([{"set": r.name, "score": value} for r, value in score.items()])
    record.report(DFReporter(frame, name="all", group="Results"))
    return {r.name: value for r, value in score.items()}


def get_params():
    return [Params("one", x=1), Params("<img src=x onerror=alert(1)>", x=2)]


def unlucky():
    return [Params("good", x=3), Params("bad", x=13)]


def run(param_sets, manager):
    for params in param_sets:
        record = score(load(cf.Record(manager, params)))
        cube(record)
    return gather(cf.Record(manager, None))
'''


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Project:
    # Each test has a home of its own, and matplotlib would look for the machine's fonts in each of them.
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))
    made = Project(tmp_path / "project")
    made.write("curidask.toml", "")
    made.write("experiments/shown.py", REPORTING)
    made.write("params/bad.py", "from experiments.shown import unlucky as get_params\n")
    return made


@pytest.fixture(params=["0", "2"], ids=["in process", "2 workers"])
def parallel(request: pytest.FixtureRequest) -> tuple[str, str]:
    return "--parallel", request.param


def page_of(done: subprocess.CompletedProcess[str]) -> Path:
    """The page that a command says it has written."""
    (path,) = re.findall(r"^report: (.+)$", done.stderr, re.MULTILINE)
    return Path(path)


def titles(page: Path) -> list[str]:
    return sorted(re.findall(r"<h4>(\w+)</h4>", page.read_text()))


ALL = ["all", "cubed", "cubed", "curve", "curve", "loaded", "loaded"]


def test_a_run_ends_with_its_report(project: Project, parallel: tuple[str, str]) -> None:
    done = project.experiment("shown", *parallel)
    assert done.returncode == 0, done.stderr
    page = page_of(done)
    reference = project.last_run()["reference"]
    assert page == project.root / "reports" / reference / "index.html"
    assert titles(page) == ALL
    assert (project.root / "reports/_latest").resolve() == page.parent
    assert f"{reference}/index.html" in (project.root / "reports/index.html").read_text()
    assert "experiment shown --parallel" in page.read_text()
    assert "Load the numbers." in page.read_text()
    figures = list(page.parent.glob("reportables/*/figure.svg"))
    assert len(figures) == 2


def test_reportables_come_again_when_their_stages_are_reused_or_not_needed(
    project: Project, parallel: tuple[str, str]
) -> None:
    project.experiment("shown", "--parallel", "0")
    project.experiment("shown", *parallel)
    again = project.experiment("shown", *parallel)
    run = project.last_run()
    status = {row["stage"]: row["status"] for row in run["tasks"]}
    assert status["gather"] == "reused"
    assert status["score"] == "not needed"
    assert status["cube"] == "done"  # nothing of it is stored
    assert titles(page_of(again)) == ALL
    # It does not matter that the earlier runs and reports are gone.
    for folder in ("reports", "data/runs"):
        subprocess.run(["rm", "-r", project.root / folder], check=True)
    assert titles(page_of(project.experiment("shown", *parallel))) == ALL


def test_a_failed_run_has_a_report(project: Project, parallel: tuple[str, str]) -> None:
    done = project.experiment("shown", "-p", "bad", *parallel)
    assert done.returncode == 1
    text = page_of(done).read_text()
    assert "score failed for Record 1 (bad)" in text.replace("</a>", "").replace('<a href="#task-4">', "")
    assert "unlucky bad" in text
    assert "raise ValueError" in text
    assert titles(page_of(done)) == ["cubed", "cubed", "curve", "loaded", "loaded"]


@pytest.mark.parametrize("flag", ["--no-report", "--dry", "--map"])
def test_no_report_where_none_is_wanted(project: Project, flag: str) -> None:
    done = project.experiment("shown", "--parallel", "0", flag)
    assert done.returncode == 0, done.stderr
    assert "report:" not in done.stderr
    assert not (project.root / "reports").exists()


def test_a_report_that_cannot_be_written_fails_no_run(project: Project) -> None:
    (project.root / "reports").write_text("in the way")
    done = project.experiment("shown", "--parallel", "0")
    assert done.returncode == 0
    assert "warning: the report could not be written" in done.stderr
    assert project.last_run()["status"] == "done"


def test_what_cannot_be_shown_names_reportable_and_stage(project: Project, parallel: tuple[str, str]) -> None:
    path = project.root / "experiments/shown.py"
    path.write_text(REPORTING.replace('"all", group="Results"', '"all", group=5'))
    done = project.experiment("shown", *parallel)
    assert done.returncode == 1
    assert "WrongTypeError" in done.stderr
    assert "DFReporter" in done.stderr
    assert "stage 'gather'" in done.stderr
    assert "curidask/reporting" not in done.stderr


def test_reports_are_made_again_and_listed_again(project: Project) -> None:
    first = page_of(project.experiment("shown", "--parallel", "0"))
    before = titles(first)
    subprocess.run(["rm", "-r", project.root / "reports"], check=True)
    made = project.experiment("reports", first.parent.name)
    assert (made.returncode, made.stdout.strip()) == (0, str(first))
    assert titles(first) == before
    subprocess.run(["rm", "-r", project.root / "reports"], check=True)
    updated = project.command("curidask", "reports", "--update")
    assert updated.returncode == 0, updated.stderr
    listing = (project.root / "reports/index.html").read_text()
    assert "(no report)" in listing
    assert [row["sets"] for row in json.loads((project.root / "reports/runs.json").read_text())] == [2]
    unknown = project.experiment("reports", "nothing_1")
    assert unknown.returncode == 2
    assert "no run record" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def test_reports_are_served_until_interrupted(project: Project) -> None:
    project.experiment("shown", "--parallel", "0")
    serving = project.start("reports", "--port", "0")
    try:
        assert serving.stdout is not None
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+/", serving.stdout.readline())
        with urlopen(url, timeout=20) as answer:
            assert "shown" in answer.read().decode()
        port = url.rsplit(":", 1)[1].strip("/")
        taken = project.experiment("reports", "--port", port)
        assert taken.returncode == 2
        assert f"port {port} is taken" in taken.stderr
        serving.send_signal(signal.SIGINT)
        _, errors = serving.communicate(timeout=20)
        assert serving.returncode == 0
        assert "Traceback" not in errors
    finally:
        serving.kill()
        serving.wait()


def test_reporting_outside_of_stages(project: Project) -> None:
    project.write(
        "session.py",
        """
        import curidask as cf
        from curidask.reporting import JsonReporter

        @cf.stage(None, ["a"])
        def make(record):
            record.report(JsonReporter(1, name="inside"))
            return 1

        with cf.ArtifactManager("session") as manager:
            record = make(cf.Record(manager, None))
            record.report(JsonReporter(2, name="outside", group="G"))
            manager.display_info()  # which prints nothing
            print(manager.display_info())
            print(manager.display_all_reportables())
            print(manager.display_record_reportables(record))
            print(manager.display_stage_graph())
            print(manager.generate_report())
        """,
    )
    lines = project.script("session.py")
    assert titles(Path(lines[-1])) == ["inside", "outside"]
    assert "python session.py" in Path(lines[-1]).read_text()
    assert sum("inside" in line for line in lines) == 2  # as text, where there is no notebook
    assert any("make (ran)" in line for line in lines)
    assert sum(line.startswith("Run  ") for line in lines) == 1


@pytest.mark.parametrize("dry", [True, False])
def test_a_session_without_anything_to_report_says_so(in_project: Project, dry: bool) -> None:
    import curidask as cf
    from curidask.errors import ProjectError

    with cf.ArtifactManager("session", dry=dry) as manager:
        assert "Nothing was reported" in str(manager.display_all_reportables())
        assert "No stage" in str(manager.display_stage_graph())
        assert manager.reportables == []
        with pytest.raises(ProjectError):
            manager.generate_report()
        with pytest.raises(TypeError):
            manager.display_record_reportables("no record")  # type: ignore[arg-type]
    assert not (in_project.root / "reports").exists()


NOTEBOOK = [
    "%cd -q {root}",
    "import warnings; warnings.simplefilter('error')",
    "{documented}",
    "manager.display_info()",
    "manager.display_all_reportables()",
    "manager.display_record_reportables(hostile)",
    "manager.display_stage_graph()",
    "print(manager.generate_report())",
    "hostile",
    "manager.display_stage_reportables('make_pretty_graphs'); print('not shown')",
]

DOCUMENTED = """
from dataclasses import dataclass
import curidask as cf
from curidask.reporting import HTMLReporter, LinePlotReporter

@dataclass
class Params(cf.ExperimentParameters):
    my_parameter: int = 1

manager = cf.ArtifactManager("notebook_example_1")

@cf.stage(inputs=None, outputs=["line_history"])
def make_pretty_graphs(record):
    multiplier = record.params.my_parameter
    line_0 = [1 * multiplier, 2 * multiplier, 3 * multiplier]
    line_1 = [3 * multiplier, 2 * multiplier, 1 * multiplier]
    line_2 = [4, 0, 3]
    record.report(LinePlotReporter(line_0, name="single_line_plot"))
    record.report(LinePlotReporter(
        y={
            "ascending": line_0,
            "descending": line_1,
            "static": line_2
        },
        name="multi_line_plot"
    ))
    record.report(HTMLReporter("<script>document.title = 1</script>", name="page"))
    return [line_0, line_1, line_2]

plain = make_pretty_graphs(cf.Record(manager, Params("default")))
hostile = make_pretty_graphs(cf.Record(manager, Params("<img src=x onerror=alert(1)>", my_parameter=2)))
"""


def test_displays_in_a_notebook(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.chdir(project.root)
    cells = [text.replace("{root}", str(project.root)).replace("{documented}", DOCUMENTED) for text in NOTEBOOK]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [cell.outputs for cell in notebook.cells[3:]]
    assert [len(each) for each in outputs] == [1, 1, 1, 1, 1, 1, 1]  # what is the last line of a cell is shown once
    assert outputs[6][0].text == "not shown\n"
    info, everything, of_one, graph, record = (each[0].data["text/html"] for each in [*outputs[:4], outputs[5]])
    assert "make_pretty_graphs" in record
    assert "line_history" in record
    assert "notebook_example_1" in info
    assert "no command" not in info
    assert everything.count("data:image/svg+xml;base64,") == 4
    assert of_one.count("data:image/svg+xml;base64,") == 2
    assert of_one.count("multi_line_plot") >= 1
    assert 'sandbox="allow-scripts"' in of_one
    assert "data:text/html;base64," in of_one
    assert "<svg" in graph
    for text in (info, everything, of_one, graph, record):
        assert "<img src=x" not in text
        assert "curidask-files:" not in text
    assert "&lt;img src=x" in of_one
    assert "text/plain" in outputs[0][0].data
    page = Path(outputs[4][0].text.strip())
    assert titles(page) == sorted(["single_line_plot", "multi_line_plot", "page"] * 2)
    listing = sorted(path.name for path in (project.root / "reports").iterdir() if not path.name.startswith("."))
    assert listing == sorted(["index.html", page.parent.name, "style.css", "report.js", "runs.json", "_latest"])


def test_the_page_on_reports_runs_as_it_stands(project: Project) -> None:
    text = (ROOT / "docs/reports.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    project.write(
        "page.py",
        "\n".join(blocks)
        + """
from collections import Counter

@cf.stage(inputs=None, outputs=["n"])
def count(record):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([1, 2])
    record.report(Picture(figure, name="picture"))
    record.report(Words(Counter("a b <a> b".split()), name="words"))
    return 1

count(record)
compare(cf.Record(manager, None), [record])
print(manager.generate_report())
""",
    )
    page = Path(project.script("page.py")[-1])
    assert "words" in page.read_text()
    assert "&lt;a&gt;: 1" in page.read_text()
    assert list(page.parent.glob("reportables/*/words.txt"))
    assert list(page.parent.glob("reportables/*/*count_picture.png"))
    assert "Final losses" in page.read_text()


def test_the_commands_on_the_page_are_there(project: Project) -> None:
    text = (ROOT / "docs/reports.md").read_text()
    flags = set(re.findall(r"experiment reports.*?(--\w+)", text)) | {"--host"}
    help_text = subprocess.run(
        [COMMANDS / "experiment", "reports", "--help"], capture_output=True, text=True, check=True, cwd=project.root
    ).stdout
    assert flags <= set(re.findall(r"--\w+", help_text))


CUSTOM = """
    from dataclasses import dataclass
    from pathlib import Path

    import curidask as cf
    from curidask.caching import JsonCacher
    from curidask.reporting import Reportable


    @dataclass
    class Params(cf.ExperimentParameters):
        x: int = 0


    class Note(Reportable):
        def __init__(self, text, name=None, group=None):
            self.text = text
            super().__init__(name=name, group=group)

        def render(self):
            Path(self.path, f"{self.qualified_name}.txt").write_text(self.text)

        def html(self):
            about = f"{self.stage} of {self.record.params.name}"
            return [f"<p>{about}</p>", f"<a href='{self.path}/{self.qualified_name}.txt'>note</a>"]


    @cf.stage(None, ["n"], [JsonCacher])
    def count(record):
        record.report(Note(record.params.name, name="note", group="Notes"))
        return 1


    def get_params():
        return [Params("one", x=1), Params("two <b>", x=2)]


    def run(param_sets, manager):
        for params in param_sets:
            count(cf.Record(manager, params))
"""


def test_custom_reportables_are_captured_where_the_stage_runs_and_come_again(
    project: Project, parallel: tuple[str, str]
) -> None:
    project.write("experiments/custom.py", CUSTOM)
    for ran in (True, False):
        page = page_of(project.experiment("custom", *parallel))
        assert {row["status"] for row in project.last_run()["tasks"]} == {"done" if ran else "reused"}
        text = page.read_text()
        assert "<p>count of one</p>" in text
        addresses = re.findall(r'href="(reportables/[^"]*)"', text)
        assert [(page.parent / unquote(each)).read_text() for each in addresses] == ["one", "two <b>"]


# --- the command that gives a stored run's results again -------------------------------------------------------------
def test_the_report_of_a_stored_run_shows_the_command_that_reproduces_it(project: Project) -> None:
    project.write(
        "params/hard.py",
        """
        from experiments.shown import Params

        def get_params():
            return [Params("it's $HOME; <b>", x=1), Params("left out", x=2)]
        """,
    )
    chosen = ("-p", "hard", "-n", "it's $HOME; <b>", "--lazy")
    page = page_of(project.experiment("shown", *chosen, "--overwrite", "--store-full", "--parallel", "0"))
    run = project.last_run()
    shown = [html.unescape(text) for text in re.findall(r"<pre data-copy>(.*?)</pre>", page.read_text(), re.DOTALL)]
    (command,) = [text for text in shown if "--dry-cache" in text]
    assert f"--cache data/runs/{run['reference']} --dry-cache" in command
    assert "--overwrite" not in command
    subprocess.run(["rm", "-r", project.cache], check=True)
    done = subprocess.run(
        ["sh", "-ec", f"{command} --parallel 0"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=clean_environment() | {"PATH": f"{COMMANDS}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    again = project.last_run()
    assert again["reference"] != run["reference"]
    assert {row["set"] for row in again["tasks"]} == {"it's $HOME; <b>", "None"}
    assert "done" not in {row["status"] for row in again["tasks"]}
    assert not project.cache.exists()
    assert "--dry-cache" not in page_of(project.experiment("shown", "--parallel", "0")).read_text()


# --- a style sheet of one's own --------------------------------------------------------------------------------------
def test_a_style_sheet_among_the_reports_is_used_and_left_alone(project: Project) -> None:
    own = project.write("reports/style.css", "h1 { color: rebeccapurple }\n")
    for _ in range(2):
        page = page_of(project.experiment("shown", "--parallel", "0"))
    project.experiment("reports", page.parent.name)
    project.experiment("reports", "--update")
    assert own.read_text() == "h1 { color: rebeccapurple }\n"
    for place in (page, project.root / "reports/index.html"):
        *before, last = re.findall(r'<link rel="stylesheet" href="([^"]+)">', place.read_text())
        assert (place.parent / last).read_text() == own.read_text()
        assert ["--accent" in (place.parent / each).read_text() for each in before] == [True]


def test_a_style_sheet_that_is_configured_is_used(project: Project) -> None:
    project.write("curidask.toml", 'report_css = "looks/mine.css"\n')
    project.write("looks/mine.css", "h1 { color: teal }\n")
    page = page_of(project.experiment("shown", "--parallel", "0"))
    assert "teal" in (page.parent / "curidask-custom.css").read_text()
    (project.root / "looks/mine.css").unlink()
    done = project.experiment("shown", "--parallel", "0")
    assert done.returncode == 0
    assert "warning: the style sheet" in done.stderr
    assert "looks/mine.css (report_css) cannot be read" in done.stderr
    assert not (page_of(done).parent / "curidask-custom.css").exists()


OLD = """
from pathlib import Path
import curidask as cf
from curidask.caching import JsonCacher
from curidask.reporting import HTMLReporter

@cf.stage(None, ["a"], [JsonCacher])
def first(record):
    if Path("fails").exists():
        raise ValueError("this time")
    return 1

@cf.stage(["a"], ["b"], [JsonCacher])
def second(record, a):
    record.report(HTMLReporter("<b>of the first run</b>", name="told"))
    return 2

def get_params():
    return [cf.ExperimentParameters("p")]

def run(param_sets, manager):
    second(first(cf.Record(manager, param_sets[0])))
"""


def test_what_a_stage_reported_in_another_run_is_not_shown_when_it_should_have_run(project: Project) -> None:
    project.write("experiments/old.py", OLD)
    assert project.experiment("old", "--parallel", "0").returncode == 0
    assert [row["name"] for row in project.last_run()["reportables"]] == ["told"]
    (project.root / "fails").touch()
    assert project.experiment("old", "--parallel", "0", "--overwrite").returncode == 1
    assert project.last_run()["reportables"] == []
    (project.root / "fails").unlink()
    assert project.experiment("old", "--parallel", "0").returncode == 0
    assert [row["name"] for row in project.last_run()["reportables"]] == ["told"]
