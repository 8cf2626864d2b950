"""Code counts: edits of each kind make what they decide anew, through the command, in this process and on workers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from textwrap import dedent

import pytest

import curidask as cf
from curidask.errors import StageDefinitionError
from tests.conftest import Project, clean_environment
from tests.s3server import S3Server

KINDS: dict[str, tuple[str, str, str, str]] = {
    "body": ("def f(): return 1", "m.f()", "return 1", "return 2"),
    "constant": ("K = 1\ndef f(): return K", "m.f()", "K = 1", "K = 2"),
    "constant_here": ("K = 1", "m.K", "K = 1", "K = 2"),
    "default": ("def f(x=1): return x", "m.f()", "x=1", "x=2"),
    "keyword_default": ("def f(*, x=1): return x", "m.f()", "x=1", "x=2"),
    "helper_of_helper": ("def g(): return 1\ndef f(): return g()", "m.f()", "return 1", "return 2"),
    "nested_function": ("def f():\n    def g(): return 1\n    return g()", "m.f()", "return 1", "return 2"),
    "lambda_in_table": ("T = {'a': lambda: 1}\ndef f(): return T['a']()", "m.f()", "lambda: 1", "lambda: 2"),
    "function_in_table": ("def g(): return 1\nT = [g]\ndef f(): return T[0]()", "m.f()", "return 1", "return 2"),
    "table_filled_later": ("T = {}\nT['a'] = 1\ndef f(): return T['a']", "m.f()", "= 1", "= 2"),
    "table_updated": ("T = {}\nT.update(a=1)\ndef f(): return T['a']", "m.f()", "a=1", "a=2"),
    "augmented": ("K = 1\nK += 1\ndef f(): return K", "m.f()", "+= 1", "+= 2"),
    "unpacked": ("A, (B, C) = 1, (2, 3)\ndef f(): return C", "m.f()", "(2, 3)", "(2, 4)"),
    "conditional": (
        "import sys\nif sys.version_info > (3,):\n    K = 1\nelse:\n    K = 0\ndef f(): return K",
        "m.f()",
        "K = 1",
        "K = 2",
    ),
    "tried": ("try:\n    K = 1\nexcept ValueError:\n    K = 0\ndef f(): return K", "m.f()", "K = 1", "K = 2"),
    "looped": ("T = []\nfor i in range(1):\n    T.append(i)\ndef f(): return T", "m.f()", "range(1)", "range(2)"),
    "method": ("class A:\n    def g(self): return 1\ndef f(): return A().g()", "m.f()", "return 1", "return 2"),
    "class_here": ("class A:\n    def g(self): return 1", "m.A().g()", "return 1", "return 2"),
    "class_attribute": ("class A:\n    k = 1\ndef f(): return A.k", "m.f()", "k = 1", "k = 2"),
    "base_class": (
        "class B:\n    def g(self): return 1\nclass A(B): pass\ndef f(): return A().g()",
        "m.f()",
        "return 1",
        "return 2",
    ),
    "metaclass": (
        "class M(type):\n    k = 1\nclass A(metaclass=M): pass\ndef f(): return A.k",
        "m.f()",
        "k = 1",
        "k = 2",
    ),
    "property": (
        "class A:\n    @property\n    def g(self): return 1\ndef f(): return A().g",
        "m.f()",
        "return 1",
        "return 2",
    ),
    "static": (
        "class A:\n    @staticmethod\n    def g(): return 1\ndef f(): return A.g()",
        "m.f()",
        "return 1",
        "return 2",
    ),
    "dataclass_default": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\ndef f(): return A().x",
        "m.f()",
        "= 1",
        "= 2",
    ),
    "dataclass_order": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n    y: int\ndef f(): return A(1, 2).x",
        "m.f()",
        "    x: int\n    y: int",
        "    y: int\n    x: int",
    ),
    "enum": ("import enum\nclass E(enum.Enum):\n    A = 1\ndef f(): return E.A.value", "m.f()", "A = 1", "A = 2"),
    "named_tuple": (
        "from collections import namedtuple\nN = namedtuple('N', 'x y')\ndef f(): return N(1, 2).x",
        "m.f()",
        "'x y'",
        "'y x'",
    ),
    "decorator": ("def d(g):\n    return lambda: g() + 1\n@d\ndef f(): return 1", "m.f()", "g() + 1", "g() + 2"),
    "decorator_argument": (
        "def d(n):\n    return lambda g: lambda: g() + n\n@d(1)\ndef f(): return 1",
        "m.f()",
        "@d(1)",
        "@d(2)",
    ),
    "partial": ("import functools\ndef g(x): return x\nf = functools.partial(g, 1)", "m.f()", "g, 1", "g, 2"),
    "partial_function": (
        "import functools\ndef g(x): return x + 1\nf = functools.partial(g, 1)",
        "m.f()",
        "x + 1",
        "x + 2",
    ),
    "alias": ("def g(): return 1\nf = g", "m.f()", "return 1", "return 2"),
    "closure_made": ("def make(n):\n    return lambda: n\nf = make(1)", "m.f()", "make(1)", "make(2)"),
    "closure_maker": ("def make(n):\n    return lambda: n + 1\nf = make(1)", "m.f()", "n + 1", "n + 2"),
    "passed": ("def g(): return 1\ndef h(x): return x()\ndef f(): return h(g)", "m.f()", "return 1", "return 2"),
    "default_function": ("def g(): return 1\ndef f(h=g): return h()", "m.f()", "return 1", "return 2"),
    "comprehension": ("def g(x): return x + 1\ndef f(): return [g(x) for x in (1, 2)]", "m.f()", "x + 1", "x + 2"),
    "generator": ("def g(): yield 1\ndef f(): return list(g())", "m.f()", "yield 1", "yield 2"),
    "f_string": ("def g(): return 1\ndef f(): return f'{g()}'", "m.f()", "return 1", "return 2"),
    "match": (
        "def f(x=1):\n    match x:\n        case 1: return 'one'\n        case _: return 'other'",
        "m.f()",
        "case 1",
        "case 3",
    ),
    "recursion": ("def f(n=3): return 1 if n < 1 else n * f(n - 1)", "m.f()", "return 1", "return 2"),
    "import_in_function": ("def f():\n    import k_other as o\n    return o.K", "m.f()", "o.K", "o.L"),
    "import_conditional": (
        "try:\n    import k_other as o\nexcept ImportError:\n    o = None\ndef f(): return o.K",
        "m.f()",
        "o.K",
        "o.L",
    ),
    "from_import": ("from k_other import K\ndef f(): return K", "m.f()", "import K", "import L as K"),
    "star_import": ("from k_other import *\ndef f(): return K", "m.f()", "return K", "return L"),
    "attribute_chain": ("import package.inner\ndef f(): return package.inner.K", "m.f()", "inner.K", "inner.L"),
    "module_function": ("import package.inner as i\ndef f(): return i.g()", "m.f()", "i.g()", "i.h()"),
    "augmented_in_function": (
        "K = 0\ndef g():\n    global K\n    K = 1\ndef f():\n    g()\n    return K",
        "m.f()",
        "K = 1",
        "K = 2",
    ),
    "string": ("K = 'a'\ndef f(): return K", "m.f()", "'a'", "'b'"),
    "operator": ("def f(): return 3 + 2", "m.f()", "3 + 2", "3 - 2"),
    "getattr": ("class A:\n    k = 1\ndef f(): return getattr(A, 'k')", "m.f()", "k = 1", "k = 2"),
}
"""Text of a module, what the stage computes with it, and an edit."""

NAMED = {
    "function f": (
        "body default keyword_default nested_function decorator_argument match recursion "
        "import_in_function import_conditional star_import attribute_chain module_function operator"
    ),
    "constant K": "constant constant_here augmented conditional tried string",
    "function g": (
        "helper_of_helper function_in_table partial_function alias passed default_function comprehension "
        "generator f_string augmented_in_function"
    ),
    "constant T": "lambda_in_table table_filled_later table_updated looped",
    "constant C": "unpacked",
    "class A": "method class_here class_attribute property static dataclass_default dataclass_order getattr",
    "class B": "base_class",
    "class M": "metaclass",
    "class E": "enum",
    "constant N": "named_tuple",
    "function d": "decorator",
    "constant f": "partial closure_made",
    "function make": "closure_maker",
}
"""The definition that `curidask explain` names for an edit, by kind."""

ELSEWHERE = {
    "k_other.py": ("K = 1\nL = 2\n", "", ""),
    "package/__init__.py": ("", "", ""),
    "package/inner.py": ("K = 1\nL = 2\ndef g(): return 1\ndef h(): return 2\n", "", ""),
}

COSMETIC = (
    lambda text: f'"""What this module is for."""\n{text}',
    lambda text: f"# a comment\n\n\n{text}\n\n# another\n",
    lambda text: text.replace("    ", "        "),
    lambda text: text + "\n\nUNUSED = 5\n\n\ndef unused():\n    return UNUSED\n",
    lambda text: text.replace("'", '"'),
    lambda text: text.replace("(): return", "() -> object: return"),
    lambda text: "from __future__ import annotations\n" + text,
    lambda text: "import json, os\n" + text,
)

HEAD = """
import curidask as cf
from curidask.caching import JsonCacher
"""

STAGE = """
import k_{name}

