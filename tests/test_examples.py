"""The examples and the walk-through do what they say, run as a new user runs them."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = REPOSITORY / "examples"
WALK_THROUGH = REPOSITORY / "docs" / "getting_started.py"
SHARED_STAGES = ("split", "scale")
"""Sets of one size and seed share what these make."""
SET_STAGES = ("train", "evaluate")
AGGREGATES = ("compare", "inspect_best")


# --- running a project as a user does --------------------------------------------------------------------------------
def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("CURIDASK_")}


@dataclass
class Project:
    """A copy of an example, with the command line."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "data" / "cache"

    def experiment(self, *arguments: str) -> str:
        """Run ``experiment`` and give what it wrote to stdout."""
        command = [str(Path(sysconfig.get_path("scripts")) / "experiment"), *arguments]
        done = subprocess.run(
            command, cwd=self.root, env=clean_environment(), capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def last_run(self) -> dict[str, Any]:
        """The record of the run that came last."""
        runs = [json.loads(path.read_text()) for path in (self.root / "data" / "runs").glob("*/run.json")]
        last: dict[str, Any] = max(runs, key=lambda run: int(run["number"]))
        return last

    def ran(self) -> Counter[tuple[str, str]]:
        """Stage and set of what the last run computed."""
        return Counter((task["stage"], task["set"]) for task in self.last_run()["tasks"] if task["status"] == "done")


def copy_of(example: str, target: Path) -> Project:
    leftovers = shutil.ignore_patterns("data", "logs", "reports", "__pycache__")
    return Project(Path(shutil.copytree(EXAMPLES / example, target / example, ignore=leftovers)))


def artifacts(cache: Path, stage: str, output: str) -> list[Path]:
    """The stored values of an output, without their manifests."""
    return sorted(path for path in cache.glob(f"*_{stage}_{output}.*") if "_metadata" not in path.name)


def json_results(cache: Path) -> dict[str, bytes]:
    """The bytes of all JSON artifacts by name, without their manifests."""
    files = cache.glob("*.json")
    return {file.name: file.read_bytes() for file in files if not file.name.endswith("_metadata.json")}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """The digits example after ``experiment digits -p quick`` on two processes, and what that printed."""
    project = copy_of("digits", tmp_path_factory.mktemp("first"))
    return project, project.experiment("digits", "-p", "quick", "--parallel", "2")


@pytest.fixture
def digits(first_run: tuple[Project, str], tmp_path: Path) -> Project:
    """A copy of that project, with what the run left, to go on with."""
    return Project(Path(shutil.copytree(first_run[0].root, tmp_path / "digits")))


# --- digits: as an experiment ----------------------------------------------------------------------------------------
def test_digits_runs_on_worker_processes_to_the_leaderboard(first_run: tuple[Project, str]) -> None:
    project, printed = first_run
    lines = printed.splitlines()
    assert lines[0].split() == ["configuration", "accuracy", "spread", "worst", "seeds"]
    assert [line.split()[0] for line in lines[1:5]] == ["1", "2", "3", "4"]
    accuracies = [float(re.findall(r"(\d+\.\d+)%", line)[0]) for line in lines[1:5]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > 90
    assert len({len(line) for line in lines[:5]}) == 1
    tasks = project.last_run()["tasks"]
    assert Counter(task["stage"] for task in tasks) == {
        "load": 1,
        **dict.fromkeys(SHARED_STAGES, 1),
        **dict.fromkeys(SET_STAGES, 4),
        "compare": 1,
        "inspect_best": 1,
    }
    assert {task["status"] for task in tasks} == {"done"}


def test_digits_prints_the_confusions_of_the_best_model(first_run: tuple[Project, str]) -> None:
    project, printed = first_run
    (file,) = artifacts(project.cache, "inspect_best", "best_confusion")
    matrix = json.loads(file.read_text())
    shown = [line.split()[1:] for line in printed.splitlines()[-10:]]
    assert [[0 if cell == "." else int(cell) for cell in row] for row in shown] == matrix
    assert sum(map(sum, matrix)) == 500


def test_a_second_run_reuses_everything(first_run: tuple[Project, str], digits: Project) -> None:
    assert digits.experiment("digits", "-p", "quick", "--parallel", "2") == first_run[1]
    assert not digits.ran()
    assert {task["status"] for task in digits.last_run()["tasks"]} == {"reused", "not needed"}


def test_results_are_byte_identical_in_this_process_and_on_workers(digits: Project) -> None:
    on_workers = json_results(digits.cache)
    shutil.rmtree(digits.root / "data")
    digits.experiment("digits", "-p", "quick", "--parallel", "0")
    in_process = json_results(digits.cache)
    assert len(on_workers) == 10
    assert in_process == on_workers


def test_an_added_set_and_what_was_deleted_are_computed_with_the_aggregates_and_nothing_else(digits: Project) -> None:
    before = json_results(digits.cache)
    accuracy = artifacts(digits.cache, "evaluate", "accuracy")[0]
    (its_set,) = [t["set"] for t in digits.last_run()["tasks"] if accuracy.stem in t["artifacts"]]
    accuracy.unlink()
    (digits.root / "params" / "one.py").write_text(
        "from digits_lib.models import Neighbours\n"
        "from digits_lib.parameters import Params\n\n\n"
        "def get_params():\n"
        "    return [Params('added', model=Neighbours(k=3), n_train=300)]\n"
    )
    printed = digits.experiment("digits", "-p", "quick", "-p", "one", "--parallel", "0")
    expected = {**{(stage, "added"): 1 for stage in SET_STAGES}, **{(stage, "None"): 1 for stage in AGGREGATES}}
    assert digits.ran() == {**expected, ("evaluate", its_set): 1}
    assert before.items() <= json_results(digits.cache).items()
    assert "k-nearest neighbours k=3, 300 scans" in printed


def test_the_digits_project_lists_its_modules(first_run: tuple[Project, str]) -> None:
    listed = first_run[0].experiment("ls")
    assert "error" not in listed
    _, _, params = listed.partition("PARAMS:")
    assert {line.split()[0] for line in params.splitlines() if line.strip()} == {"digits", "more", "quick"}


# --- digits: as plain functions --------------------------------------------------------------------------------------
@pytest.fixture
def digits_lib(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.SimpleNamespace]:
    """The modules of the digits project, imported for one test."""
    monkeypatch.syspath_prepend(str(EXAMPLES / "digits"))
    names = ("data", "models", "parameters", "scores", "tables")
    _forget_projects()  # one that another test has imported here
    yield types.SimpleNamespace(**{name: importlib.import_module(f"digits_lib.{name}") for name in names})
    _forget_projects()


def _forget_projects() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("digits_lib", "params", "experiments")]:
        del sys.modules[name]


def test_the_default_sets_are_at_least_sixteen_and_all_different(digits_lib: types.SimpleNamespace) -> None:
    default = importlib.import_module("experiments.digits").get_params()
    more = importlib.import_module("params.more").get_params()
    assert len(default) >= 16
    assert {type(params.model).__name__ for params in default} == {"Logistic", "Svm", "Neighbours", "Forest"}
    sets = [*default, *more]
    assert len({params.name for params in sets}) == len(sets)
    assert len({params.params_hash() for params in sets}) == len(sets)


def test_training_and_test_scans_are_disjoint_and_keep_the_shares_of_the_digits(
    digits_lib: types.SimpleNamespace,
) -> None:
    data = digits_lib.data
    digits = data.read_scans().digits
    numbered = data.Scans(pixels=np.arange(len(digits)).reshape(-1, 1), digits=digits)
    train, test = data.divide(numbered, n_train=1200, n_test=500, seed=3)
    assert (len(train), len(test)) == (1200, 500)
    assert not set(train.pixels[:, 0]) & set(test.pixels[:, 0])
    for digit, n_all in Counter(digits.tolist()).items():
        assert abs((train.digits == digit).sum() - 1200 * n_all / 1797) <= 1
        assert abs((test.digits == digit).sum() - 500 * n_all / 1797) <= 1
    again, _ = data.divide(numbered, n_train=1200, n_test=500, seed=3)
    other, _ = data.divide(numbered, n_train=1200, n_test=500, seed=4)
    assert (again.pixels == train.pixels).all()
    assert not (other.pixels == train.pixels).all()


def test_scaling_is_measured_on_the_training_scans_alone(digits_lib: types.SimpleNamespace) -> None:
    data = digits_lib.data
    train, test = data.divide(data.read_scans(), n_train=300, n_test=500, seed=1)
    scaled_train, scaled_test = data.standardise(train, test)
    spread = train.pixels.std(axis=0)
    varying = spread > 0
    assert scaled_train.pixels.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert scaled_train.pixels.std(axis=0)[varying] == pytest.approx(1)
    expected = (test.pixels - train.pixels.mean(axis=0))[:, varying] / spread[varying]
    assert scaled_test.pixels[:, varying] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["logistic", "svm", "neighbours", "forest"])
