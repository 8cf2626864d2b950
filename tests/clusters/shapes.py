"""Shapes that projects have: each is run in several places, where it has to do the same.

Each file below ``shapes/`` is a project: its files one after the other, the first of which is its experiment. What all
experiments begin with is put before that, and what it does not define itself is put behind: the parameter sets, and a
``run()`` that calls the stage ``use`` on each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("shapes")

HEAD = """
from dataclasses import dataclass
from typing import Any
import curidask as cf
from curidask.caching import JsonCacher, PickleCacher
"""

PARAMS = """
@dataclass
class P(cf.ExperimentParameters):
    x: Any = 1

def get_params():
    return [P("one", x=1), P("two", x=2)]
"""

RUN = """
def run(param_sets, manager):
    return [use(cf.Record(manager, params)).output for params in param_sets]
"""

SHIPPING = 'ship = ["data/*"]\n'


@dataclass(frozen=True)
class Shape:
    """A project.

    Attributes
    ----------
    name, experiment : str
    files : dict of str to str
    """

    name: str
    experiment: str
    files: Mapping[str, str]


def _shape(path: Path) -> Shape:
    pieces = re.split(r"^#### (.+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    files = dict(zip(pieces[::2], pieces[1::2], strict=True))
    first, text = next(iter(files.items()))
    experiment = first.removeprefix("experiments/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    files[first] = "".join(
        [HEAD, PARAMS if "def get_params" not in text else "", text, RUN if "def run(" not in text else ""]
    )
    if any(name.startswith("data/") for name in files):
        files["curidask.toml"] = SHIPPING
    return Shape(path.stem, experiment, files)


SHAPES = [_shape(path) for path in sorted(FOLDER.glob("*.txt"))]
