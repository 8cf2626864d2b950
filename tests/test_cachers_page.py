"""What ``docs/cachers.md`` shows works as it stands."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from curidask import caching

PAGE = Path(__file__).parent.parent / "docs" / "cachers.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
NOT_INSTALLED = {"torch"}


def test_every_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CURIDASK_RUNS", str(tmp_path / "runs"))
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)  # where dataclasses and pickles look for its classes
    ran = 0
    for number, block in enumerate(BLOCKS):
        code = compile(block, f"{PAGE.name}, block {number}", "exec", dont_inherit=True)
        needs = re.match(r"# needs (\w+)\n", block)
        if needs and needs[1] in NOT_INSTALLED:
            continue
        exec(code, vars(page))
        ran += 1
    page.manager.close()
    assert ran >= len(BLOCKS) - len(NOT_INSTALLED)
    published = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "results").glob("[!.]*"))
    assert published == [
        "results/depth_2.json",
        "results/depth_4.json",
        "results/notebook_2.ipynb",
        "results/sheet.csv",
    ]


def test_every_built_in_cacher_is_in_the_table() -> None:
    (table,) = re.findall(r"Which one to take:\n\n(.*?)\n\n", PAGE.read_text(), re.DOTALL)
    missing = {name for name in caching.__all__ if name not in ("Cacheable", "Lazy", "PandasCSVCacher")}
    assert {name for name in missing if f"`{name}`" not in table} == set()


def test_the_links_within_the_page_lead_somewhere() -> None:
    text = PAGE.read_text()
    anchors = {
        re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    links = re.findall(r"\]\(#([^)]+)\)", text)
    assert links
    assert set(links) <= anchors
