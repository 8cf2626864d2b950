"""Print how much processor time the fingerprint of a stage's code takes: the first in a process, and each after it.

The project is made for it: packages of modules whose functions, classes and tables use those of others, and an
experiment of many stages. ``--folder`` measures the functions of a module that is there, named by ``--module``.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
import types
from pathlib import Path

from curidask.core.code.reach import code_of
from curidask.core.code.scopes import LoadedSources

HELPERS = '''
import math
from dataclasses import dataclass

{imports}

LIMIT_{n} = {n}
TABLE_{n} = {{"low": LIMIT_{n}, "high": math.inf}}
TABLE_{n}["middle"] = {n} / 2


@dataclass
class Model{n}:
    """A model."""

    rate: float = 0.1
    depth: int = LIMIT_{n}

    def fit(self, values):
        """Fit it."""
        return [self.step(value) for value in values if value is not None]

    def step(self, value):
        return {inner}(value * self.rate, self.depth)
'''

FUNCTION = '''

def helper_{n}_{k}(value, by=LIMIT_{n}):
    """Do something with a value."""
    total = 0.0
    for index, part in enumerate(range(int(value))):
        if index % 2 and part > TABLE_{n}["low"]:
            total += math.sqrt(part) * by
        else:
            total -= {other}(part, by) if part < 0 else Model{n}().rate
    return f"{{total:.3f}}" if total is None else total
'''

STAGE = '''

@cf.stage({inputs}, ["out_{s}"])
def stage_{s}(record, {arguments}):
    """One of many."""
    model = {module}.Model{n}(rate=0.{s})
    return {module}.helper_{n}_{k}(len(model.fit([1, 2, {s}])), by=2)
'''


def write_project(folder: Path, n_modules: int, n_functions: int, n_stages: int) -> None:
    """Write modules of some 12 lines a function, and an experiment."""
    package = folder / "bench_helpers"
    package.mkdir()
    for n in range(n_modules):
        before = max(n - 1, 0)
        other = f"helper_{before}_0" if n else "abs"
        imports = f"from bench_helpers.part_{before} import {other}" if n else ""
        text = HELPERS.format(n=n, imports=imports, inner=f"helper_{n}_0")
        called = [f"helper_{n}_{k - 1}" if k else other for k in range(n_functions)]
        text += "".join(FUNCTION.format(n=n, k=k, other=name) for k, name in enumerate(called))
        (package / f"part_{n}.py").write_text(text)
    stages = "import curidask as cf\n" + "".join(f"from bench_helpers import part_{n}\n" for n in range(n_modules))
    for s in range(n_stages):
        inputs, arguments = (f'["out_{s - 1}"]', f"out_{s - 1}") if s else ("None", "seed=1")
        n, k = s % n_modules, s % n_functions
        stages += STAGE.format(s=s, inputs=inputs, arguments=arguments, module=f"part_{n}", n=n, k=k)
    (folder / "bench_experiment.py").write_text(stages)


def measure(module: types.ModuleType) -> None:
    """Print the times for all stages of a module, or for all its functions if it has none."""
    functions = [f for f in vars(module).values() if isinstance(f, types.FunctionType)]
    stages = [f for f in functions if hasattr(f, "spec")] or [f for f in functions if f.__module__ == module.__name__]
    sources = LoadedSources()
    for title in ("first time", "again"):
        seconds, parts = [], []
        for stage in stages:
            began = time.process_time()
            code = code_of(stage, sources)
            seconds.append(time.process_time() - began)
            parts.append(len(code.parts))
        first, *others = (1000 * value for value in seconds)
        others = others or [first]
        print(
            f"{title}: {len(stages)} stages, {statistics.mean(parts):.0f} parts each; the first {first:.1f} ms, then "
            f" median {statistics.median(others):.2f} ms, at most {max(others):.2f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", type=int, default=40)
    parser.add_argument("--functions", type=int, default=20, help="in each module")
    parser.add_argument("--stages", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="of a project that is there")
    parser.add_argument("--module", default="bench_experiment")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = given.folder or Path(made)
        if given.folder is None:
            write_project(folder, given.modules, given.functions, given.stages)
        lines = sum(len(path.read_text().splitlines()) for path in folder.rglob("*.py"))
        print(f"{lines} lines")
        sys.path.insert(0, str(folder))
        measure(importlib.import_module(given.module))


if __name__ == "__main__":
    main()
