"""The fingerprint of a stage's code: what counts and what does not."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curidask.core.code.places import closure_values
from curidask.core.code.reach import CodeOf, code_of, methods_of
from curidask.core.code.scopes import LoadedSources, ModuleSource
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
    assert (text or "").count(old) == 1, (module, old)
    return {**texts, module: (text or "").replace(old, new)}


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


def constants(tree: ast.Module) -> Iterator[tuple[ast.stmt, ast.Constant]]:
    """The numbers and texts in a module that count, with the statements that they are in."""
    for statement in tree.body:
        parts = list(ast.walk(statement))
        hints = [getattr(part, name, None) for part in parts for name in ("annotation", "returns")]
        skipped = [part for part in parts if isinstance(part, ast.JoinedStr | ast.Expr) and not calls(part)]
        skipped += [d for d in getattr(statement, "decorator_list", []) if "stage" in ast.unparse(d)]
        inside = {part for top in (*skipped, *hints) if top is not None for part in ast.walk(top)}
        for part in parts:
            if isinstance(part, ast.Constant) and type(part.value) in (int, float, str) and part not in inside:
                yield statement, part


def calls(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def test_each_constant_counts_where_it_is_reached_and_nowhere_else(whole: CodeOf) -> None:
    reached, seen = "\n".join(part.source for part in whole.parts), {True: 0, False: 0}
    with imported(PROJECT, "train") as (module, project):
        for name, text in list(project.texts.items()):
            lines = (text or "").splitlines(keepends=True)
            for statement, constant in constants(ast.parse(text or "")):
                line = constant.lineno - 1
                other = "(98765)" if type(constant.value) is not str else repr(f"{constant.value}z")
                edited_line = f"{lines[line][: constant.col_offset]}{other}{lines[line][constant.end_col_offset :]}"
                project.texts[name] = "".join([*lines[:line], edited_line, *lines[line + 1 :]])
                source = "".join(lines[statement.lineno - 1 : statement.end_lineno]).strip()
                is_reached = source in reached or source.startswith("__all__")
                assert (code_of(module.train, project).digest != whole.digest) == is_reached, (name, edited_line)
                seen[is_reached] += 1
            project.texts[name] = text
    assert seen[True] > 60
    assert seen[False] > 5


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


# --- how a definition is reached -------------------------------------------------------------------------------------
ONE_OF_A_KIND: dict[str, tuple[dict[str, str | None], str, str, str, set[str]]] = {
    "a subclass that its base registers": (
        {
            "train": "import kinds, more\ndef train(name): return kinds.Base.known[name]()\n",
            "kinds": "class Base:\n    known = {}\n    def __init_subclass__(cls): Base.known[cls.__name__] = cls\n",
            "more": "from kinds import Base\nclass Middle(Base): pass\nclass Own(Middle):\n    size = 1\n",
        },
        "more", "size = 1", "size = 2", {"more.Own"},
    ),
    "a subclass that a metaclass registers": (
        {
            "train": "import kinds, more\ndef train(name): return kinds.KNOWN[name]()\n",
            "kinds": "KNOWN = {}\nclass Meta(type):\n    def __init__(cls, *args):\n        KNOWN[args[0]] = cls\n"
            "class Base(metaclass=Meta): pass\n",
            "more": "from kinds import Base\nclass Own(Base):\n    size = 1\n",
        },
        "more", "size = 1", "size = 2", {"more.Own"},
    ),
    "an implementation for a type": (
        {
            "train": "from ops import size\nimport more\ndef train(x): return size(x)\n",
            "ops": "import functools\n@functools.singledispatch\ndef size(x): return 1\n",
            "more": "from ops import size\n@size.register\ndef _(x: int): return 2\n",
        },
        "more", "return 2", "return 3", {"more._"},
    ),
    "the type of an implementation": (
        {
            "train": "from functools import singledispatch\n@singledispatch\ndef size(x): return 1\n"
            "@size.register\ndef _(x: int): return 2\ndef train(x): return size(x)\n",
        },
        "train", "x: int", "x: str", {"train._"},
    ),
    "an implementation that is called for a type": (
        {
            "train": "from functools import singledispatch\n@singledispatch\ndef size(x): return 1\n"
            "def of_int(x): return 2\nsize.register(int, of_int)\ndef train(x): return size(x)\n",
        },
        "train", "return 2", "return 3", {"train.of_int"},
    ),
    "a module that sets another's constant": (
        {
            "train": "import numbers_of\nimport settings\ndef train(x): return numbers_of.RATE\n",
            "numbers_of": "RATE = 1\n",
            "settings": "import numbers_of\nnumbers_of.RATE = 2\n",
        },
        "settings", "= 2", "= 3", {"numbers_of.RATE"},
    ),
    "a module that fills another's table": (
        {
            "train": "from tables import TABLE\nimport more\ndef train(x): return TABLE[x]\n",
            "tables": "TABLE = {}\n",
            "more": "from tables import TABLE\nTABLE['a'] = 1\n",
        },
        "more", "= 1", "= 2", {"tables.TABLE"},
    ),
    "a function that fills a table": (
        {
            "train": "import random\nITEMS = []\ndef fill(items): items.extend([1, 2])\nfill(ITEMS)\n"
            "random.shuffle(ITEMS)\ndef train(x): return ITEMS\n",
        },
        "train", "[1, 2]", "[1, 3]", {"train.fill"},
    ),
    "a method that changes a table for the module": (
        {"train": "ITEMS = [1]\ndef setup(): ITEMS.append(2)\nsetup()\ndef train(x): return ITEMS\n"},
        "train", "append(2)", "append(3)", {"train.setup"},
    ),
    "the seed of a package": (
        {"train": "import random\nrandom.seed(1)\ndef train(x): return random.random()\n"},
        "train", "seed(1)", "seed(2)", {"train.random"},
    ),
    "a setting of a package in another module": (
        {
            "train": "import numpy as np\nimport shown, setup\ndef train(x): return str(np.ones(x))\n",
            "shown": "import numpy\nif True:\n    numpy.set_printoptions(precision=2)\n",
            "setup": "import decimal\ndecimal.getcontext().prec = 3\n",
        },
        "shown", "precision=2", "precision=3", {"shown.numpy.set_printoptions"},
    ),
    "a setting that is assigned": (
        {
            "train": "from decimal import Decimal\nimport setup\ndef train(x): return Decimal(1) / x\n",
            "setup": "import decimal\ndecimal.getcontext().prec = 5\n",
        },
        "setup", "prec = 5", "prec = 6", {"setup.decimal", "setup.decimal.getcontext"},
    ),
    "a setting that a function makes": (
        {
            "train": "import random\nfrom setup import begin\nbegin(1)\ndef train(x): return random.random()\n",
            "setup": "def begin(x):\n    import random as r\n    r.seed(x + 1)\n",
        },
        "setup", "x + 1", "x + 2", {"setup.begin"},
    ),
    "an attribute of a class of a package": (
        {
            "train": "from pathlib import Path\nimport patch\ndef train(x): return Path(x).size()\n",
            "patch": "import pathlib\npathlib.Path.size = lambda self: 1\n",
        },
        "patch", "1", "2", {"patch.pathlib", "patch.pathlib.Path.size"},
    ),
    "a name that is put into globals": (
        {"train": "globals()['SIZE'] = 1\ndef train(x): return SIZE\n"},
        "train", "= 1", "= 2", {"train.SIZE"},
    ),
    "a method that fills a table where it is called for each": (
        {"train": "ITEMS = []\nlist(map(ITEMS.append, [1, 2]))\ndef train(x): return ITEMS\n"},
        "train", "[1, 2]", "[1, 3]", {"train.ITEMS"},
    ),
    "a variable of the environment": (
        {"train": "import os\nos.environ['CURIDASK_NOT_USED'] = '1'\ndef train(x): return os.environ\n"},
        "train", "'1'", "'2'", {"train.os"},
    ),
    "a function that is set anew": (
        {"train": "def double(f): return lambda x: 2 * f(x)\ndef f(x): return x\nf = double(f)\n"
         "def train(x): return f(x)\n"},
        "train", "2 * f(x)", "3 * f(x)", {"train.double"},
    ),
    "an attribute of a function": (
        {"train": "def f(x): return f.by * x\nf.by = 2\ndef train(x): return f(x)\n"},
        "train", "f.by = 2", "f.by = 3", {"train.f"},
    ),
    "an attribute of what is asked for": (
        {"train": "def train(x): return train.by * x\ntrain.by = 2\n"},
        "train", "train.by = 2", "train.by = 3", {"train.train"},
    ),
    "a module that is passed on": (
        {
            "train": "import tools\ndef use(module, x): return module.f(x)\ndef train(x): return use(tools, x)\n",
            "tools": "import helpers\ndef f(x): return helpers.g(x)\n",
            "helpers": "def g(x): return x\ndef unused(x): return x\n",
        },
        "tools", "helpers.g(x)", "helpers.g(x) + 1", {"tools"},
    ),
    "vars of a module": (
        {
            "train": "import tools\ndef train(x): return vars(tools)[x]\n",
            "tools": "def f(x): return x\n",
        },
        "tools", "return x", "return -x", {"tools"},
    ),
    "what a module that is passed on imports": (
        {
            "train": "import tools\ndef train(x): return vars(tools)[x]\n",
            "tools": "from helpers import g\n",
            "helpers": "def g(x): return x\n",
        },
        "helpers", "return x", "return -x", {"helpers.g"},
    ),
    "an import by a name within a function": (
        {
            "train": "def train(x):\n    if x:\n        try:\n            from fast import f\n"
            "        except ImportError:\n            from slow import f\n    return f(x)\n",
            "fast": "def f(x): return 1\n",
            "slow": "def f(x): return 2\n",
        },
        "slow", "return 2", "return 3", {"slow.f"},
    ),
    "a chain of packages": (
        {
            "train": "import deep.er.est\ndef train(x): return deep.er.est.f(x)\n",
            "deep.er.est": "def f(x): return 1\n",
        },
        "deep.er.est", "return 1", "return 2", {"deep.er.est.f"},
    ),
    "a name in globals": (
        {"train": "def f(x): return 1\ndef train(x): return globals()['f'](x)\n"},
        "train", "return 1", "return 2", {"train.f"},
    ),
    "a star import of a star import": (
        {
            "train": "from a import *\ndef train(x): return f(x)\n",
            "a": "from b import *\n",
            "b": "def f(x): return 1\n",
        },
        "b", "return 1", "return 2", {"b.f"},
    ),
    "a name that a star takes from a package": (
        {"train": "from math import *\ndef train(x): return sqrt(x)\n"},
        "train", "from math", "from cmath", {"train.*"},
    ),
    "a comprehension's variable that hides nothing after it": (
        {"train": "def f(x): return 1\ndef train(x): return [f for f in x] + [f(x)]\n"},
        "train", "return 1", "return 2", {"train.f"},
    ),
    "the first iterable of a comprehension": (
        {"train": "ITEMS = [1]\ndef train(x): return [ITEMS for ITEMS in ITEMS]\n"},
        "train", "[1]", "[2]", {"train.ITEMS"},
    ),
    "a class attribute of the name of a constant": (
        {"train": "ALPHA = 1\nclass Config:\n    ALPHA = ALPHA\ndef train(x): return Config.ALPHA\n"},
        "train", "ALPHA = 1", "ALPHA = 2", {"train.ALPHA"},
    ),
    "a class variable's kind": (
        {"train": "from typing import ClassVar\nclass Config:\n    a: int = 1\ndef train(x): return Config()\n"},
        "train", "a: int", "a: ClassVar[int]", {"train.Config"},
    ),
    "the order of fields": (
        {"train": "class Config:\n    a: int\n    b: int\ndef train(x): return Config()\n"},
        "train", "a: int\n    b: int", "b: int\n    a: int", {"train.Config"},
    ),
    "a bound of a field": (
        {"train": "from typing import Annotated\ndef Field(gt): pass\n"
         "class Config:\n    a: Annotated[int, Field(gt=1)]\ndef train(x): return Config()\n"},
        "train", "gt=1", "gt=2", {"train.Config"},
    ),
    "a type that pydantic reads": (
        {"train": "from pydantic import BaseModel\nclass Base(BaseModel): pass\nclass Config(Base):\n    a: int = 1\n"
         "def train(x): return Config(a=x)\n"},
        "train", "a: int", "a: float", {"train.Config"},
    ),
    "a class that pydantic makes": (
        {"train": "import pydantic\nclass Inner(pydantic.BaseModel):\n    a: int = 1\n"
         "class Config(pydantic.BaseModel):\n    inner: Inner\ndef train(x): return Config(**x)\n"},
        "train", "a: int = 1", "a: int = 2", {"train.Inner"},
    ),
    "names of two imports within a function": (
        {
            "train": "def train(x):\n    def a():\n        from fast import f\n        return f()\n"
            "    def b():\n        from slow import f\n        return f()\n"
            "    return a() + b() + f()\ndef f(): return 3\n",
            "fast": "def f(): return 1\n",
            "slow": "def f(): return 2\n",
        },
        "fast", "return 1", "return 4", {"fast.f"},
    ),
    "a named tuple": (
        {"train": "from collections import namedtuple\nPoint = namedtuple('Point', 'x y')\n"
         "def train(x): return Point(1, 2)\n"},
        "train", "'x y'", "'y x'", {"train.Point"},
    ),
    "a decorator without functools.wraps": (
        {
            "train": "from deco import twice\n@twice\ndef train(x): return 1\n",
            "deco": "def twice(f):\n    def inner(x): return f(x) + f(x)\n    return inner\n",
        },
        "deco", "f(x) + f(x)", "f(x) * f(x)", {"deco.twice"},
    ),
    "what is decorated without functools.wraps": (
        {
            "train": "from deco import twice\n@twice\ndef train(x): return 1\n",
            "deco": "def twice(f):\n    def inner(x): return f(x) + f(x)\n    return inner\n",
        },
        "train", "return 1", "return 2", {"train.train"},
    ),
    "a global that another function assigns": (
        {"train": "STATE = 1\ndef grow():\n    global STATE\n    STATE = STATE * 2\ngrow()\n"
         "def train(x): return STATE\n"},
        "train", "STATE * 2", "STATE * 3", {"train.grow"},
    ),
    "a default of keywords": (
        {"train": "LIMIT = 1\ndef train(x, *, limit=LIMIT): return x\n"},
        "train", "LIMIT = 1", "LIMIT = 2", {"train.LIMIT"},
    ),
    "a function in a default": (
        {"train": "def f(x): return 1\ndef train(x, by={'f': [f]}): return x\n"},
        "train", "return 1", "return 2", {"train.f"},
    ),
    "a constant in an exception's place": (
        {"train": "class Own(Exception):\n    code = 1\n"
         "def train(x):\n    try:\n        return x\n    except Own as e:\n        return e.code\n"},
        "train", "code = 1", "code = 2", {"train.Own"},
    ),
    "a class pattern": (
        {"train": "class Own:\n    code = 1\n"
         "def train(x):\n    match x:\n        case Own(code=c):\n            return c\n"},
        "train", "code = 1", "code = 2", {"train.Own"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ONE_OF_A_KIND)
def test_what_is_reached_in_other_ways_counts(kind: str) -> None:
    texts, module, old, new, names = ONE_OF_A_KIND[kind]
    before, after = fingerprint(texts), fingerprint(edited(texts, module, old, new))
    assert before.digest != after.digest
    assert changed(before, after) == names


PLUGIN = "from lib.registry import register\n@register\ndef m1(x): return x + 1\n"
PLUGINS: dict[str, str | None] = {
    "train": "from lib.registry import R\nimport lib.models\ndef train(x): return R['m1'](x)\n",
    "lib.registry": "R = {}\ndef register(f):\n    R[f.__name__] = f\n    return f\n",
    "lib.models.m1": PLUGIN,
    "lib.models.m2": "",
}


@pytest.mark.parametrize(
    "form",
    [
        "from . import m1",
        "from . import m2, m1",
        "from . import m1 as mm",
        "from .. import models\nfrom ..models import m1",
        "from lib.models import m1",
        "import lib.models.m1",
        "from .m1 import *",
        "import importlib\nimportlib.import_module('lib.models.m1')",
        "def load():\n    from . import m1\nload()",
    ],
)
def test_modules_that_a_package_imports_count(form: str) -> None:
    texts = {**PLUGINS, "lib.models.__init__": f"{form}\n"}
    before, after = fingerprint(texts), fingerprint(edited(texts, "lib.models.m1", "x + 1", "x + 2"))
    assert before.digest != after.digest
    assert changed(before, after) == {"lib.models.m1.m1"}
    assert not before.unfollowed


@pytest.mark.parametrize("is_called", [False, True])
def test_modules_that_a_package_imports_by_computed_names_are_told(is_called: bool) -> None:
    text = "import importlib, pkgutil\nfor m in pkgutil.iter_modules(__path__):\n"
    body = "importlib.import_module(f'{__name__}.{m.name}')\n"
    if is_called:
        text = f"import importlib, pkgutil\ndef load(m):\n    {body}for m in pkgutil.iter_modules(__path__):\n"
        body = "load(m)\n"
    code = fingerprint({**PLUGINS, "lib.models.__init__": f"{text}    {body}"})
    assert code.unfollowed == ("import_module in lib.models (line 3)",)


# --- what does not count ---------------------------------------------------------------------------------------------
def test_a_module_may_be_renamed(whole: CodeOf) -> None:
    after = fingerprint({("fit" if name == "train" else name): text for name, text in PROJECT.items()}, module="fit")
    assert after.digest == whole.digest
    assert {part.name for part in after.parts} >= {"fit.train", "text.clean.strip"}


MOVES: dict[str, tuple[dict[str, str | None], dict[str, str | None]]] = {
    "a helper to another module": (
        {"train": "from a import f\ndef train(x): return f(x)\n", "a": "def f(x): return 1\n"},
        {"train": "from b.c import f\ndef train(x): return f(x)\n", "b.c": "def f(x): return 1\n"},
    ),
    "a helper into the module": (
        {"train": "from a import f\ndef train(x): return f(x)\n", "a": "def f(x): return 1\n"},
        {"train": "def f(x): return 1\ndef train(x): return f(x)\n"},
    ),
    "a module behind an alias": (
        {"train": "import a as m\ndef train(x): return m.f(x)\n", "a": "def f(x): return 1\n"},
        {"train": "from b import c as m\ndef train(x): return m.f(x)\n", "b.c": "def f(x): return 1\n"},
    ),
    "an import within a function": (
        {"train": "def train(x):\n    from a import f\n    return f(x)\n", "a": "def f(x): return 1\n"},
        {"train": "def train(x):\n    from b import f\n    return f(x)\n", "b": "def f(x): return 1\n"},
    ),
    "a conditional import": (
        {"train": "try:\n    from a import f\nexcept ImportError:\n    f = None\ndef train(x): return f(x)\n",
         "a": "def f(x): return 1\n"},
        {"train": "try:\n    from b import f\nexcept ImportError:\n    f = None\ndef train(x): return f(x)\n",
         "b": "def f(x): return 1\n"},
    ),
    "a helper behind a re-export": (
        {"train": "from a import f\ndef train(x): return f(x)\n", "a": "def f(x): return 1\n"},
        {"train": "from a import f\ndef train(x): return f(x)\n", "a.__init__": "from .b import f\n",
         "a.b": "def f(x): return 1\n"},
    ),
    "functions within a file": (
        {"train": "def train(x): return f(x) + g(x)\ndef f(x): return 1\ndef g(x): return f(x)\nA = 1\n"},
        {"train": "A = 1\ndef g(x): return f(x)\ndef f(x): return 1\ndef train(x): return f(x) + g(x)\n"},
    ),
    "functions of a module that counts whole": (
        {"train": "import a\ndef train(x): return vars(a)\n",
         "a": "import re\nimport os\ndef f(): pass\ndef g(): pass\n"},
        {"train": "import a\ndef train(x): return vars(a)\n",
         "a": "import os\nimport re\ndef g(): pass\ndef f(): pass\n"},
    ),
    "the modules' order of registration": (
        {"train": "import t, a, b\ndef train(x): return t.T\n", "t": "T = {}\ndef r(f): T[f.__name__] = f\n",
         "a": "from t import r\n@r\ndef f(x): return 1\n", "b": "from t import r\n@r\ndef g(x): return 2\n"},
        {"train": "import t, b, a\ndef train(x): return t.T\n", "t": "T = {}\ndef r(f): T[f.__name__] = f\n",
         "a": "from t import r\n@r\ndef g(x): return 2\n", "b": "from t import r\n@r\ndef f(x): return 1\n"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MOVES)
def test_what_is_moved_is_the_same(kind: str) -> None:
    before, after = MOVES[kind]
    assert fingerprint(before).digest == fingerprint(after).digest


RUNTIME = """
        import collections
        import logging
        import random
        import threading

        LOG = logging.getLogger(__name__)
        CACHE = {}
        LOCK = threading.Lock()
        FILE = open("/dev/null")
        RNG = random.Random(1)
        ROWS = []
        SEEN = collections.Counter()
        CALLS = 0

        def make():
            calls = 0
            held = []

            def count(x):
                nonlocal calls
                calls += 1
                held.append(x)
                return calls
            return count

        counted = make()

        def train(x):
            global CALLS
            CALLS += 1
            CACHE[x] = counted(x)
            SEEN[x] += 1
            ROWS.append(x)
            with LOCK:
                LOG.info("%s", RNG.random())
            FILE.read()
            return x
        """


def test_values_that_change_while_it_runs_do_not_count() -> None:
    texts = {"train": RUNTIME}
    with imported(texts, "train") as (module, project):
        before = [code_of(function, project) for function in (module.train, module.counted)]
        held = [closure_values(function, project) for function in (module.train, module.counted)]
        for x in range(3):
            module.train(x)
        assert [code_of(function, project) for function in (module.train, module.counted)] == before
        assert [closure_values(function, project) for function in (module.train, module.counted)] == held == [{}, {}]
    names = {part.name for part in before[0].parts}
    assert names >= {"train.LOG", "train.CACHE", "train.LOCK", "train.FILE", "train.RNG", "train.CALLS", "train.make"}
    assert not before[0].unfollowed


def test_calls_of_a_stage_in_a_script_do_not_change_what_it_uses() -> None:
    text = """
        import curidask as cf
        import logging
        CACHE = {}
        LOG = logging.getLogger(__name__)
        LOG.info("begun")
        print("begun", CACHE)

        @cf.stage(None, ["x"])
        def train(record):
            CACHE["a"] = 1
            LOG.info("done")

        if __name__ == "__main__":
            train(1)
            CACHE["b"] = 1
        """
    after = text.replace("train(1)", "train(2)").replace('CACHE["b"] = 1', 'CACHE["b"] = 2').replace("begun", "on")
    assert fingerprint({"train": text}).digest == fingerprint({"train": after}).digest


def test_cachers_count_where_they_are_the_project_s() -> None:
    text = "import curidask as cf\nfrom curidask.caching import JsonCacher, PickleCacher\n"
    text += "@cf.stage(None, ['x'], cachers=[JsonCacher])\ndef train(record): return 1\n"
    before, after = (fingerprint({"train": t}) for t in (text, text.replace("=[JsonCacher]", "=[PickleCacher]")))
    assert before.digest == after.digest
    assert [part.name for part in before.parts] == ["train.train"]


# --- factories, classes, other values --------------------------------------------------------------------------------
FACTORY = """
    import curidask as cf
    SCALE = 2

    def make(rate, sizes=(1,), setting=None, by=abs):
        import math
        step = 3
        table = {"a": [step]}
        count = 0

        def helper(x):
            return math.floor(x) * SCALE

        def bump():
            nonlocal count
            count += 1

        @cf.stage(None, ["out"])
        def train(record):
            return helper(rate) + step + len(table) + len(sizes) + count + (setting is None) + by(1)

        @cf.stage(None, ["out"])
        def other(record):
            return 4

        return train

    train = make(0.1)
    slow = make(0.2)
    set_up = make(0.1, setting=object())
    """


def test_a_stage_that_a_function_makes_counts_with_what_it_takes_from_there(whole: CodeOf) -> None:
    texts: dict[str, str | None] = {"train": FACTORY}
    before = fingerprint(texts)
    assert {part.name for part in before.parts} == {
        "train.make.train", "train.make.helper", "train.make.step", "train.make.table", "train.make.count",
        "train.make.math", "train.SCALE",
    }  # fmt: skip
    for old, new, name in [
        ("step = 3", "step = 4", "train.make.step"),
        ('{"a": [step]}', '{"b": [step]}', "train.make.table"),
        ("math.floor(x)", "math.ceil(x)", "train.make.helper"),
        ("SCALE = 2", "SCALE = 3", "train.SCALE"),
        ("helper(rate) +", "helper(rate) -", "train.make.train"),
    ]:
        after = fingerprint(edited(texts, "train", old, new))
        assert changed(before, after) == {name}
        assert after.digest != before.digest
    assert fingerprint(edited(texts, "train", "return 4", "return 5")).digest == before.digest


def test_the_closure_tells_stages_of_one_function_apart() -> None:
    with imported({"train": FACTORY}, "train") as (module, project):
        functions = [stage.__wrapped__ for stage in (module.train, module.slow, module.set_up)]
        codes = [code_of(function, project) for function in functions]
        values = [closure_values(function, project) for function in functions]
    assert len({code.digest for code in codes}) == 1
    assert [sorted(held) for held in values] == [
        ["helper", "rate", "setting", "sizes", "step", "table"],
        ["helper", "rate", "setting", "sizes", "step", "table"],
        ["helper", "rate", "sizes", "step", "table"],
    ]
    assert [held["rate"] for held in values] == [0.1, 0.2, 0.1]
    assert values[0]["sizes"] == (1,)
    assert [code.unfollowed for code in codes] == [
        ("the value of by in train.make.train",),
        ("the value of by in train.make.train",),
        ("the value of by in train.make.train", "the value of setting in train.make.train"),
    ]


VALUES = """
    import functools
    from dataclasses import dataclass

    def plain(x): return x

    by_partial = functools.partial(plain, 1)
    cached = functools.lru_cache(plain)
    small = lambda x: x + 1
    pair = (lambda x: x + 2, lambda x: x + 3)

    class Model:
        def fit(self, x): return self.step(x)
        def step(self, x): return x
        def __call__(self, x): return plain(x)
        @classmethod
        def made(cls): return cls()
        @property
        def size(self): return 1
        @functools.cached_property
        def whole(self): return 2

    model = Model()

    def local():
        class Inner:
            def f(self): return plain(1)
        return Inner

    Inner = local()
    exec("def made(x): return x")
    exec("class Made: pass")
    Point = functools.namedtuple("Point", "x y")
    """


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("plain", {"values.plain"}),
        ("by_partial", {"values.plain"}),
        ("cached", {"values.plain"}),
        ("small", {"values.<lambda>"}),
        ("Model", {"values.Model", "values.plain", "values.functools"}),
        ("Model.fit", {"values.Model", "values.plain", "values.functools"}),
        ("model.fit", {"values.Model", "values.plain", "values.functools"}),
        ("model", {"values.Model", "values.plain", "values.functools"}),
        ("Model.made", {"values.Model", "values.plain", "values.functools"}),
        ("vars(Model)['size']", {"values.Model", "values.plain", "values.functools"}),
        ("vars(Model)['whole']", {"values.Model", "values.plain", "values.functools"}),
        ("Inner", {"values.local.Inner", "values.plain"}),
        ("Point", {"values.Point", "values.functools"}),
        ("len", set()),
        ("functools.reduce", set()),
    ],
)
def test_other_values_than_functions(expression: str, parts: set[str]) -> None:
    with imported({"values": VALUES}, "values") as (m, project):
        code = code_of(eval(expression, vars(m)), project)
    assert {part.name for part in code.parts} == parts
    assert not code.unfollowed


def test_functions_of_packages_count_by_their_names() -> None:
    codes = [code_of(value) for value in (len, functools.reduce, functools.partial(json.dumps, 1), json.JSONDecoder)]
    assert len({code.digest for code in codes}) == 4
    assert not any(code.parts or code.unfollowed for code in codes)


def test_lambdas_on_one_line_are_told_apart() -> None:
    with imported({"values": VALUES}, "values") as (module, project):
        assert len({code_of(function, project).digest for function in (*module.pair, module.small)}) == 3


def test_what_has_no_source_counts_by_its_name_and_is_told() -> None:
    with imported({"values": VALUES}, "values") as (module, project):
        codes = [code_of(value, project) for value in (module.made, module.Made)]
    assert [code.unfollowed for code in codes] == [("made, which has no source",), ("Made, which has no source",)]
    assert len({code.digest for code in codes}) == 2


PARAMS = """
    from dataclasses import dataclass, field
    from typing import ClassVar

    LIMIT = 3

    def total(values): return sum(values)

    class Mixin:
        def shown(self): return str(self.size)

    @dataclass
    class Base:
        size: int = 1
        def doubled(self): return self.size * 2

    @dataclass
    class Params(Base, Mixin):
        '''Parameters.'''
        rate: float = 0.1
        sizes: list[int] = field(default_factory=lambda: [1])
        kind: ClassVar[str] = "a"
        unit = "m"

        @property
        def whole(self): return total(self.sizes) + LIMIT

    @dataclass
    class Plain:
        rate: float = 0.1
    """


def methods(text: str, name: str = "Params") -> CodeOf:
    with imported({"params": text}, "params") as (module, project):
        return methods_of(getattr(module, name), project)


def test_methods_count_and_fields_do_not() -> None:
    before = methods(PARAMS)
    assert [part.name for part in before.parts if part.name.startswith("params.P")] == [
        "params.Params.kind", "params.Params.unit", "params.Params.whole",
    ]  # fmt: skip
    for old, new, name in [
        ("self.sizes) + LIMIT", "self.sizes) - LIMIT", "params.Params.whole"),
        ("LIMIT = 3", "LIMIT = 4", "params.LIMIT"),
        ("sum(values)", "max(values)", "params.total"),
        ("self.size * 2", "self.size * 3", "params.Base.doubled"),
        ("str(self.size)", "repr(self.size)", "params.Mixin.shown"),
        ('unit = "m"', 'unit = "km"', "params.Params.unit"),
        ('kind: ClassVar[str] = "a"', 'kind: ClassVar[str] = "b"', "params.Params.kind"),
    ]:
        after = methods(PARAMS.replace(old, new))
        assert changed(before, after) == {name}
        assert after.digest != before.digest
    for old, new in [
        ("rate: float = 0.1\n        sizes", "rate: float = 0.2\n        sizes"),
        ("lambda: [1]", "lambda: [2]"),
        ("size: int = 1", "size: int = 2\n        more: int = 3"),
        ("class Params(Base, Mixin)", "class Params(Base, Mixin, object)"),
    ]:
        assert old in PARAMS
        assert methods(PARAMS.replace(old, new)).digest == before.digest
    assert methods(PARAMS, "Plain").parts == ()


# --- what cannot be followed, and packages ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return eval('f(x)')", "eval in train.train (line 4)"),
        ("exec('f(x)')", "exec in train.train (line 4)"),
        ("return importlib.import_module(x)", "import_module in train.train (line 4)"),
        ("return __import__(x)", "__import__ in train.train (line 4)"),
        ("return getattr(other, x)(1)", "getattr by a computed name in train.train (line 4)"),
        ("return globals()[x]", "globals in train.train (line 4)"),
        ("import sys\n            return sys.modules[x]", "sys.modules in train.train (line 5)"),
        ("import compiled\n            return compiled.f(x)", "C extension compiled"),
        ("import compiled\n            return compiled", "C extension compiled"),
        ("from compiled import f\n            return f", "C extension compiled"),
        ("return other.Base.__subclasses__()", "__subclasses__ in train.train (line 4)"),
        ("return unbound(x)", "unknown name unbound"),
        ("return other.unbound(x)", "unknown name other.unbound"),
        ("import broken\n            return broken.f", "syntax error in broken"),
        ("return other.f.__doc__", "__doc__ in train.train (line 4)"),
        ("return x.__annotations__", "__annotations__ in train.train (line 4)"),
        ("return __doc__", "__doc__ in train.train (line 4)"),
        ("import subprocess as sp\n            return sp.run(x)", "subprocess.run in train.train"),
        ("import os\n            return os.system(x)", "os.system in train.train"),
        ("import runpy\n            return runpy.run_path(x)", "runpy.run_path in train.train"),
        (
            "from typing import get_type_hints\n            return get_type_hints(x)",
            "typing.get_type_hints in train.train",
        ),
    ],
)
def test_what_cannot_be_followed_is_told(body: str, told: str) -> None:
    text = f"""import importlib
        import other
        def train(x):
            {body}
        """
    texts: dict[str, str | None] = {
        "train": text.replace("\n        ", "\n"), "other": "def f(x): return 1\nclass Base: pass\n",
        "compiled": None, "broken": "def",
    }  # fmt: skip
    code = fingerprint(texts)
    assert code.unfollowed == (told,)
    whole = {"getattr by a": ["other"], "globals in t": ["train", "other"]}.get(told[:12], [])
    assert [part.name for part in code.parts if part.kind == "module"] == whole


@pytest.mark.parametrize(
    "body",
    [
        "return getattr(x, name)",
        "return getattr(other, 'f')(x)",
        "return importlib.import_module('other').f(x)",
        "import numpy as np\n    return getattr(np, name)",
        "def eval(x): return x\n    return eval(x)",
        "return x.eval('a + b')",
        "class Own:\n        size = 1\n        twice = size * 2\n    return Own, __file__",
        "return [y for y in x if (z := y)] + [z]",
    ],
)
def test_what_can_be_followed_is_not_told(body: str) -> None:
    text = f"import importlib\nimport other\nname = 'f'\ndef train(x):\n    {body}\n"
    assert fingerprint({"train": text, "other": "def f(x): return 1\n"}).unfollowed == ()


def test_modules_that_import_all_of_each_other_are_read() -> None:
    texts = {"train": "from a import *\ndef train(x): return f(x), g(x)\n",
             "a": "from b import *\ndef f(x): return 1\n", "b": "from a import *\ndef g(x): return f(x)\n"}  # fmt: skip
    code = fingerprint(texts)
    assert [part.name for part in code.parts] == ["train.train", "a.f", "b.g"]
    assert code.unfollowed == ()


def test_packages_are_those_that_are_reached() -> None:
    code = fingerprint(
        {
            "train": "import json\nimport numpy as np\nimport curidask as cf\nimport helpers\n"
            "@cf.stage(None, ['x'])\ndef train(record):\n    import sklearn.linear_model as lm\n"
            "    return np.mean(json.dumps(helpers.f(lm.x)))\n",
            "helpers": "from click import echo as say\nimport dask.utils\n"
            "def f(x): return say(x)\ndef g(x): return dask.utils.f(x)\n",
        }
    )
    assert code.packages == ("click", "numpy", "sklearn")


# --- cells of a notebook ---------------------------------------------------------------------------------------------
class Cells:
    """A notebook: cells that were run, in this order."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "notebook"}
        self.texts: dict[str, str] = {}

    def run(self, text: str) -> None:
        name = f"<cell {len(self.texts)}>"
        self.texts[name] = text
        exec(compile(text, name, "exec"), self.namespace)

    def code(self, name: str) -> CodeOf:
        return code_of(self.namespace[name], self)

    def module(self, name: str) -> ModuleSource | None:
        return ModuleSource(tuple(self.texts.values()), is_cells=True) if name == "notebook" else None

    def text(self, filename: str) -> str | None:
        return self.texts.get(filename)