def test_a_model_reads_the_same_each_time_it_is_trained(digits_lib: types.SimpleNamespace, name: str) -> None:
    data, models = digits_lib.data, digits_lib.models
    train, test = data.standardise(*data.divide(data.read_scans(), n_train=300, n_test=200, seed=1))
    model = digits_lib.parameters.MODELS[name]
    read = [models.predict(models.fit(model, train, seed=5), test) for _ in range(2)]
    assert (read[0] == read[1]).all()
    assert (read[0] == test.digits).mean() > 0.8


def test_the_leaderboard_has_mean_and_spread_over_the_seeds(digits_lib: types.SimpleNamespace) -> None:
    results = [("a", 0.75), ("b", 0.5), ("a", 0.25), ("c", 0.5), ("a", 0.5)]
    assert digits_lib.scores.rank(results) == [
        {"configuration": "a", "seeds": 3, "mean": 0.5, "spread": 0.25, "worst": 0.25},
        {"configuration": "b", "seeds": 1, "mean": 0.5, "spread": None, "worst": 0.5},
        {"configuration": "c", "seeds": 1, "mean": 0.5, "spread": None, "worst": 0.5},
    ]
    assert [row["configuration"] for row in digits_lib.scores.rank([("low", 0.1), ("high", 0.9)])] == ["high", "low"]