@cf.stage(None, ["{name}"], [JsonCacher])
def s_{name}(record):
    with open("ran", "a") as file:
        file.write("{name}\\n")
    return {expression}
"""

RUN = """
def get_params():
    return [cf.ExperimentParameters("a")]

def run(param_sets, manager):
    record = cf.Record(manager, param_sets[0])
    for stage in ({stages}):
        stage(record)
    if not manager.map_mode:
        print(dict(record.state))
"""


def write(project: Project, modules: dict[str, str]) -> None:
    for name, text in modules.items():
        project.write(f"k_{name}.py", text + "\n")
    for path, (text, _, _) in ELSEWHERE.items():
        project.write(path, text)
    stages = [STAGE.format(name=name, expression=KINDS[name][1].replace("m.", f"k_{name}.", 1)) for name in KINDS]
    stages.append(RUN.format(stages=", ".join(f"s_{name}" for name in KINDS)))
    project.write("experiments/e.py", HEAD + "".join(stages))


def ran(project: Project, *arguments: str) -> tuple[set[str], dict[str, object]]:
    """The stages that a run computed, and all values."""
    (project.root / "ran").write_text("")
    done = project.experiment("e", *arguments, "--no-report")
    assert done.returncode == 0, done.stderr
    computed = (project.root / "ran").read_text().split()
    assert len(computed) == len(set(computed))
    return set(computed), eval(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("workers", ["0", "2"])
def test_each_kind_of_edit_is_noticed_and_what_does_not_matter_is_not(project: Project, workers: str) -> None:
    before = {name: text for name, (text, *_) in KINDS.items()}
    after = {name: text.replace(old, new) for name, (text, _, old, new) in KINDS.items()}
    assert [name for name in KINDS if before[name] == after[name]] == []
    write(project, before)
    computed, first = ran(project, "--parallel", workers)
    assert computed == set(KINDS)
    write(project, {name: COSMETIC[i % len(COSMETIC)](text) for i, (name, text) in enumerate(before.items())})
    assert ran(project, "--parallel", workers) == (set(), first)
    write(project, after)
    if workers == "0":
        check_explained(project.command("curidask", "explain", "e").stdout)
    computed, second = ran(project, "--parallel", workers)
    assert set(KINDS) - computed == set()
    assert [name for name in KINDS if first[name] == second[name]] == []
    write(project, before)
    assert ran(project, "--parallel", "2" if workers == "0" else "0") == (set(), first)


def check_explained(told: str) -> None:
    """Each edit is named, and what nobody has edited is not."""
    of_stage = re.split(r"^s_(\w+): 1 to run$", told, flags=re.MULTILINE)
    causes = {
        name: re.findall(r"^  (\w+ [\w.]+) (changed|is used now|is not used now): a$", text, flags=re.MULTILINE)
        for name, text in zip(of_stage[1::2], of_stage[2::2], strict=True)
    }
    assert causes.keys() == KINDS.keys()
    for what, names in NAMED.items():
        kind, definition = what.split()
        for name in names.split():
            changed = [cause for cause, how in causes.pop(name) if how == "changed"]
            assert changed == [f"{kind} k_{name}.{definition}"], name
    assert causes == {"from_import": [("constant k_other.L", "is used now"), ("constant k_other.K", "is not used now")]}


LATER = """
import curidask as cf
from curidask.caching import JsonCacher
from dataclasses import dataclass
import words

