"""What ``docs/parameters.md`` shows works as it stands."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from curidask.hashing import digest

PAGE = Path(__file__).parent.parent / "docs" / "parameters.md"


def test_every_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)  # where dataclasses look for what their types are
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec", dont_inherit=True), vars(page))
    hashes = {page.Params(kind="svm").params_hash(), *(params.params_hash() for params in [*page.sets, page.wider])}
    assert len(hashes) == 4
    assert page.Attributes("a").params_hash() == page.Model(name="b").params_hash()
    (tmp_path / "tokens").write_text("a b")
    tokens = [page.Tokens(str(tmp_path / "tokens")) for _ in range(2)]
    assert digest(tokens[0]) == digest(tokens[1])
    assert digest(page.Theirs()) == digest(page.Theirs())
    for each in tokens:
        each.file.close()