STAGE = "import curidask as cf\n@cf.stage(None, ['x'])\ndef train(record):\n    return helper(RATE) + TABLE['a']\n"


@pytest.fixture
def cells() -> Cells:
    made = Cells()
    for text in ("RATE = 1\nTABLE = {}", "TABLE['a'] = 1", "def helper(x):\n    return x", STAGE):
        made.run(text)
    return made


def test_helpers_and_constants_of_other_cells_count(cells: Cells) -> None:
    before = cells.code("train")
    assert {part.name for part in before.parts} == {
        "notebook.train", "notebook.helper", "notebook.RATE", "notebook.TABLE",
    }  # fmt: skip
    for text, name in [
        ("def helper(x):\n    return -x", "helper"),
        ("RATE = 2", "RATE"),
        ("TABLE['b'] = 2", "TABLE"),
        ("RATE += 1", "RATE"),
        (STAGE.replace("+", "-"), "train"),
    ]:
        cells.run(text)
        after = cells.code("train")
        assert changed(before, after) == {f"notebook.{name}"}
        before = after


def test_the_last_cell_that_was_run_counts(cells: Cells) -> None:
    before = cells.code("train")
    for text in ("def helper(x):\n    return -x", "def helper(x):\n    # again\n    return x", "RATE = 2", "RATE = 1"):
        cells.run(text)
    assert cells.code("train").digest == before.digest