@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1

    def twice(self):
        return self.x * 2

@cf.stage(None, ["a"], [JsonCacher]{options})
def first(record):
    with open("ran", "a") as file:
        file.write("first ")
    return words.count(record.params.twice())

@cf.stage(["a"], ["b"], [JsonCacher])
def second(record, a):
    with open("ran", "a") as file:
        file.write("second ")
    return a + 1

def get_params():
    return [Params("p")]

def run(param_sets, manager):
    print(second(first(cf.Record(manager, param_sets[0]))).state["b"])
"""


def value(project: Project, options: str, words: str = "def count(x): return x + 1\n", **env: str) -> tuple[str, str]:
    """The value of the experiment after an edit, and the stages that ran."""
    project.write("experiments/later.py", dedent(LATER).replace("{options}", options))
    project.write("words.py", words)
    (project.root / "ran").write_text("")
    done = project.experiment("later", "--parallel", "0", "--no-report", env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), (project.root / "ran").read_text().strip()


OTHER = "def count(x): return x + 100\n"


def test_what_a_stage_says_of_its_code(project: Project) -> None:
    project.write("words.txt", "a b")
    assert value(project, "") == ("4", "first second")
    assert value(project, ", retries=1, timeout_seconds=50, priority=2") == ("4", "")
    assert value(project, "", OTHER) == ("103", "first second")
    # `second` is taken over, since it was made of this value before.
    assert value(project, ', version="1"') == ("4", "first")
    assert value(project, ', version="1"', OTHER) == ("4", "")
    assert value(project, ", version=2", OTHER) == ("103", "first")
    assert value(project, ', code="ignore"') == ("4", "first")
    assert value(project, ', code="ignore"', OTHER) == ("4", "")
    done = project.experiment("later", "--parallel", "0", "--no-report")
    assert "was edited" not in done.stderr
    assert value(project, ', code="warn"') == ("4", "")
    assert value(project, ', code="warn"', OTHER) == ("4", "")
    done = project.experiment("later", "--parallel", "0", "--no-report", "--overwrite-stage", "first")
    assert done.stdout.strip() == "103"
    assert "was edited" not in project.experiment("later", "--parallel", "0", "--no-report").stderr
    project.write("words.py", "def count(x): return x + 7\n")
    done = project.experiment("later", "--parallel", "0", "--no-report", "--no-dag")
    assert "the code of the stage 'first' was edited since 1 result of it were made" in done.stderr
    assert value(project, ', code="ignore"', OTHER) == ("103", "")
    assert value(project, "", OTHER, CURIDASK_CODE="ignore") == ("103", "second")  # which counted until now
    assert value(project, "", OTHER, CURIDASK_CODE="ignore") == ("103", "")
    assert value(project, ', code="track"', OTHER, CURIDASK_CODE="ignore")[0] == "103"
    extra = ', extra_code=["words.txt", words.count]'
    assert value(project, extra) == ("4", "first")
    assert value(project, extra) == ("4", "")
    project.write("words.txt", "a b c")
    assert value(project, extra) == ("4", "first")


def test_code_that_cannot_be_read_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr("curidask.session.stage_code.code_of", fails)
    stage = cf.stage(None, ["x"])(lambda record: 1)
    with (
        cf.ArtifactManager("unread", cache=project.root / "cache") as manager,
        pytest.raises(StageDefinitionError, match=r"(?s)could not be read \(ZeroDivisionError: of ours\).*version"),
    ):
        stage(cf.Record(manager, None))


def test_outputs_in_another_order_are_others(project: Project) -> None:
    text = LATER.replace("{options}", "").replace('["a"], [JsonCacher])', '["a", "c"], [JsonCacher] * 2)')
    text = text.replace("return words.count(record.params.twice())", "return 1, 2")
    project.write("words.py", OTHER)
    for outputs, value in (('["a", "c"]', "2"), ('["c", "a"]', "3"), ('["a", "c"]', "2")):
        project.write("experiments/later.py", text.replace('["a", "c"]', outputs))
        assert project.experiment("later", "--parallel", "0", "--no-report").stdout.strip() == value


def test_methods_of_the_parameters_count(project: Project) -> None:
    assert value(project, "") == ("4", "first second")
    text = LATER.replace("self.x * 2", "self.x * 3")
    project.write("experiments/later.py", text.replace("{options}", ""))
    assert project.experiment("later", "--parallel", "0", "--no-report").stdout.strip() == "5"


def test_of_what_is_in_parameters_only_what_is_used_counts(project: Project) -> None:
    text = """
        from dataclasses import dataclass
        import curidask as cf
        from curidask.caching import JsonCacher

        @dataclass
        class A:
            k: int = 1
            def get(self):
                return self.k

        @dataclass
        class B(A):
            def get(self):
                return -self.k

        @dataclass
        class Params(cf.ExperimentParameters):
            model: object = None
            n: int = 1

        @cf.stage(None, ["size"], [JsonCacher], params=["n"])
        def size(record):
            return record.params.n

        @cf.stage(["size"], ["got"], [JsonCacher], params=["model"])
        def got(record, size):
            return record.params.model.get() * size

        @cf.aggregate(["size"], ["all"], [JsonCacher])
        def everything(record, records, size):
            return [r.params.model.get() for r in records]

        def get_params():
            return [Params("a", model=A()), Params("b", model=B())]

        def run(param_sets, manager):
            records = [got(size(cf.Record(manager, params))) for params in param_sets]
            everything(cf.Record(manager, None), records)
        """
    project.write("experiments/parts.py", text)
    assert project.experiment("parts", "--parallel", "0", "--no-report").returncode == 0
    assert [t["stage"] for t in project.last_run()["tasks"]].count("size") == 1
    project.write("experiments/parts.py", text.replace("return -self.k", "return -2 * self.k"))
    assert project.experiment("parts", "--parallel", "0", "--no-report").returncode == 0
    ran = [(t["stage"], t["set"]) for t in project.last_run()["tasks"] if t["status"] == "done"]
    assert sorted(ran) == [("everything", "None"), ("got", "b")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (', code="trak"', "`code` is 'trak'"),
        (", extra_code=[1]", "`extra_code` holds"),
        (', extra_code=["none.txt"]', "cannot be read"),
        (', extra_code="none.txt"', "not a list"),
    ],
)
def test_mistakes_are_told(project: Project, options: str, said: str) -> None:
    project.write("experiments/later.py", LATER.replace("{options}", options))
    project.write("words.py", OTHER)
    done = project.experiment("later", "--parallel", "0")
    assert said in done.stderr
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


BY_THINGS = {
    "method": "t.Plain(1)",
    "inherited": "t.Heir(1)",
    "in a list": "t.Listed([t.Plain(1)])",
    "partial": "t.Called(functools.partial(t.shifted, 1))",
    "bound method": "t.Called(t.Plain(1).get)",
    "class behind": "t.Called(t.Fields().get)",
    "class": "t.Made(t.HeirOfFields)",
    "local class": "t.made(1)()",
}
BY_TEN = {
    "helper of a method": "t.Calling(1)",
    "function": "t.Called(t.function)",
    "through a module": "t.Called(t.through)",
    "member of an enum": "t.Kind.A",
}
"""Objects that a stage is given, by what decides what they do."""

THINGS = """
import enum, functools, dataclasses
from dataclasses import dataclass
import ten

