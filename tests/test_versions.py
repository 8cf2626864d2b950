"""What pyproject.toml says of the versions of other packages."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())


def requirements() -> list[Requirement]:
    """All of them, wherever they are needed."""
    project: dict[str, Any] = PYPROJECT["project"]
    lists = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PYPROJECT["dependency-groups"].values(),
    ]
    return [Requirement(text) for texts in lists for text in texts if isinstance(text, str)]


def test_a_package_has_the_same_bounds_wherever_it_is_named() -> None:
    bounds: dict[str, set[str]] = {}
    for requirement in requirements():
        if requirement.specifier:
            bounds.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}


def test_each_has_a_lower_bound() -> None:
    bare = [str(r) for r in requirements() if r.name != "curidask" and ">=" not in str(r.specifier)]
    assert bare == []