@pytest.mark.parametrize(
    "text", [STAGE, "TABLE['a'] = 1", "RATE = 1\nTABLE = {}\nTABLE['a'] = 1", "x = train", "helper(3)", "helper(RATE)",
             "TABLE", "print(TABLE, RATE)", "sorted(TABLE.items())", "len(TABLE)", "def unused(): pass"],
)  # fmt: skip
def test_cells_that_change_nothing_do_not_count(text: str, cells: Cells) -> None:
    before = cells.code("train")
    cells.run(text)
    assert cells.code("train").digest == before.digest


def test_lambdas_closures_and_classes_of_cells_are_found(cells: Cells) -> None:
    cells.run("def make():\n    class Model:\n        def f(self): return helper(1)\n    return Model, lambda x: RATE")
    cells.run("Model, add = make()\nsmall = lambda x: x * RATE")
    names = [{part.name.partition(".")[2] for part in cells.code(name).parts} for name in ("Model", "add", "small")]
    assert names == [{"make.Model", "helper"}, {"make.<lambda>", "RATE"}, {"<lambda>", "RATE"}]


def test_a_cell_that_is_no_python_is_passed_over(cells: Cells) -> None:
    before = cells.code("train")
    cells.texts["<cell x>"] = "%timeit helper("
    assert cells.code("train").digest == before.digest