class Plain:
    def __init__(self, n): self.n = n
    def get(self): return self.n + 10

class Heir(Plain): pass

class Calling:
    def __init__(self, n): self.n = n
    def get(self): return self.n + ten.TEN

class Listed:
    def __init__(self, all): self.all = all
    def get(self): return self.all[0].get()

class Called:
    def __init__(self, f): self.f = f
    def get(self): return self.f()

def function(): return ten.TEN

def through(): return ten.function()

def shifted(x): return x + 10

@dataclass
class Fields:
    x: int = 10
    def get(self): return Fields().x

@dataclass
class HeirOfFields(Fields): pass

class Made:
    def __init__(self, cls): self.cls = cls
    def get(self): return self.cls().x

class Kind(enum.Enum):
    A = 1
    def get(self): return ten.TEN

def made(n):
    class Local:
        def get(self): return n + 10
    return Local
"""

GIVEN_RUN = """
import functools
from dataclasses import dataclass
from typing import Any
import curidask as cf
from curidask.caching import JsonCacher
import things as t

@dataclass
class Params(cf.ExperimentParameters):
    held: Any = None

@cf.stage(None, ["o"], [JsonCacher])
def by_params(record):
    print("ran", record.name, flush=True)
    return record.params.held.get()

@cf.stage(None, ["o"], [JsonCacher])
def by_argument(record, held):
    print("ran", record.name, flush=True)
    return held.get()