def test_confusions_are_counted_and_added_up(digits_lib: types.SimpleNamespace) -> None:
    scores = digits_lib.scores
    matrix = scores.confusion(np.array([0, 1, 1, 9]), np.array([0, 1, 7, 9]))
    assert (matrix[0][0], matrix[1][1], matrix[1][7], matrix[9][9]) == (1, 1, 1, 1)
    assert sum(map(sum, matrix)) == 4
    assert scores.accuracy(matrix) == 0.75
    assert scores.add_up([[[1, 2], [3, 4]], [[10, 20], [30, 40]]]) == [[11, 22], [33, 44]]


# --- iris ------------------------------------------------------------------------------------------------------------
def test_iris_compares_its_models(tmp_path: Path) -> None:
    project = copy_of("iris", tmp_path)
    printed = project.experiment("iris", "--parallel", "0")
    scores = dict(re.findall(r"^(\S.*?)\s+(\d+\.\d)%$", printed, flags=re.MULTILINE))
    assert set(scores) == {"logistic", "forest", "small forest"}
    assert all(float(score) > 80 for score in scores.values())
    assert project.experiment("iris", "--parallel", "0") == printed
    assert not project.ran()


# --- texts -----------------------------------------------------------------------------------------------------------
def test_texts_share_their_data_and_report_in_groups(tmp_path: Path) -> None:
    project = copy_of("texts", tmp_path)
    printed = project.experiment("texts", "-p", "quick", "--parallel", "0")
    assert len(printed.splitlines()) == 7
    counts = Counter(task["stage"] for task in project.last_run()["tasks"])
    assert counts == {
        "write": 1, "split": 1, "vectorise": 6, "train_bayes": 2, "train_linear": 4, "evaluate": 6, "compare": 1
    }  # fmt: skip
    (table,) = artifacts(project.cache, "compare", "table")
    accuracies = [float(line.split(",")[4]) for line in table.read_text().splitlines()[1:]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > 0.6 > accuracies[-1] > 0.25
    reported = project.last_run()["reportables"]
    groups = Counter(row["group"] for row in reported)
    assert groups == {"data": 1, "bayes": 2, "logistic": 2, "hinge": 2, "result": 2}
    page = (project.root / "reports" / "_latest" / "index.html").read_text()
    assert all(row["name"] in page for row in reported)
    assert project.experiment("texts", "-p", "quick", "--parallel", "0") == printed
    assert not project.ran()
    names = [(row["group"], row["name"]) for row in project.last_run()["reportables"]]
    assert sorted(names) == sorted((row["group"], row["name"]) for row in reported)


# --- a team's cache --------------------------------------------------------------------------------------------------
def test_two_machines_share_a_bucket_and_a_third_finds_all_of_it_there(tmp_path: Path) -> None:
    folder = copy_of("team_cache", tmp_path).root
    done = subprocess.run(
        [sys.executable, "team.py"],
        cwd=folder,
        env={**clean_environment(), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"^  (\w+): (\d+) computed here", done.stdout, re.MULTILINE))
    assert int(counts["ann"]) + int(counts["ben"]) == 8 + 8 + 1
    assert min(int(counts["ann"]), int(counts["ben"])) > 0
    assert counts["eve"] == "0"
    assert "All three read: the same table" in done.stdout
    assert len(re.findall(r"^load \d\d%", done.stdout, re.MULTILINE)) == 8
    assert "17 artifacts" in done.stdout
    assert list(tmp_path.glob("team-cache-*")) == []
    assert not (folder / "data").exists()
    readme = (folder / "README.md").read_text()
    for said in ("Ann and Ben start the same experiment at the same time:", "All three read: the same table"):
        assert said in readme
        assert said in done.stdout


# --- the walk-through ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Cell:
    """A code cell: the line before its first, its source, and what it says it prints."""

    line: int
    source: str
    stated: list[str]


def cells_of(path: Path) -> list[Cell]:
    cells: list[Cell] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("# %%")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        if "[markdown]" not in lines[start]:
            body = lines[start + 1 : end]
            stated = [line.removeprefix("# => ") for line in body if line.startswith("# => ")]
            cells.append(Cell(start + 1, "\n".join(body) + "\n", stated))
    return cells


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.ModuleType:
    """A fresh folder to work in, and a module for the cells to run in."""
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("walk_through")
    monkeypatch.setitem(sys.modules, "walk_through", module)
    return module


def test_each_cell_of_the_walk_through_prints_what_it_states(session: types.ModuleType) -> None:
    cells = cells_of(WALK_THROUGH)
    printed = []
    for cell in cells:
        # Leading empty lines keep the line numbers, so that tracebacks and inspect find the source.
        code = compile("\n" * cell.line + cell.source, str(WALK_THROUGH), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(code, vars(session))
        printed.append((cell.line, output.getvalue().splitlines()))
    assert printed == [(cell.line, cell.stated) for cell in cells]
    assert sum(len(cell.stated) for cell in cells) > 20


def test_the_walk_through_runs_as_a_script(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(WALK_THROUGH)],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [line for cell in cells_of(WALK_THROUGH) for line in cell.stated]


# --- the benchmark ---------------------------------------------------------------------------------------------------
@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """What the benchmark makes of its measurements."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    monkeypatch.delitem(sys.modules, "overhead_report", raising=False)
    return importlib.import_module("overhead_report")


def test_the_benchmark_measures_what_it_promises(tmp_path: Path) -> None:
    figures_file = tmp_path / "figures.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "overhead.py")]
    done = subprocess.run(
        [*command, "--quick", "--sizes", "3", "--json", str(figures_file)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(figures_file.read_text())
    wholes = {f"{where}, {when}" for where in ("in-process", "2 processes") for when in ("cold", "warm")}
    assert set(figures["whole"]) == wholes
    assert {"curidask", "bare dask", "bare dask + JSON"} <= set(figures["inside"])
    assert all(list(series) == ["3"] for kind in ("whole", "inside") for series in figures[kind].values())
    assert "planning 64 chained diamonds" in done.stdout


def test_growth_is_told_from_the_measured_sizes(report: types.ModuleType) -> None:
    linear = {16: 0.5, 160: 5.0, 400: 12.5}
    quadratic = {10: 1.0, 20: 4.0, 40: 16.0}
    assert report.slope(linear) == pytest.approx(1)
    assert report.slope(quadratic) == pytest.approx(2)
    assert report.tenfold(linear) == {16: pytest.approx(10)}
    assert report.tenfold(quadratic) == {}


def test_the_difference_to_bare_dask_is_told_by_the_stage(report: types.ModuleType) -> None:
    figures = report.Figures(inside={"curidask": {33: 0.5}, "bare dask": {33: 0.3}})
    assert report.difference(figures, "bare dask", 33) == pytest.approx(2.0)  # 200 ms over 100 stages