# --- sources of this process -----------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "") or "").startswith(str(tmp_path)) or name.startswith("fp_"):
            del sys.modules[name]


def write(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_modules_are_found_as_they_were_loaded_or_would_be(folder: Path) -> None:
    write(folder, {
        "fp_train.py": "import numpy as np\nfrom fp_pack.sub import f\n"
        "def train(x):\n    import fp_later.deep as d\n    return f(x) + d.g(np.mean(x))\n",
        "fp_pack/sub.py": "from . import other\ndef f(x): return other.h(x)\n",
        "fp_pack/other.py": "def h(x): return x\n",
        "fp_later/__init__.py": "raise RuntimeError\n",
        "fp_later/deep.py": "from .more import *\nfrom ._compiled import z\ndef g(x): return y(x) + z\n",
        "fp_later/more.py": "def y(x): return x\n",
        f"fp_later/_compiled{EXTENSION_SUFFIXES[0]}": "",
    })  # fmt: skip
    module = importlib.import_module("fp_train")
    code = code_of(module.train)
    assert {part.name for part in code.parts} == {
        "fp_train.train", "fp_pack.sub.f", "fp_pack.other.h", "fp_later.deep.g", "fp_later.more.y", "fp_train.np",
    }  # fmt: skip
    assert code.packages == ("numpy",)
    assert code.unfollowed == ("C extension fp_later._compiled",)
    assert "fp_later" not in sys.modules
    write(folder, {"fp_train.py": "changed", "fp_pack/sub.py": "changed"})
    assert code_of(module.train) == code


def test_whose_files_count_and_how_they_are_read_can_be_told(folder: Path) -> None:
    write(folder, {
        "own/fp_train.py": "from fp_theirs import f\ndef train(x): return f(x)\n",
        "fp_theirs.py": "def f(x): return x\n",
    })  # fmt: skip
    sys.path.insert(0, str(folder / "own"))
    try:
        train = importlib.import_module("fp_train").train
    finally:
        sys.path.remove(str(folder / "own"))
    own = LoadedSources(owns=lambda file: "/own/" in file)
    assert code_of(train, own).packages == ("fp_theirs",)
    assert [part.name for part in code_of(train, own).parts] == ["fp_train.train", "fp_train.f"]
    read = LoadedSources(read=lambda file: Path(file).read_text())
    before = code_of(train, read)
    write(folder, {"fp_theirs.py": "def f(x): return -x\n"})
    assert changed(before, code_of(train, read)) == {"fp_theirs.f"}


def test_a_project_s_module_of_a_name_of_python_s_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    write(folder, {"colorsys.py": "def f(x): return x\n",
                   "fp_train.py": "import colorsys\ndef train(x): return colorsys.f(x)\n"})  # fmt: skip
    code = code_of(importlib.import_module("fp_train").train)
    assert [part.name for part in code.parts] == ["fp_train.train", "colorsys.f"]


SESSION = """
import sys, types
from curidask.core.code.reach import code_of
main = sys.modules["__main__"]
{before}
def run(text, name):
    import linecache
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), vars(main))
texts = ["RATE = 1", "def f(x): return RATE", "def f(x): return -RATE"]
for n, text in enumerate(texts):
    run(text, f"<{{kind}}-{{n}}>".format(kind=kind))
code = code_of(f)
assert [(part.name, part.source) for part in code.parts] == [("f", texts[2] + "\\n"), ("RATE", "RATE = 1\\n")], code
assert not code.unfollowed
"""


@pytest.mark.parametrize(
    "before",
    ["kind = 'ipython-input'\n_ih = ['', 'RATE = 1', 'def f(x): return RATE', 'def f(x): return -RATE']",
     "kind = 'python-input'\nvars(main).pop('__file__', None)"],
    ids=["notebook", "session"],
)  # fmt: skip
def test_the_cells_of_this_process_are_read(before: str) -> None:
    subprocess.run([sys.executable, "-c", SESSION.format(before=before)], check=True, cwd=ROOT)


def test_a_script_is_read(tmp_path: Path) -> None:
    write(tmp_path, {
        "script.py": "from curidask.core.code.reach import code_of\nRATE = 1\ndef f(x): return RATE\n"
        "print(*(part.name for part in code_of(f).parts))\n",
    })  # fmt: skip
    told = subprocess.run([sys.executable, "script.py"], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert told.stdout.split() == ["f", "RATE"]


# --- the same everywhere ---------------------------------------------------------------------------------------------
GOLDEN = ROOT / "tests" / "code_digests.json"


def golden() -> dict[str, str]:
    """The digests of all projects here; as a script, this module prints them."""
    kinds = {kind: fingerprint(texts).digest for kind, (texts, *_) in ONE_OF_A_KIND.items()}
    return {"whole": fingerprint(PROJECT).digest, "factory": fingerprint({"train": FACTORY}).digest,
            "parameters": methods(PARAMS).digest, "syntax": fingerprint({"train": SYNTAX}).digest} | kinds  # fmt: skip


SYNTAX = '''
    import asyncio
    from contextlib import suppress

    LIMITS: dict[str, float] = {"a": 1_000, "b": -1.5e300, "c": 1e999, "d": 2j, "e": b"\\x00", "f": ...}
    TEXTS = "\\ud800é", LIMITS

    async def rows(x, /, *rest: int, named: bool = True, **others):
        async with x as (a, *b), suppress(OSError):
            async for row in x:
                yield [row async for row in x if row if not a]
        await asyncio.sleep(0.1)

    def train(x, *, y=lambda a, *b, c=1, **d: (a, b)):
        """Doc \\\\ string."""
        try:
            while x:
                x -= 1
                if x > 3 and not x % 2 or x < -1:
                    continue
                elif x is None:
                    break
                else:
                    pass
            else:
                x = [*x, 1][1:2:3]
        except* (ValueError, OSError) as error:
            raise RuntimeError from error
        finally:
            del x
        assert x, f"{x!r:>{x}} {x=} and {x + 1:.2f} {{}}" " more" rf"\\d{x}"
        print(f"{x:%H:%M}" f"", "a" "b", {**x, "a": 1}, {1, 2}, x[..., 1:, ::2], x @ x, ~x, x if x else not x)
        match x:
            case [1, *others] | {"a": [others]}:
                return others
            case {"b": 1, **rest}:
                return rest
            case LIMITS.a | -1 | None | "a" "b":
                return (yield)
            case float(real=r) as whole if r > 0:
                return whole
            case _:
                return {a: b for a, b in x for c in a}
        nonlocal_ = 1
        def inner():
            nonlocal nonlocal_
            nonlocal_ = yield from rows(x)
        with (open(x) as f, open(x) as g):
            return (walrus := x), inner, f, g, walrus, TEXTS
    '''


def test_digests_are_those_that_were_kept() -> None:
    # Other digests are other keys: each cache of each user would be computed anew. Where that is meant, the changelog
    # says so, and `python -m tests.test_code_fingerprint > tests/code_digests.json` keeps the new ones.
    assert golden() == json.loads(GOLDEN.read_text())


def test_other_hash_seeds_and_folders_give_the_same_digests(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    asked = []
    for seed in ("1", "2"):
        folder = tmp_path / f"place {seed}"
        write(folder, {f"{name.replace('.', '/')}.py": dedent(text or "") for name, text in PROJECT.items()})
        program = "import sys; sys.path.insert(0, '.'); import train; from curidask.core.code.reach import code_of; "
        program += "print(code_of(train.train).digest)"
        asked.append(subprocess.Popen(
            [sys.executable, "-c", program], cwd=folder, stdout=subprocess.PIPE, text=True,
            env={**environment, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        ))  # fmt: skip
    expected = json.loads(GOLDEN.read_text())["whole"]
    assert [process.communicate(timeout=100)[0].strip() for process in asked] == [expected] * 2


# --- any layout ------------------------------------------------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_module_that_is_laid_out_anew_is_the_same(data: st.DataObject) -> None:
    texts = dict(PROJECT)
    for name in data.draw(st.sets(st.sampled_from(["train", "text.clean", "text.words", "geometry", "deco"]))):
        tree = ast.parse(dedent(texts[name] or ""))
        order = data.draw(st.permutations(range(len(tree.body)))) if name in ("text.words", "deco") else None
        if order is not None:
            tree.body = [tree.body[place] for place in order]
        lines = ast.unparse(tree).splitlines()
        for place in sorted(data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=9)), reverse=True):
            lines.insert(place, data.draw(st.sampled_from(["", "# note", "   # note", "\t"])))
        texts[name] = "\n".join(lines) + data.draw(st.sampled_from(["", "\n", "\n\n# end"]))
    assert fingerprint(texts).digest == json.loads(GOLDEN.read_text())["whole"]


def test_windows_line_ends_are_the_same(whole: CodeOf) -> None:
    texts = {name: dedent(text or "").replace("\n", "\r\n") for name, text in PROJECT.items()}
    assert fingerprint(texts).digest == whole.digest


def test_code_that_is_nested_deeply_is_read() -> None:
    chain = "x" + ".a()" * 400
    cases = "".join(f"    elif x == {n}:\n        return {n}\n" for n in range(300))
    other = f"if x == 0:\n        return f(x)\n{cases}"
    text = f"def f(x): return {chain}\ndef train(x):\n    {other}"
    before, after = (fingerprint({"train": t}) for t in (text, text.replace(".a()\n", ".b()\n")))
    assert changed(before, after) == {"train.f"}


if __name__ == "__main__":
    print(json.dumps(golden(), indent=1))


# --- names that several statements bind -------------------------------------------------------------------------------
CONTESTED = {
    "an import and a constant": ("K = 11\n", "from h import K\n", "K"),
    "an import and a function": ("def K(): return 1\n", "from h import K\n", "K"),
    "two imports": ("from h import K\n", "from i import K\n", "K"),
    "two functions": ("from h import f as K\n", "from i import f as K\n", "K()"),
    "two modules": ("import h as m\n", "import i as m\n", "m.K"),
    "two packages": ("from math import floor\n", "from numpy import floor\n", "floor(1)"),
}


@pytest.mark.parametrize("kind", CONTESTED)
def test_the_last_of_several_statements_that_bind_a_name_counts(kind: str) -> None:
    one, other, used = CONTESTED[kind]
    texts = {"h": "K = 33\ndef f(): return 33\n", "i": "K = 44\ndef f(): return 44\n"}
    stage = f"def train():\n    return {used}\n"
    codes = [fingerprint({**texts, "train": before + after + stage}) for before, after in ((one, other), (other, one))]
    assert codes[0].digest != codes[1].digest
    again = fingerprint({**texts, "train": f"import json\n{one}\n\n{other}{stage}"})
    assert again.digest == codes[0].digest


ALIASED = {
    "another name": "T = {}\nU = T\nU['a'] = 11\n",
    "another name of a list": "T = []\nU = T\nU.append(11)\n",
    "a loop over several": "T = []\nV = []\nfor t in (T, V):\n    t.append(11)\n",
    "a method": "T = []\nadd = T.append\nadd(11)\n",
    "a part": "T = {'a': []}\nx = T['a']\nx.append(11)\n",
    "a view": "import numpy as np\nT = np.zeros(2)\nV = T[:1]\nV[0] = 11\n",
    "the values": "class C: pass\nT = {'a': C()}\nfor v in T.values():\n    v.x = 11\n",
    "what it gave": "T = {}\nx = T.setdefault('a', [])\nx.append(11)\n",
    "another name of another": "T = []\nU = T\nV = U\nV.append(11)\n",
}


@pytest.mark.parametrize("kind", ALIASED)
def test_what_changes_a_table_under_another_name_counts(kind: str) -> None:
    text = ALIASED[kind] + "OTHER = []\nelsewhere = OTHER\nelsewhere.append(5)\ndef train():\n    return T\n"
    before = fingerprint({"train": text})
    assert fingerprint({"train": text.replace("11", "22")}).digest != before.digest
    assert fingerprint({"train": text.replace("append(5)", "append(6)")}).digest == before.digest