@cf.stage(["held"], ["o"], [JsonCacher])
def by_state(record, held):
    print("ran", record.name, flush=True)
    return held.get()

def get_params():
    return [{sets}]

def run(param_sets, manager):
    for params in param_sets:
        records = [by_params(cf.Record(manager, params))]
        records += [by_argument(cf.Record(manager, cf.ExperimentParameters(params.name)), params.held)]
        record = cf.Record(manager, cf.ExperimentParameters(params.name))
        record.state["held"] = params.held
        records.append(by_state(record))
        print("values", params.name, [record.state["o"] for record in records])
"""


def test_the_code_of_values_counts_for_the_stages_that_get_them(project: Project) -> None:
    sets = [f"Params({name!r}, {held})" for name, held in {**BY_THINGS, **BY_TEN}.items()]
    project.write("experiments/e.py", GIVEN_RUN.replace("{sets}", ", ".join(sets)))
    project.write("ten.py", "TEN = 10\ndef function(): return TEN\n")
    project.write("things.py", THINGS)

    def results() -> tuple[Counter[str], dict[str, str]]:
        done = project.experiment("e", "--parallel", "0", "--no-report")
        assert done.returncode == 0, done.stderr
        ran = Counter(line.partition("ran ")[2] for line in done.stdout.splitlines() if "ran " in line)
        values = (line.partition("values ")[2].rpartition(" [") for line in done.stdout.splitlines())
        return ran, {name: value for name, found, value in values if found}

    def each(names: Iterable[str]) -> Counter[str]:
        return Counter(dict.fromkeys(names, 3))

    ran, first = results()
    assert ran == each({**BY_THINGS, **BY_TEN})
    project.write("things.py", "# moved\n\n" + THINGS.replace("import ten\n", "import ten\nUNUSED = 1\n"))
    assert results() == (Counter(), first)
    project.write("ten.py", "TEN = 20\ndef function(): return TEN\n")
    ran, second = results()
    assert ran == each(BY_TEN)
    project.write("things.py", THINGS.replace("10", "20"))
    ran, third = results()
    assert ran == each(BY_THINGS)
    assert [name for name in BY_TEN if first[name] == second[name]] == []
    assert [name for name in BY_THINGS if first[name] == third[name]] == []


NAMELESS = """
import abc, collections, dataclasses, enum, types

class Base:
    def __init__(self, x=1): self.x = x
    def get(self): return self.x * self.k + 1

class Meta(type):
    def __call__(cls, *args): return super().__call__(*[2 * arg for arg in args])

LOOPED = []
for depth in (1, 2):
    class Model:
        layers = depth
        def get(self): return self.layers + 3
    LOOPED.append(Model())

class Twice:
    def get(self): return 4
FIRST = Twice()
class Twice(Twice):
    def get(self): return super().get() + 5
SECOND = Twice()

def patched(n):
    made = dataclasses.make_dataclass("Patched", [], bases=(Base,))
    made.get = (lambda self: 6) if n == 1 else (lambda self: 7)
    return made()

class Loud:
    def get(self): return self.value + 8
class Noise(Loud, enum.Enum):
    BANG = 1

