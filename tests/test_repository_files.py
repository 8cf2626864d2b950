"""What the repository holds for others than Python: the workflow of CI, the citation, and how to report a weakness."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import curidask
from tests.deploying import TOOLS, tool

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    read: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text())
    return read


def test_commits_are_checked_by_what_checks_them_in_ci() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    at_commit = {tuple(hook["entry"].split()[:2]) for hook in hooks}
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    in_ci = {tuple(line.split()[:2]) for line in tox["testenv:check"]["commands"].split("\n") if line}
    names = {" ".join(word for word in words if not word.startswith((".", "-"))) for words in at_commit}
    assert names == {" ".join(w for w in words if not w.startswith((".", "-"))) for words in in_ci} - {"pytest"}


def test_the_workflow_has_no_findings() -> None:
    done = tool("jactionlint", f"--shellcheck={TOOLS / 'shellcheck'}", "--pyflakes=", WORKFLOW)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_runs_the_readmes_test_command_on_each_python(workflow: dict[Any, Any]) -> None:
    *_, command = re.findall(r"```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    linux, macos = workflow["jobs"]["linux"], workflow["jobs"]["macos"]
    assert linux["steps"][-1]["run"] == command
    assert macos["steps"][-1]["run"].startswith(command)
    pythons = linux["strategy"]["matrix"]["python"]
    assert pythons == [f"3.{minor}" for minor in range(11, 15)]
    assert SpecifierSet(PROJECT["requires-python"]).contains(pythons[0])
    assert not SpecifierSet(PROJECT["requires-python"]).contains("3.10")


def test_what_macos_leaves_out_is_there(workflow: dict[Any, Any]) -> None:
    left_out = re.findall(r"--ignore=(\S+)", workflow["jobs"]["macos"]["steps"][-1]["run"])
    assert left_out
    assert [path for path in left_out if not (ROOT / path).exists()] == []


def test_the_workflow_may_only_read_and_uses_actions_that_stay_what_they_are(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    uses = [step["uses"] for step in steps if "uses" in step]
    assert uses
    assert [action for action in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []


def test_the_citation_is_valid_and_says_what_the_project_says() -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.citation-file-format", ROOT / "CITATION.cff")
    assert done.returncode == 0, done.stdout + done.stderr
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == PROJECT["license"]
    assert citation["keywords"] == PROJECT["keywords"]
    assert [author["name"].lower() for author in citation["authors"]] == [a["name"].lower() for a in PROJECT["authors"]]


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("CITATION.cff", "version"),
        ("deploy/kubernetes/Chart.yaml", "version"),
        ("deploy/kubernetes/values.yaml", "image.tag"),
    ],
)
def test_every_file_that_names_the_version_names_this_one(file: str, key: str) -> None:
    found = yaml.safe_load((ROOT / file).read_text())
    for part in key.split("."):
        found = found[part]
    assert found == curidask.__version__


@pytest.mark.parametrize("page", ["SECURITY.md", "CONTRIBUTING.md"])
def test_the_files_that_a_page_links_to_are_there(page: str) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []
