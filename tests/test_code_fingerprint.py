"""The fingerprint of a stage's code: what counts and what does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from curidask.source_reach import CodeOf, code_of
from tests.modules import imported

ROOT = Path(__file__).parent.parent

PROJECT: dict[str, str | None] = {
    "train": '''
        """Train."""
        import functools
        import importlib
        import math
        from dataclasses import dataclass
        from typing import TYPE_CHECKING

        import curidask as cf

        import text.clean
        import shapes as forms
        from text import tokens
        from text.numbers import *
        from text.words import shorten as cut
        from registry import TABLE, register
        from deco import logged, twice
        from cachers import OwnCacher
        import lazy
        import plugins

        if TYPE_CHECKING:
            from text.other import Other

        RATE = 0.1
        LIMITS = {"low": 1, "high": 10}
        LIMITS["middle"] = 5
        LIMITS.update(top=100)
        LEVEL = 1
        LEVEL += 1
        WIDTH, (HEIGHT, DEPTH) = 3, (4, 5)
        if (SIZE := 7) > 100:
            SIZE = 8
        NAMES = []
        for i in range(3):
            NAMES.append(f"n{i}")
        try:
            from text.fast import count
        except ImportError:
            from text.slow import count
        with open("/dev/null") as EMPTY:
            CONTENT = EMPTY.read()
        SPARE = 1
        del SPARE
        COUNTER = 0
        HALVES = functools.partial(tokens.halve, by=2)
        UNUSED = 1
        ALIAS = tokens.aliased


        class Meta(type):
            marker = 1


        class Base(metaclass=Meta):
            depth = 1

            def forward(self, x):
                return self.step(x) + self.depth

            def step(self, x):
                return x + 1


        @dataclass
        class Options:
            alpha: float = 0.5
            beta: int = 2

            @property
            def both(self):
                return self.alpha + self.beta


        class Model(Base):
            class Inner:
                size = 3

            rate = RATE

            def __init__(self, options=Options()):
                self.options = options

            def step(self, x):
                return super().step(x) * 2


        class Config:
            alpha = 1

        Config.alpha = 3


        def scale(x, by=LIMITS["low"]):
            def inner(y):
                return y * by
            return inner(x)


        def bump():
            global COUNTER
            COUNTER += 1
            return COUNTER


        def apply(function, x):
            return function(x)


        def passed(x):
            return x - 1


        def choose(x):
            match x:
                case 1:
                    return "one"
                case {"a": value}:
                    return value
            return math.sqrt(x)


        @register("late")
        def late(x):
            return x + 11


        def unused(x):
            return x + UNUSED


        @cf.stage(None, ["data"])
        def other(record):
            return unused(2)


        @cf.stage(None, ["model"], [OwnCacher], retries=1)
        @logged("info")
        def train(record, way=passed):
            """Train a model."""
            import local_import
            from text import deep
            chosen = importlib.import_module("chosen")
            total = sum(scale(n) for n in range(3) if n < LIMITS["high"])
            total += apply(passed, total) + (lambda x: x + LEVEL)(1) + HALVES(4) + WIDTH + SIZE + len(NAMES)
            total += text.clean.strip("a") + forms.area(2) + cut("b") + exported(3) + count("c") + deep.dive(1)
            total += TABLE["a"](1) + bump() + Config.alpha + Model().forward(1) + local_import.value() + chosen.pick()
            total += lazy.anything + len(CONTENT) + ALIAS(1) + getattr(tokens, "named")(2)
            print(f"{total:{plugins.WIDTH}} of {plugins.shown(total)}", choose(total))
            return total
        ''',
    "text.__init__": "TITLE = 'text'\n",
    "text.clean": '''
        import re

        from .words import shorten
        from . import words

        PATTERN = re.compile("a+")

        def strip(x):
            """Strip."""
            return len(PATTERN.sub("", x)) + shorten(x) + words.more(x)

        def not_used(x):
            return x
        ''',
    "text.words": """
        def shorten(x):
            return len(x[:3])

        def more(x):
            return odd(len(x))

        def odd(n):
            return n and even(n - 1)

        def even(n):
            return 1 if n == 0 else odd(n - 1)
        """,
    "text.tokens": """
        def halve(x, by):
            return x // by

        def aliased(x):
            return x

        def named(x):
            return x
        """,
    "text.numbers": """
        __all__ = ["exported"]

        def exported(x):
            return hidden(x)

        def hidden(x):
            return x + 1
        """,
    "text.fast": "def count(x): return 1\n",
    "text.slow": "def count(x): return 2\n",
    "text.deep": "def dive(x): return x\n",
    "text.other": "class Other: pass\n",
    "shapes": "from geometry import area\n",
    "geometry": "PI = 3\n\ndef area(r):\n    return PI * r * r\n",
    "registry": """
        TABLE = {}

        def register(name):
            def put(function):
                TABLE[name] = function
                return function
            return put
        """,
    "plugins": """
        from registry import TABLE, register
        WIDTH = 4

        @register("a")
        def a(x):
            return helper(x)

        def helper(x):
            return x * 7

        def shown(x):
            return str(x)
        """,
    "deco": """
        def logged(level):
            def wrap(function):
                import functools

                @functools.wraps(function)
                def inner(*args, **kwargs):
                    return adjust(function(*args, **kwargs))
                return inner
            return wrap

        def adjust(x):
            return x

        def twice(x):
            return x * 2
        """,
    "cachers": """
        from curidask.caching import JsonCacher

        class OwnCacher(JsonCacher):
            indent = 1
        """,
    "local_import": "def value(): return 5\n",
    "chosen": "def pick(): return 6\n\ndef unpicked(): return 7\n",
    "lazy": "def __getattr__(name): return make(name)\n\ndef make(name):\n    return 8\n",
}


def fingerprint(texts: Mapping[str, str | None], name: str = "train", module: str = "train") -> CodeOf:
    with imported(texts, module) as (loaded, project):
        return code_of(getattr(loaded, name), project)


def edited(texts: Mapping[str, str | None], module: str, old: str, new: str) -> dict[str, str | None]:
    text = texts[module]
    assert text is not None and text.count(old) == 1, (module, old)
    return {**texts, module: text.replace(old, new)}


def changed(before: CodeOf, after: CodeOf) -> set[str]:
    """The names of the parts that are other, new or gone."""
    was, now = ({part.name: part.digest for part in code.parts} for code in (before, after))
    return {name for name in was.keys() | now.keys() if was.get(name) != now.get(name)}


@pytest.fixture(scope="module")
def whole() -> CodeOf:
    return fingerprint(PROJECT)


SEMANTIC = {
    "the stage's body": ("train", "return total\n", "return total + 1\n", "train.train"),
    "a default": ("train", "way=passed", "way=None", "train.train"),
    "a constant": ("train", "RATE = 0.1", "RATE = 0.2", "train.RATE"),
    "a constant's element": ("train", '"high": 10', '"high": 11', "train.LIMITS"),
    "an assignment to an element": ("train", 'LIMITS["middle"] = 5', 'LIMITS["middle"] = 6', "train.LIMITS"),
    "a call that changes a constant": ("train", "top=100", "top=101", "train.LIMITS"),
    "an augmented assignment": ("train", "LEVEL += 1", "LEVEL += 2", "train.LEVEL"),
    "an unpacked tuple": ("train", "= 3, (4, 5)", "= 4, (4, 5)", "train.WIDTH"),
    "a walrus at the top": ("train", "(SIZE := 7)", "(SIZE := 9)", "train.SIZE"),
    "a conditional block": ("train", "SIZE = 8", "SIZE = 9", "train.SIZE"),
    "a loop that fills a constant": ("train", 'f"n{i}"', 'f"m{i}"', "train.NAMES"),
    "a with block": ("train", '"/dev/null"', '"/dev/zero"[:0] or "/dev/null"', "train.CONTENT"),
    "a conditional import": ("text.fast", "return 1", "return 3", "text.fast.count"),
    "the other conditional import": ("text.slow", "return 2", "return 3", "text.slow.count"),
    "a helper": ("train", "return y * by", "return y * by + 1", "train.scale"),
    "a helper's default": ("train", 'by=LIMITS["low"]', 'by=LIMITS["high"]', "train.scale"),
    "a helper's helper": ("text.words", "len(x[:3])", "len(x[:4])", "text.words.shorten"),
    "a helper by the full name of its module": ("text.clean", 'sub("", x)', 'sub("b", x)', "text.clean.strip"),
    "a constant of another module": ("text.clean", '"a+"', '"b+"', "text.clean.PATTERN"),
    "a helper by a relative import of a module": ("text.words", "odd(len(x))", "odd(len(x) + 1)", "text.words.more"),
    "one in a cycle": ("text.words", "n and even(n - 1)", "n and even(n - 2)", "text.words.odd"),
    "another in a cycle": ("text.words", "1 if n == 0", "2 if n == 0", "text.words.even"),
    "a partial's function": ("text.tokens", "x // by", "x / by", "text.tokens.halve"),
    "a partial's argument": ("train", "by=2)", "by=3)", "train.HALVES"),
    "an alias": ("text.tokens", "def aliased(x):\n            return x", "def aliased(x):\n            return -x",
                 "text.tokens.aliased"),
    "a name given to getattr": ("text.tokens", "def named(x):\n            return x",
                                "def named(x):\n            return -x", "text.tokens.named"),
    "through a star": ("text.numbers", "return x + 1", "return x + 2", "text.numbers.hidden"),
    "a re-export": ("geometry", "r * r", "r * r * r", "geometry.area"),
    "a constant behind a re-export": ("geometry", "PI = 3", "PI = 4", "geometry.PI"),
    "a registered function": ("plugins", "return helper(x)", "return helper(x) + 1", "plugins.a"),
    "a registered function of the own module": ("train", "return x + 11", "return x + 12", "train.late"),
    "what a registered function reaches": ("plugins", "x * 7", "x * 8", "plugins.helper"),
    "a decorator": ("deco", "return adjust(function", "return 1 + adjust(function", "deco.logged"),
    "what a decorator reaches": ("deco", "def adjust(x):\n            return x",
                                 "def adjust(x):\n            return -x", "deco.adjust"),
    "a decorator's argument": ("train", 'logged("info")', 'logged("debug")', "train.train"),
    "a base class": ("train", "return self.step(x) + self.depth", "return self.step(x)", "train.Base"),
    "a base class's attribute": ("train", "depth = 1", "depth = 2", "train.Base"),
    "a metaclass": ("train", "marker = 1", "marker = 2", "train.Meta"),
    "a method": ("train", "super().step(x) * 2", "super().step(x) * 3", "train.Model"),
    "a nested class": ("train", "size = 3", "size = 4", "train.Model"),
    "a class's attribute": ("train", "rate = RATE", "rate = RATE * 2", "train.Model"),
    "a field's default": ("train", "alpha: float = 0.5", "alpha: float = 0.6", "train.Options"),
    "a field's name": ("train", "beta: int = 2", "gamma: int = 2\n            beta = 2", "train.Options"),
    "a property": ("train", "self.alpha + self.beta", "self.alpha - self.beta", "train.Options"),
    "a dataclass's options": ("train", "@dataclass\n", "@dataclass(order=True)\n", "train.Options"),
    "the attribute of a class": ("train", "            alpha = 1\n", "            alpha = 2\n", "train.Config"),
    "an attribute that is set later": ("train", "Config.alpha = 3", "Config.alpha = 4", "train.Config"),
    "a function that is passed on": ("train", "return x - 1", "return x - 2", "train.passed"),
    "a function that gets one": ("train", "return function(x)", "return function(x + 1)", "train.apply"),
    "a global that a function assigns": ("train", "COUNTER = 0", "COUNTER = 5", "train.COUNTER"),
    "a function that assigns a global": ("train", "COUNTER += 1", "COUNTER += 2", "train.bump"),
    "a pattern": ("train", "case 1:", "case 2:", "train.choose"),
    "a mapping's pattern": ("train", '{"a": value}', '{"b": value}', "train.choose"),
    "a comprehension": ("train", "for n in range(3)", "for n in range(4)", "train.train"),
    "a lambda": ("train", "(lambda x: x + LEVEL)", "(lambda x: x - LEVEL)", "train.train"),
    "a formatted string": ("train", " of {plugins", " in {plugins", "train.train"),
    "a helper in a formatted string": ("plugins", "return str(x)", "return repr(x)", "plugins.shown"),
    "a constant in a format": ("plugins", "WIDTH = 4", "WIDTH = 5", "plugins.WIDTH"),
    "an import within the function": ("local_import", "return 5", "return 6", "local_import.value"),
    "an import of a module within it": ("text.deep", "return x", "return -x", "text.deep.dive"),
    "import_module by a name": ("chosen", "return 6", "return 8", "chosen.pick"),
    "a module that makes its attributes": ("lazy", "return 8", "return 9", "lazy"),
    "a cacher of the project": ("cachers", "indent = 1", "indent = 2", "cachers.OwnCacher"),
    "an installed function": ("train", "import math\n", "import cmath as math\n", "train.math"),
    "the base of a cacher": ("cachers", "import JsonCacher", "import PickleCacher as JsonCacher", "cachers.JsonCacher"),
}  # fmt: skip


@pytest.mark.parametrize(("module", "old", "new", "name"), SEMANTIC.values(), ids=SEMANTIC)
def test_an_edit_that_matters_is_seen_and_named(module: str, old: str, new: str, name: str, whole: CodeOf) -> None:
    after = fingerprint(edited(PROJECT, module, old, new))
    assert after.digest != whole.digest
    assert changed(whole, after) == {name}


COSMETIC = {
    "nothing": ("train", "return total\n", "return total\n"),
    "a comment": ("train", "return total\n", "return total  # the sum\n"),
    "a docstring": ("train", '"""Train a model."""', '"""Train it well."""'),
    "no docstring": ("train", '            """Train a model."""\n', ""),
    "a helper's docstring": ("text.clean", '"""Strip."""', "'''Strip all.'''"),
    "the module's docstring": ("train", '"""Train."""', '"""Train anew."""'),
    "a docstring beside a field": ("train", "beta: int = 2", 'beta: int = 2\n            """How much."""'),
    "an empty line": ("train", "    total += apply", "\n            total += apply"),
    "line breaks": ("train", "LIMITS = {", "LIMITS = {\n            "),
    "a comma": ("train", '"high": 10}', '"high": 10,}'),
    "parentheses": ("train", "return total\n", "return (total)\n"),
    "a backslash": ("train", "total += lazy.anything +", "total += lazy.anything + \\\n             "),
    "quotes": ("train", 'case {"a": value}', "case {'a': value}"),
    "quotes around a name": ("plugins", '@register("a")', "@register('a')"),
    "a text in two pieces": ("train", '"late"', '"la" "te"'),
    "a formatted string in two pieces": ("train", 'f"{total:{plugins.WIDTH}} of ',
                                         'f"{total:{plugins.WIDTH}}" f" of '),
    "an f without a field": ("train", '"one"', 'f"one"'),
    "an underscore in a number": ("train", "top=100)", "top=1_00)"),
    "an exponent": ("train", "RATE = 0.1", "RATE = 1e-1"),
    "the type of an argument": ("train", "def apply(function, x):", "def apply(function: object, x: float) -> float:"),
    "the type of a variable": ("train", "total = sum(", "total: float = sum("),
    "a variable's type alone": ("train", "    total += apply", "    later: int\n            total += apply"),
    "the type of a constant": ("train", "RATE = 0.1", "RATE: float = 0.1"),
    "the type of a field": ("train", "alpha: float = 0.5", "alpha: 'float | None' = 0.5"),
    "a class for type checkers": ("text.other", "class Other: pass", "class Other: x = 1"),
    "an import for type checkers": ("train", "from text.other import Other", "from text.other import Other as Others"),
    "an unused function": ("train", "return x + UNUSED", "return x - UNUSED"),
    "a renamed unused function": ("text.clean", "def not_used(x)", "def still_not_used(x)"),
    "a new function": ("text.clean", "def not_used(x)", "def new(x): pass\n\n        def not_used(x)"),
    "an unused constant": ("train", "UNUSED = 1", "UNUSED = 2"),
    "a new constant": ("train", "UNUSED = 1", "UNUSED = 1\n        NEW = 2"),
    "another stage": ("train", "return unused(2)", "return unused(3)"),
    "an unused function of a module that is imported by its name": ("chosen", "return 7", "return 8"),
    "an unused decorator": ("deco", "return x * 2", "return x * 3"),
    "the order of imports": ("train", "import functools\n        import importlib\n",
                             "import importlib\n        import functools\n"),
    "the order of imports within a function": (
        "train", "import local_import\n            from text import deep\n",
        "from text import deep\n            import local_import\n"),
    "a new import": ("train", "import functools\n", "import functools\n        import json\n"),
    "two imports in one": ("train", "import functools\n        import importlib\n", "import functools, importlib\n"),
    "a full import instead of a relative one": ("text.clean", "from .words import", "from text.words import"),
    "the stage's retries": ("train", "retries=1", "retries=2"),
    "the stage's time": ("train", "retries=1", "retries=1, timeout_seconds=3, memory='1GB', priority=2"),
    "cachers by name": ("train", '["model"], [OwnCacher]', '["model"], cachers=[OwnCacher]'),
    "pass beside a docstring": ("train", "class Meta(type):\n", 'class Meta(type):\n            """Meta."""\n'),
}  # fmt: skip


@pytest.mark.parametrize(("module", "old", "new"), COSMETIC.values(), ids=COSMETIC)
def test_an_edit_that_does_not_matter_changes_nothing(module: str, old: str, new: str, whole: CodeOf) -> None:
    after = fingerprint(edited(PROJECT, module, old, new))
    assert changed(whole, after) == set()
    assert after.digest == whole.digest