made = {f"m{i}": type("Model", (Base,), {"k": 10 * i})(3) for i in range(1, 3)}
made |= {f"loop{i}": model for i, model in enumerate(LOOPED)}
made["first"], made["second"] = FIRST, SECOND
made["other"] = type("Base", (Base,), {"k": 11})(2)
made["fields"] = dataclasses.make_dataclass("MD", [("a", int, 12)], namespace={"get": lambda self: self.a + 13})()
made["new"] = types.new_class("New", (Base,), {}, lambda body: body.update(k=14))(2)
made["meta"] = Meta("Dyn", (Base,), {"k": 15})(2)
made["abstract"] = abc.ABCMeta("Abs", (Base,), {"k": 16})(2)
made["mixed"] = enum.Enum("En", {"A": 17}, type=type("Mix", (), {"get": lambda self: self.value + 18})).A
made["tuple"] = type("T", (collections.namedtuple("T", "a"),), {"get": lambda self: self.a + 19})(2)
made["patched1"], made["patched2"] = patched(1), patched(2)
made["noise"] = Noise.BANG
"""
NAMELESS_EDITS = {
    "self.k + 1": {"m1", "m2", "other", "new", "meta", "abstract"},
    "2 * arg": {"meta"},
    "depth in (1": {"loop0"},
    "self.layers + 3": {"loop0", "loop1"},
    "return 4": {"first", "second"},
    "get() + 5": {"second"},
    "self: 6": {"patched1"},
    "self: 7": {"patched2"},
    "value + 8": {"noise"},
    "(3)": {"m1", "m2"},
    '"k": 11': {"other"},
    "int, 12": {"fields"},
    "a + 13": {"fields"},
    "k=14": {"new"},
    '"k": 15': {"meta"},
    '"k": 16': {"abstract"},
    '"A": 17': {"mixed"},
    "value + 18": {"mixed"},
    "a + 19": {"tuple"},
}
"""What an edit of the last number changes."""

NAMELESS_RUN = """
from dataclasses import dataclass
from typing import Any
import curidask as cf
from curidask.caching import JsonCacher
import things

@dataclass
class Params(cf.ExperimentParameters):
    held: Any = None

@cf.stage(None, ["o"], [JsonCacher])
def by_params(record):
    return record.params.held.get()

@cf.stage(None, ["o"], [JsonCacher])
def by_class(record, kind, held):
    return [kind.__name__, held[0].get()]

def get_params():
    return [Params(name, held) for name, held in things.made.items()]

def run(param_sets, manager):
    for params in param_sets:
        records = [by_params(cf.Record(manager, params))]
        records += [by_class(cf.Record(manager, None), type(params.held), [params.held])]
        print("values", params.name, [record.state["o"] for record in records])
"""


def test_classes_that_are_not_found_by_their_name_count(project: Project) -> None:
    project.write("experiments/e.py", NAMELESS_RUN)

    def results(*options: str) -> dict[str, str]:
        done = project.experiment("e", "--no-report", *(options or ("--parallel", "0")))
        assert done.returncode == 0, done.stderr
        lines = [line.split(maxsplit=2) for line in done.stdout.splitlines() if line.startswith("values ")]
        return {name: value for _, name, value in lines}

    project.write("things.py", NAMELESS)
    first = results()
    assert len(first) == len(set(first.values()))
    assert results("--parallel", "2", "--cache", "other") == first
    left = dict(NAMELESS_EDITS)
    while left:
        text, changed = NAMELESS, set[str]()
        for old, names in list(left.items()):
            if not names & changed:  # so that each edit is what changes them
                number = re.findall(r"\d+", old)[-1]
                assert NAMELESS.count(old) == 1, old
                text = text.replace(old, old.replace(number, str(int(number) + 20)))
                changed |= left.pop(old)
        project.write("things.py", text)
        now = results()
        assert {name for name, value in now.items() if value != first[name]} == changed
    project.write("things.py", NAMELESS)
    assert results() == first


TYPED = """
import curidask as cf
import helper
from curidask.caching import JsonCacher
LIMITS = [100]
class Adds:
    offset = 200
    def get(self): return self.offset
def inner(): return 300
def outer(): return inner() + helper.f()
class Given:
    def get(self): return 400
@cf.stage(None, ["o"], [JsonCacher])
def s(record, given): return [outer(), LIMITS, Adds().get(), given.get(), 500]
stages = []
for i in (600, 700):
    made = {"__name__": __name__}
    exec(f"def s2(record): return {i}", made)
    stages.append(cf.stage(None, ["o"], [JsonCacher])(made["s2"]))
with cf.ArtifactManager("typed", cache="cache") as m:
    print([s(cf.Record(m, None), given=Given()).state["o"], [each(cf.Record(m, None)).state["o"] for each in stages]])
    def inner(): return 301
    LIMITS.append(101)
    print(s(cf.Record(m, None), given=Given()).state["o"])
"""


@pytest.mark.parametrize("way", ["-c", "-"])
def test_code_without_a_source_counts(project: Project, way: str) -> None:
    project.write("helper.py", "def f(): return 0\n")

    def printed(text: str) -> list[str]:
        command = [sys.executable, way, *([text] if way == "-c" else [])]
        env = clean_environment() | {"PYTHONPATH": str(project.root)}
        done = subprocess.run(
            command, input=text, cwd=project.root, env=env, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def expected(*numbers: int) -> list[str]:
        a, b, c, d, e, f, g, other = numbers
        return [f"[[{c}, [{a}], {b}, {d}, {e}], [{f}, {g}]]", f"[{other}, [{a}, 101], {b}, {d}, {e}]"]

    assert printed(TYPED) == expected(100, 200, 300, 400, 500, 600, 700, 301)
    edited = TYPED
    for number in (100, 200, 300, 400, 500, 600, 700, 301):
        edited = edited.replace(str(number), str(number + 50))
    assert printed(edited) == expected(150, 250, 350, 450, 550, 650, 750, 351)
    project.write("helper.py", "def f(): return 0 + 1\n")  # of another size, or Python may take its old byte code
    assert printed(TYPED) == expected(100, 200, 301, 400, 500, 600, 700, 302)


CHANGING = """
import datetime, decimal, importlib, time, pathlib, types
import curidask as cf
import helper
from curidask.caching import JsonCacher
from helper import taken, TAKEN
from package import passed_on
from dataclasses import dataclass
import numpy as np, pandas as pd

def h(): return inner()
def inner(): return 1
SIZE = 2
given, sizes, space, other, rng = None, np.ones(0), None, None, np.random.default_rng(4)

@dataclass
class Fields:
    n: int

class Sizes:
    n = 1

class Plain:
    def __init__(self, n): self.n = n

class Model:
    def get(self): return inner()

@cf.stage(None, ["o"], [JsonCacher])
def s(record, got=None):
    names = [SIZE, helper.LIMIT, TAKEN, each, given is not None and int(np.sum(given.n)), sizes.tolist()]
    names += [space and space.n, Sizes.n, str(other), rng is None]
    return [*names, h(), helper.f(), taken(), passed_on(), Model().get(), got and got.get()]

def said():
    found = [s(cf.Record(m, None)), s(cf.Record(m, None), got=Model())]
    print([record.state["o"] for record in found])

m = cf.ArtifactManager("changing", cache="cache")
for each in (3, 4):
    said()
    class Model:
        size = each
        def get(self): return [inner(), self.size]
def inner(): return 5
said()
SIZE = 6
said()
helper_file = pathlib.Path("helper.py")
helper_file.write_text(helper_file.read_text().replace("7", "78"))
said()
importlib.reload(helper)
said()
from helper import taken
said()
for value in (8, 9):
    helper.LIMIT = value
    said()
for given, sizes in ((Fields(1), np.ones(1)), (Plain(2), np.ones(2)), (pd.DataFrame({"n": [3]}), np.ones(3))):
    said()
space, Sized, given = types.SimpleNamespace(n=1), Sizes, Fields(4)
said()
space.n, Sized.n, given.n, sizes[0] = 2, 3, 5, 6
said()
for given.n in (6, 7):
    said()
for other in (datetime.date(2026, 1, 1), pathlib.Path("x"), decimal.Decimal(2), datetime.timedelta(3), range(4)):
    said()
rng = np.random.default_rng(5)
for _ in range(2):
    rng.random()
    said()
m.close()
"""


HELPER = "LIMIT = TAKEN = 7\ndef f(): return 7\ndef taken(): return 7\n"


def test_what_a_script_binds_anew_counts(project: Project) -> None:
    project.write("helper.py", HELPER)
    project.write("package.py", "from helper import taken as passed_on\n")
    project.write("changing.py", CHANGING)
    plain = CHANGING.replace("@cf.stage", "# ").replace("cf.Record(m, None)", "m")
    project.write("plain.py", plain.replace('[record.state["o"] for record in found]', "found"))
    found = project.script("changing.py")
    project.write("helper.py", HELPER)
    expected = project.script("plain.py")
    assert len(expected) == 23
    assert found == expected
    project.write("helper.py", HELPER)
    assert project.script("changing.py") == expected


CELLS = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance(colors="NoColor")
def run(cell):
    shell.run_cell(cell, store_history=True).raise_error()

run('''import curidask as cf
from curidask.caching import JsonCacher
from dataclasses import dataclass
m = cf.ArtifactManager("cells", cache="cache")''')
run("def h(): return 1")
run("SIZE = 2")
run("class Given:\\n    def get(self): return 3")
run("@dataclass\\nclass Fields:\\n    size: int = 4")
run('''@cf.stage(None, ["o"], [JsonCacher])
def s(record, given): return [h(), SIZE, given.get(), Fields().size, each]
def said(): print(s(cf.Record(m, None), given=Given()).state["o"])''')
said = "for each in (5, 6): said()"
run(said)
run("def h(): return 10")
run(said)
run("SIZE = 20")
run(said)
run("class Given:\\n    def get(self): return 30")
run(said)
run("@dataclass\\nclass Fields:\\n    size: int = 40")
run(said)
run("SIZE = 2")
run(said)
"""


def test_cells_that_are_run_again_count_for_stages_of_others(project: Project) -> None:
    project.write("cells.py", CELLS)
    values = [[1, 2, 3, 4], [10, 2, 3, 4], [10, 20, 3, 4], [10, 20, 30, 4], [10, 20, 30, 40], [10, 2, 30, 40]]
    assert project.script("cells.py") == [str([*value, each]) for value in values for each in (5, 6)]


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_projects_are_apart_and_copies_of_one_share(tmp_path: Path, s3_server: S3Server, place: str) -> None:
    cache = s3_server.url(f"apart-{tmp_path.name}") if place == "bucket" else str(tmp_path / "shared")
    text = dedent(LATER).replace("{options}", "")

    def run(folder: str, words: str) -> tuple[str, str]:
        project = Project(tmp_path / folder)
        project.write("curidask.toml", "")
        project.write("experiments/later.py", text)
        project.write("words.py", words)
        (project.root / "ran").write_text("")
        done = project.experiment("later", "--parallel", "0", "--no-report", "--cache", cache, env=s3_server.env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), (project.root / "ran").read_text().strip()

    assert run("one", "def count(x): return x + 1\n") == ("4", "first second")
    assert run("other", "def count(x): return x - 1\n") == ("2", "first second")
    assert run("elsewhere/one", "def count(x): return x + 1\n") == ("4", "")
    assert run("one", "def count(x): return x + 1\n") == ("4", "")
    assert run("other", "def count(x): return x - 1\n") == ("2", "")


MADE = """
import functools
from dataclasses import dataclass
import numpy as np
import curidask as cf
from curidask.caching import JsonCacher

@dataclass
class Config:
    layers: list

def plus(x, y): return x + y

def make(held):
    seen = {}
    calls = [0]
    @cf.stage(None, ["o"], [JsonCacher])
    def s(record):
        calls[0] += 1
        seen[calls[0]] = held
        with open("ran", "a") as file:
            file.write("x")
        return str(held(1) if callable(held) else held)
    return s

def get_params(): return [cf.ExperimentParameters("a")]

def run(param_sets, manager):
    values = [[{n}], {"a": {n}}, Config([{n}]), np.array([{n}]), functools.partial(plus, {n}), ([{n}], "x"), {{n}}]
    told = [make(held)(cf.Record(manager, param_sets[0])).state["o"] for held in values]
    for layers in ([{n}], [{n}, 32]):
        @cf.stage(None, ["o"], [JsonCacher])
        def s(record, layers=layers):
            with open("ran", "a") as file:
                file.write("x")
            return layers
        told.append(s(cf.Record(manager, param_sets[0])).state["o"])
    print("TOLD", told)
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_stages_that_a_function_makes_count_with_the_containers_that_they_hold(project: Project, workers: str) -> None:
    def run(number: int) -> tuple[str, int]:
        project.write(
            "experiments/m.py", MADE.replace("{{n}}", "{{n}}".replace("{n}", str(number))).replace("{n}", str(number))
        )
        (project.root / "ran").write_text("")
        done = project.experiment("m", "--parallel", workers, "--no-report")
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("TOLD ")[2].strip(), len((project.root / "ran").read_text())

    def expected(n: int) -> str:
        values = [f"[{n}]", f"{{'a': {n}}}", f"Config(layers=[{n}])", f"[{n}]", str(n + 1), f"([{n}], 'x')", f"{{{n}}}"]
        return str([*values, [n], [n, 32]])

    assert run(11) == (expected(11), 9)
    assert run(11) == (expected(11), 0)
    assert run(22) == (expected(22), 9)
    assert run(11) == (expected(11), 0)


TABLES = """
import curidask as cf
from curidask.caching import JsonCacher
CONFIG = {"lr": 1}
LIST = [1]
@cf.stage(None, ["a"], [JsonCacher])
def train(record): return [CONFIG, LIST]
manager = cf.ArtifactManager("cfg", cache="cfgcache")
print(train(cf.Record(manager, None)).state["a"])
CONFIG["lr"] = 2
print(train(cf.Record(manager, None)).state["a"])
LIST.append(2)
print(train(cf.Record(manager, None)).state["a"])
"""


def test_tables_that_a_script_changes_between_calls_count(project: Project) -> None:
    path = project.write("tables.py", TABLES)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, path],
            cwd=project.root,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == ["[{'lr': 1}, [1]]", "[{'lr': 2}, [1]]", "[{'lr': 2}, [1, 2]]"]


TOLD = """
import curidask as cf, pandas as pd
from curidask.caching import JsonCacher, PandasCsvCacher
@cf.stage(None, ["a"], [PandasCsvCacher(read_csv_args={"index_col": 0, "dtype": int}, prefix="kept")])
def make(record): return pd.DataFrame({"x": [7]})
@cf.stage(["a"], ["b"], [JsonCacher])
def use(record, a): return str(a.dtypes["x"])
def get_params(): return [cf.ExperimentParameters("p")]
def run(ps, m): print(use(make(cf.Record(m, ps[0]))).state["b"])
"""


def test_what_a_cacher_is_told_counts_where_it_decides_what_comes_back(project: Project) -> None:
    def run(text: str) -> tuple[str, bool]:
        project.write("experiments/told.py", text)
        done = project.experiment("told", "--parallel", "0", "--no-report")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), "everything was in the cache" in done.stderr

    assert run(TOLD) == ("int64", False)
    project.write("experiments/told.py", TOLD.replace('"dtype": int', '"dtype": float'))
    assert "  cacher of the output a changed: p" in project.command("curidask", "explain", "told").stdout
    assert run(TOLD.replace('"dtype": int', '"dtype": float')) == ("float64", False)
    assert run(TOLD) == ("int64", True)
    assert run(TOLD.replace('prefix="kept"', 'prefix="kept", track=False')) == ("int64", True)
