"""What every cacher must do on every place, and what the built-in ones do with odd values."""

from __future__ import annotations

import copy
import datetime as dt
import io
import json
import operator
import os
import pickle
import random
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Self
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curidask import caching
from curidask.caching import (
    Cacheable,
    FileReferenceCacher,
    JsonCacher,
    Lazy,
    NumpyCacher,
    PandasCacher,
    PandasCSVCacher,
    PandasCsvCacher,
    PandasJsonCacher,
    ParquetCacher,
    PathRef,
    PickleCacher,
    RawJupyterNotebookCacher,
    files,
)
from curidask.core.artifact_names import manifest_name
from curidask.core.json_text import NotJsonError
from curidask.errors import ArtifactMissingError, CacheError, UnknownKeywordError, UnsafeNameError
from curidask.params import ExperimentParameters
from curidask.store.artifacts import ArtifactStore
from curidask.store.manifest import Manifest
from tests.contracts.conftest import PLACES
from tests.processes import race

Make = Callable[..., Manifest]


class SeveralFilesCacher(Cacheable):
    """A user's cacher: several files, a folder, facts in the metadata, and no call of the base's constructor."""

    extension = ".txt"

    def __init__(self, encoding: str = "utf-8") -> None:
        self.encoding = encoding

    def save(self, obj: dict[str, str]) -> None:
        for name, text in obj.items():
            Path(self.get_dir("parts"), name).write_text(text, self.encoding)
        Path(self.get_path()).write_text("\n".join(obj), self.encoding)
        Path(self.get_path("count.int")).write_text(str(len(obj)))
        self.extra_metadata["names"] = sorted(obj)

    def load(self) -> dict[str, str]:
        names = Path(self.get_path()).read_text(self.encoding).split("\n")
        assert sorted(names) == self.extra_metadata["names"]
        assert Path(self.get_path("count.int")).read_text() == str(len(names))
        return {name: Path(self.get_dir("parts"), name).read_text(self.encoding) for name in names}


@dataclass
class Point:
    """A project's class."""

    x: int
    y: list[int]


JSON_VALUE = {"a": [1, 2.5, None, True, "é\u2028\n"], "": {}, "b": {"c": [[]]}}
TIMES = pd.to_datetime(["2020-03-29 00:30", "2020-03-29 03:30:00.123456789", None], format="mixed")
FRAME = pd.DataFrame(
    {
        "whole": np.array([1, 2, 2**60], dtype="int64"),
        "small": np.array([1, 2, 255], dtype="uint8"),
        "part": [0.1 + 0.2, 1e-300, np.nan],
        "text": ["007", "NA", None],
        "flag": [True, False, True],
        "time": TIMES.astype("datetime64[ns]"),
        "zoned": TIMES.astype("datetime64[ns]").tz_localize("UTC").tz_convert("Europe/Paris"),
        "kind": pd.Categorical(["x", "y", "x"]),
        "maybe": pd.array([1, None, 3], dtype="Int64"),
    },
    index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2), ("b", 3)], names=["letter", None]),
)
FOR_PEOPLE = FRAME[["whole", "text", "flag", "time", "zoned"]].assign(part=[0.5, 1e-300, np.nan])
LEVELS = pd.DataFrame(
    np.arange(6.0).reshape(3, 2),
    index=FRAME.index,
    columns=pd.MultiIndex.from_tuples([("m", "x"), ("m", "y")], names=["metric", "axis"]),
)
POLARS = pl.DataFrame(
    {
        "i": pl.Series([1, None, 3], dtype=pl.Int128),
        "kind": pl.Series(["x", "y", "x"], dtype=pl.Enum(["x", "y"])),
        "nested": [{"a": [1, 2]}, {"a": []}, None],
        "span": [dt.timedelta(microseconds=1), None, dt.timedelta(1)],
        "time": [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None, None],
        "nothing": [None] * 3,
    }
)
RECORDS = np.array([(1, "é", 2.5)], dtype=[("n", ">i4"), ("t", "U3"), ("x", "f8")])
ARRAYS = {
    "w": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "": np.zeros((0, 3), "f4"),
    "W": RECORDS,
    "a/b": np.array("2020-01-01", dtype="M8[ns]"),
    7: np.float32(0.1),
}
CELLS: list[Any] = [
    "x = 1\nprint('é')",
    {"cell_type": "markdown", "source": "# Title"},
    {"cell_type": "code", "source": ["a\n", "b"], "metadata": {"tags": ["t"]}, "id": "mine"},
    {"source": "", "cell_type": "raw"},
    "",
]
REFERRED = Path(__file__).parents[2] / "docs" / "cli.md"
"""A file in a folder that nobody writes to while the tests run."""
CASES: dict[str, tuple[Any, Any]] = {
    "json class": (JsonCacher, JSON_VALUE),
    "json instance": (JsonCacher(extension="txt"), [1]),
    "json text": (JsonCacher, ""),
    "pickle": (PickleCacher, {(1, 2): {3}, "p": Point(1, [2]), "big": b"x" * 3_000_000}),
    "pickle class": (PickleCacher, Point),
    "several": (SeveralFilesCacher("utf-16"), {"one": "1", "two": "äöü"}),
    "frame": (PandasCacher, FRAME),
    "frame series": (PandasCacher, FRAME["part"]),
    "frame parquet": (PandasCacher(format="parquet"), FRAME),
    "frame feather": (PandasCacher(format="feather"), FRAME.reset_index(drop=True)),
    "frame orc": (PandasCacher(format="orc"), FRAME[["whole", "part", "text", "time"]].reset_index(drop=True)),
    "frame csv": (PandasCacher(format="csv"), FOR_PEOPLE),
    "frame hdf5": (PandasCacher(format="hdf5"), FRAME[["whole", "small", "part", "text", "flag", "time"]]),
    "frame excel": (
        PandasCacher(format="excel"),
        FOR_PEOPLE.drop(columns="zoned").assign(
            time=pd.to_datetime(["2020-03-29 00:30:01.123", None, "2021-01-01"], format="mixed")
        ),
    ),
    "frame xml": (PandasCacher(format="xml"), FOR_PEOPLE.replace({"text": {"NA": "N/B"}}).reset_index(drop=True)),
    "csv": (PandasCsvCacher, FOR_PEOPLE.reset_index(drop=True)),
    "csv levels": (PandasCSVCacher, LEVELS),
    "csv arguments": (
        PandasCsvCacher(to_args={"sep": ";", "index": False, "encoding": "utf-16", "na_rep": "-"}),
        FOR_PEOPLE.reset_index(drop=True),
    ),
    "frame json": (PandasCacher(format="json"), FRAME[["whole", "text", "flag", "time", "kind", "maybe"]]),
    "json frame": (PandasJsonCacher, FOR_PEOPLE.assign(zoned=FOR_PEOPLE["zoned"].dt.floor("us"))),
    "json rows": (PandasJsonCacher, FOR_PEOPLE[["whole", "text", "flag", "part"]].reset_index(drop=True)),
    "json orient": (PandasJsonCacher(to_args={"orient": "split"}), pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})),
    "parquet": (ParquetCacher, FRAME),
    "parquet levels": (ParquetCacher(to_args={"compression": "zstd"}), LEVELS),
    "parquet polars": (ParquetCacher, POLARS),
    "array": (NumpyCacher, ARRAYS["w"]),
    "arrays": (NumpyCacher, ARRAYS),
    "arrays compressed": (NumpyCacher(compressed=True), tuple(ARRAYS.values())),
    "arrays mapped": (NumpyCacher(mmap_mode="r"), ARRAYS),
    "array mapped": (NumpyCacher(mmap_mode="c"), RECORDS),
    "no arrays": (NumpyCacher, []),
    "notebook": (RawJupyterNotebookCacher, CELLS),
    "notebook of lines": (RawJupyterNotebookCacher, [["a", "", "b\nc"], [], ["x"], "y"]),
    "no cells": (RawJupyterNotebookCacher(extension="json"), []),
    "files": (
        FileReferenceCacher,
        {"one": str(REFERRED), "many": [REFERRED, REFERRED.parent], "pair": (str(REFERRED.parent), [])},
    ),
    "file sizes": (FileReferenceCacher(verify="size"), REFERRED),
    "path": (PathRef, str(REFERRED)),
}
NO_TWO_ALIKE = ("frame", "frame series")
"""Pickles tell how a frame lies in memory, in which a copy differs."""
TIMED = ("frame hdf5", "frame excel")
"""These formats keep when the file was written."""


SOME = ("several", "pickle", "parquet")
"""A cacher of many files and folders, one of a large file and one of a package: these work on each store."""
REMOTE = [place for place in PLACES if place != "folder"]


@pytest.fixture
def case(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A cacher as a stage declares it, and a value for it."""
    return CASES[request.param]


def everywhere(pairs: Iterable[tuple[str, str]]) -> pytest.MarkDecorator:
    """Run a test with pairs of a place and a case, and with some cases on each place.

    Stores see files and cachers see paths, so that not every cacher needs to meet every store.
    """
    wanted = dict.fromkeys([*pairs, *((place, name) for place in REMOTE for name in SOME)])
    ids = [" ".join(pair) for pair in wanted]
    return pytest.mark.parametrize(("url", "case"), list(wanted), ids=ids, indirect=True)


IN_FOLDER = [("folder", name) for name in CASES]
IN_TURN = [(REMOTE[number % len(REMOTE)], name) for number, name in enumerate(CASES)]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in type and in all that the type holds."""
    one, other = (v.view(np.ndarray) if isinstance(v, np.memmap) else v for v in (one, other))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(EQUAL.get(type(one), operator.eq)(one, other))


def same_arrays(one: Any, other: Any) -> bool:
    orders = [(value.flags.c_contiguous, value.flags.f_contiguous) for value in (one, other)]
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes()) and len(
        set(orders)
    ) == 1


def same_frames(one: Any, other: Any) -> bool:
    pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=False)
    return True


EQUAL: dict[type, Callable[[Any, Any], bool]] = {
    np.ndarray: same_arrays,
    np.float32: same_arrays,
    pd.DataFrame: same_frames,
    pd.Series: lambda one, other: same_frames(one.to_frame(), other.to_frame()),
    pl.DataFrame: lambda one, other: one.schema == other.schema and one.equals(other),
}


def save(store: ArtifactStore, template: Any, manifest: Manifest, value: Any, *, again: bool = False) -> Manifest:
    """Do what a worker does to store a value."""
    cacher = template() if isinstance(template, type) else template
    with store.workspace(manifest.stem, run="r") as workspace:
        bound = cacher.bound(workspace.folder, workspace.basename, stage="train", name="model")
        bound.save(value)
        fields = {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
        fields |= {"cacher": type(bound).__name__, "extra_metadata": bound.extra_metadata}
        return store.commit(workspace, Manifest(**fields), replace_whole=again)


def load(store: ArtifactStore, template: Any, manifest: Manifest) -> Any:
    """Do what a worker does to load a value."""
    cacher = template() if isinstance(template, type) else template
    checkout = store.checkout(manifest.stem, manifest.key)
    bound = cacher.bound(checkout.folder, checkout.basename)
    bound.extra_metadata = dict(checkout.manifest.extra_metadata)
    return bound.load()


# --- on a stage ------------------------------------------------------------------------------------------------------
@everywhere([*IN_FOLDER, *IN_TURN])
def test_a_value_comes_back(store: ArtifactStore, fresh: Any, case: tuple[Any, Any], manifest_of: Make) -> None:
    template, value = case
    save(store, template, manifest_of(), value)
    assert same(load(fresh(), template, manifest_of()), value)


@everywhere(pair for pair in IN_FOLDER if pair[1] not in TIMED)
def test_two_saves_give_one_digest(store: ArtifactStore, case: tuple[Any, Any], manifest_of: Make) -> None:
    template, value = case
    equal = value if any(case is CASES[name] for name in NO_TWO_ALIKE) else copy.deepcopy(value)
    one, other = (save(store, template, manifest_of(prefix=p), v) for p, v in (("a", value), ("b", equal)))
    assert one.digest == other.digest
    assert one.stem != other.stem


def test_a_value_loaded_twice_is_two_values(store: ArtifactStore, manifest_of: Make) -> None:
    for name in ("json class", "frame", "csv", "parquet", "array", "array mapped", "notebook"):
        template, value = CASES[name]
        manifest = save(store, template, manifest_of(seed=name), value)
        one, other = (load(store, template, manifest) for _ in range(2))
        assert one is not other
        if isinstance(one, np.ndarray) and one.flags.writeable:
            one[...] = 0
        assert same(load(store, template, manifest), value)


@everywhere(IN_FOLDER)
def test_no_damage_gives_another_value(
    store: ArtifactStore, fresh: Any, case: tuple[Any, Any], manifest_of: Make
) -> None:
    template, value = case
    manifest = save(store, template, manifest_of(), value)
    chance = random.Random(3)
    for name in [manifest_name(manifest.stem), *(manifest.stem + entry.name for entry in manifest.files)]:
        whole = store.objects.read(name)
        places = chance.sample(range(len(whole)), k=min(2 if store.local_root is None else 8, len(whole)))
        for changed in [whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :] for place in places] + [
            whole[:place] for place in places
        ]:
            store.objects.write(name, changed)
            with pytest.raises(ArtifactMissingError):
                load(fresh(), template, manifest_of())
        store.objects.write(name, whole)
    assert same(load(fresh(), template, manifest_of()), value)


RACING = """
import sys
from pathlib import Path
from curidask.errors import ArtifactMissingError
from curidask.store.artifacts import ArtifactStore
from tests.contracts.conftest import make_manifest
from tests.contracts.test_cachers import CASES, load, same, save
store, loaded = ArtifactStore.open(sys.argv[1]), 0
print("ready", flush=True)
sys.stdin.readline()
for name, (template, value) in CASES.items():
    manifest = make_manifest(seed=name)
    for round in range(4):
        save(store, template, manifest, value, again=round % 2 == 1)
        try:
            assert same(load(store, template, manifest), value), name
            loaded += 1
        except (ArtifactMissingError, FileNotFoundError):
            pass  # the other one removed it just now
        if round == 2:
            store.discard(manifest.stem)
print(loaded)
"""


def test_two_processes_at_once(folder_store: ArtifactStore, manifest_of: Make) -> None:
    loaded = race(RACING, *[[folder_store.url]] * 2)
    assert sum(map(int, loaded)) > len(CASES)
    for name, (template, value) in CASES.items():
        assert same(load(folder_store, template, manifest_of(seed=name)), value)
    work = [name for name in os.listdir(folder_store.url) if name.startswith(".work")]
    folder_store.clean("r")
    assert work == [] or not [name for name in os.listdir(folder_store.url) if name.startswith(".work")]


@everywhere(IN_FOLDER)
def test_two_threads_at_once(store: ArtifactStore, fresh: Any, case: tuple[Any, Any], manifest_of: Make) -> None:
    template, value = case

    def work(_: int) -> bool:
        own = fresh()
        save(own, template, manifest_of(), value, again=True)
        try:
            return same(load(own, template, manifest_of()), value)
        except ArtifactMissingError:
            return store.objects.url.startswith("memory")  # whose writes take time: a miss, and not another value

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(work, range(4)))
    assert same(load(fresh(), template, manifest_of()), value)


def test_a_bound_cacher_is_a_copy(tmp_path: Path) -> None:
    template = SeveralFilesCacher()
    record = SimpleNamespace(params=SimpleNamespace(n=3))
    bound = template.bound(tmp_path, "base", record=record, stage="train", name="model")
    bound.extra_metadata["seen"] = 1
    assert (bound.stage, bound.name, bound.params.n, bound.record) == ("train", "model", 3, record)
    assert bound.get_path() == str(tmp_path / "base.txt")
    assert bound.get_path("_part2") == str(tmp_path / "base_part2")
    assert bound.get_path("part2") == str(tmp_path / "base_part2")
    assert bound.get_path("weights.npz") == str(tmp_path / "base_weights.npz")
    assert Path(bound.get_dir("folder")) == tmp_path / "base_folder"
    assert (tmp_path / "base_folder").is_dir()
    assert Path(bound.get_dir()) == Path(bound.get_dir(suffix=None)) == tmp_path / "base"
    assert bound.cache_paths == [str(tmp_path / name) for name in ("base.txt", "base_part2", "base_weights.npz")]
    assert bound.bound(tmp_path, "other").cache_paths == []
    assert (template.stage, template.name, template.record, template.params) == (None, None, None, None)
    assert template.extra_metadata == {}
    with pytest.raises(CacheError):
        template.get_path()


def test_a_file_that_an_earlier_version_named_with_the_extension_is_found(
    store: ArtifactStore, manifest_of: Make
) -> None:
    class Parts(Cacheable):
        extension = ".txt"
        ending = ""

        def save(self, obj: list[str]) -> None:
            for name, text in zip(("_one", "_two"), obj, strict=True):
                Path(self.get_path(name + self.ending)).write_text(text)

        def load(self) -> list[str]:
            return [Path(self.get_path(name)).read_text() for name in ("_one", "_two")]

    for ending in (".txt", ""):
        template = Parts()
        template.ending = ending
        manifest = save(store, template, manifest_of(seed=ending), ["1", "2"])
        checkout = store.checkout(manifest.stem, manifest.key)
        bound = Parts().bound(checkout.folder, checkout.basename)
        bound.describe_by(checkout.manifest)
        assert bound.load() == ["1", "2"]


@pytest.mark.parametrize("suffix", ["a/b", "..\\x", "../x", "_metadata.json", "metadata.json"])
def test_paths_stay_in_the_folder(tmp_path: Path, suffix: str) -> None:
    bound = JsonCacher().bound(tmp_path, "base")
    with pytest.raises(UnsafeNameError):
        bound.get_path(suffix)
    assert list(tmp_path.iterdir()) == []


def test_a_path_template_names_parameters(tmp_path: Path) -> None:
    params = SimpleNamespace(lr=0.5, model=SimpleNamespace(depth=3))
    record = SimpleNamespace(params=params, get_hash=lambda: "abc")
    template = JsonCacher("out/{lr}_{model.depth}_{stage}_{name}_{params_hash}.json")
    bound = template.bound(tmp_path, "base", record=record, stage="train", name="m")
    assert bound.override_path() == "out/0.5_3_train_m_abc.json"
    assert bound.get_path() == str(tmp_path / "base.json")
    assert JsonCacher().override_path() is None
    wrong = JsonCacher("{nothing}.json").bound(tmp_path, "base", record=record, stage="train")
    with pytest.raises(CacheError, match="nothing"):
        wrong.override_path()


# --- by itself -------------------------------------------------------------------------------------------------------
def test_inline_use_works_on_the_given_path(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.json"
    JsonCacher(path).save([1, 2])
    assert JsonCacher(str(path)).load() == [1, 2]
    assert JsonCacher(overwrite_path=path).load() == [1, 2]
    assert path.read_text() == "[\n    1,\n    2\n]"
    with pytest.raises(FileNotFoundError):
        JsonCacher(tmp_path / "typo" / "x.json").load()
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_inline_use_gives_several_paths(tmp_path: Path) -> None:
    cacher = PickleCacher(tmp_path / "model.pkl")
    assert cacher.get_path() == str(tmp_path / "model.pkl")
    assert cacher.get_path("part") == str(tmp_path / "model_part")
    assert cacher.get_path("weights.npz") == str(tmp_path / "model_weights.npz")
    assert cacher.get_path("_metadata.json") == str(tmp_path / "model_metadata.json")
    assert cacher.get_dir("d") == str(tmp_path / "model_d")
    assert cacher.cache_paths[:2] == [str(tmp_path / "model.pkl"), str(tmp_path / "model_part")]
    other = PickleCacher(tmp_path / "lr_0.5")
    assert other.get_path("_part.txt") == str(tmp_path / "lr_0.5_part.txt")
    assert other.get_dir() == str(tmp_path / "lr_0.5")


def test_a_relative_path_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    JsonCacher("x.json").save({"a": 1})
    assert json.loads(Path("x.json").read_text()) == {"a": 1}


def test_a_cacher_without_a_path_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"JsonCacher\('path/to/file'\)"):
        JsonCacher().save(1)
    with pytest.raises(CacheError, match="cachers"):
        SeveralFilesCacher().load()


def test_a_cacher_that_lacks_methods_says_which(tmp_path: Path) -> None:
    class Half(Cacheable):
        def save(self, obj: Any) -> None:
            Path(self.get_path()).write_text(str(obj))

    bound = Half().bound(tmp_path, "b")
    bound.save(1)
    with pytest.raises(CacheError, match=r"Half does not say how to load"):
        bound.load()
    with pytest.raises(NotImplementedError, match="how to save"):
        Cacheable(tmp_path / "x").save(1)


def test_check_says_whether_there_is_something(tmp_path: Path) -> None:
    for name, (template, value) in CASES.items():
        kind = template if isinstance(template, type) else type(template)
        if kind is SeveralFilesCacher:
            continue
        cacher = kind(REFERRED if name == "path" else tmp_path / name)
        assert cacher.check() is (name == "path")
        if name != "path":
            cacher.__dict__ |= {k: v for k, v in vars(template).items() if k in ("mmap_mode", "format", "extension")}
            cacher.save(value)
            assert cacher.check() is True


# --- arguments -------------------------------------------------------------------------------------------------------
def test_arguments_by_position() -> None:
    record = SimpleNamespace(params=None)
    cacher = JsonCacher("a.json", "n", "sub", "pre", ".x", record, False)
    assert (cacher.path_override, cacher.name, cacher.subdir, cacher.prefix) == ("a.json", "n", "sub", "pre")
    assert (cacher.extension, cacher.record, cacher.track) == (".x", record, False)
    for kind in (PathRef, FileReferenceCacher, RawJupyterNotebookCacher, PickleCacher):
        assert (kind("a", "n", "s").path_override, kind("a", "n", "s").subdir) == ("a", "s")


class Passing(Cacheable):
    """A project's cacher as the documents recommend it."""

    def __init__(self, *args: Any, width: int = 3, **kwargs: Any) -> None:
        super().__init__(*args, extension=".pass", **kwargs)
        self.width = width


@pytest.mark.parametrize(
    ("make", "near"),
    [
        (lambda: JsonCacher(subdr="x"), "'subdir'"),
        (lambda: JsonCacher(overwrite_pth="x"), "'overwrite_path'"),
        (lambda: Passing("a", trak=False), "'track'"),
        (lambda: Passing("a", widht=1), "'width'"),
        (lambda: NumpyCacher(compresed=True), "'compressed'"),
        (lambda: PandasCacher(fromat="csv"), "'format'"),
        (lambda: PandasCsvCacher(to_csv_arg={}), "'to_csv_args'"),
        (lambda: FileReferenceCacher(verfy="off"), "'verify'"),
        (lambda: Lazy("a", resolv=False), "'resolve'"),
        (lambda: JsonCacher("a").get_path(sufix="x"), "'suffix'"),
    ],
)
def test_a_typo_is_an_error_with_the_near_name(make: Callable[[], Any], near: str) -> None:
    with pytest.raises(UnknownKeywordError) as caught:
        make()
    assert near in caught.value.fix


def test_an_extension_that_a_subclass_passes_on(tmp_path: Path) -> None:
    assert Passing(name="a").bound(tmp_path, "b").get_path() == str(tmp_path / "b.pass")
    assert Passing(tmp_path / "a.pass").get_path("_x") == str(tmp_path / "a_x")


def test_public_classes_say_where_they_are_documented() -> None:
    for name in caching.__all__:
        kind = getattr(caching, name)
        assert kind.__module__ == "curidask.caching"
        assert pickle.loads(pickle.dumps(kind)) is kind
    assert str(Lazy) == "<class 'curidask.caching.Lazy'>"
    old = b"\x80\x04ccuridask.caching.base\nLazy\n."  # as pickles named it
    assert pickle.loads(old) is Lazy
    assert Passing.__module__ == __name__


# --- metadata by itself ----------------------------------------------------------------------------------------------
def test_metadata_beside_a_value_that_is_stored_by_hand(tmp_path: Path) -> None:
    cacher = JsonCacher(tmp_path / "new" / "results.json")
    assert cacher.load_metadata() is None
    cacher.extra_metadata["rows"] = np.int64(3)
    cacher.save_metadata()
    cacher.save([1])
    assert json.loads((tmp_path / "new" / "results_metadata.json").read_text()) == {"extra": {"rows": 3}}
    other = JsonCacher(tmp_path / "new" / "results.json")
    assert other.metadata is None
    assert other.load_metadata() == {"extra": {"rows": 3}} == other.metadata
    assert other.extra_metadata == {"rows": 3}
    with pytest.raises(CacheError, match="without a record has no metadata"):
        JsonCacher("a").collect_metadata()


@pytest.mark.parametrize("text", ["", "[]", '{"extra": 3}', "{"])
def test_metadata_that_is_none_of_ours_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a_metadata.json").write_text(text)
    with pytest.raises(CacheError, match="cannot be read"):
        JsonCacher(tmp_path / "a.json").load_metadata()


@pytest.mark.parametrize(("extension", "expected"), [("txt", ".txt"), (".txt", ".txt"), ("", ""), (None, ".json")])
def test_extensions(tmp_path: Path, extension: str | None, expected: str) -> None:
    assert JsonCacher(extension=extension).bound(tmp_path, "b").get_path() == str(tmp_path / f"b{expected}")


def test_save_of_a_base_class_is_used_through_super(tmp_path: Path) -> None:
    class Doubling(JsonCacher):
        def save(self, obj: Any) -> None:
            super().save(obj * 2)

    Doubling(tmp_path / "new" / "x.json").save(3)
    assert JsonCacher(tmp_path / "new" / "x.json").load() == 6


# --- JSON ------------------------------------------------------------------------------------------------------------
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(value=JSON_VALUES)
def test_json_values_come_back_equal(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    JsonCacher(path).save(value)
    assert JsonCacher(path).load() == value


def test_json_keeps_order_and_nan(tmp_path: Path) -> None:
    cacher = JsonCacher(tmp_path / "x.json")
    cacher.save({"b": float("nan"), "a": float("inf"), "é": "\ud800"})
    loaded = cacher.load()
    assert list(loaded) == ["b", "a", "é"]
    assert loaded["b"] != loaded["b"]
    assert loaded["a"] == float("inf")
    assert loaded["é"] == "\ud800"


class Plain:
    """Something that JSON has no word for."""


class Color(Enum):
    RED = "red"


JSON_MEANINGS: dict[str, tuple[Any, Any]] = {
    "numpy": ([np.int64(3), np.float32(0.5), np.bool_(True), np.str_("a")], [3, 0.5, True, "a"]),
    "arrays": ({"a": np.arange(4).reshape(2, 2), "b": np.array([])}, {"a": [[0, 1], [2, 3]], "b": []}),
    "array times": (np.array(["2020-01-01"], dtype="M8[ns]"), ["2020-01-01T00:00:00.000000000"]),
    "paths": ({"p": Path("a/b")}, {"p": "a/b"}),
    "dates": (
        [
            dt.date(2020, 1, 2),
            dt.datetime(2020, 1, 2, 3),
            dt.time(4, 5),
            dt.timedelta(hours=1),
            pd.Timestamp("2020-01-02"),
        ],
        ["2020-01-02", "2020-01-02 03:00:00", "04:05:00", "1:00:00", "2020-01-02 00:00:00"],
    ),
    "exact": ([Decimal("0.10"), UUID(int=1)], ["0.10", "00000000-0000-0000-0000-000000000001"]),
    "sets": ([{3, 10, 1.5}, frozenset({"b", "a"}), {("x", 1), None}], [[1.5, 3, 10], ["a", "b"], [["x", 1], None]]),
    "orders": ([range(3), {"b": 1, "a": 2}.keys(), {1: 2}.values(), deque([1])], [[0, 1, 2], ["b", "a"], [2], [1]]),
    "mappings": (MappingProxyType({"a": (1, {2})}), {"a": [1, [2]]}),
    "dataclasses": ([Point(1, [np.int8(2)]), Color.RED], [{"x": 1, "y": [2]}, "red"]),
    "keys": (
        {np.int64(1): {Path("p"): 2}, Color.RED: [{dt.date(2020, 1, 1): 3}]},
        {"1": {"p": 2}, "red": [{"2020-01-01": 3}]},
    ),
}


@pytest.mark.parametrize("name", JSON_MEANINGS)
def test_json_takes_what_has_a_meaning_in_it(tmp_path: Path, name: str) -> None:
    value, expected = JSON_MEANINGS[name]
    assert JsonCacher(tmp_path / "x.json").save(value) == str(tmp_path / "x.json")
    assert JsonCacher(tmp_path / "x.json").load() == expected


def test_json_of_a_parameter_set(tmp_path: Path) -> None:
    JsonCacher(tmp_path / "x.json").save(ExperimentParameters("p"))
    assert JsonCacher(tmp_path / "x.json").load()["name"] == "p"


def test_long_json_stays_on_one_line(tmp_path: Path) -> None:
    JsonCacher(tmp_path / "short.json").save({"a": {"b": 1}})
    assert (tmp_path / "short.json").read_text() == '{\n    "a": {\n        "b": 1\n    }\n}'
    JsonCacher(tmp_path / "long.json").save(list(range(100_000)))
    assert "\n" not in (tmp_path / "long.json").read_text()


class Cycle(list[Any]):
    @classmethod
    def made(cls) -> Self:
        cycle = cls([1])
        cycle.append(cycle)
        return cycle


DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2, 3, {4j}]}, r"\$\.a\[3\]\[0\] is a complex"),
        ([{"p": Plain()}], r"\$\[0\]\.p is a .*Plain"),
        ([np.int64(1), Point(1, [Plain()])], r"\$\[1\]\.y\[0\] is a .*Plain"),
        (pd.DataFrame({"a": [1]}), "is a pandas.*DataFrame"),
        (np.array([1j]), r"\$\[0\] is a complex"),
        (np.longdouble(1), "is a numpy.longdouble"),
        ({Path("a"): 1, "a": 2}, "become one"),
        (Point(1, {1: 2, "1": 3}), "become one"),  # type: ignore[arg-type]
        ({"a": {(1, 2): 3}}, r"\$\.a has the key \(1, 2\), a tuple"),
        (b"x", r"\$ is a bytes"),
        ({"a": Cycle.made()}, "contains itself"),
        (DEEP, "nested too deeply"),
        ([10**5000], r"\$\[0\] is an integer with more digits"),
        ({"a": {1: 2, "1": 3}}, "become one"),
        ([{True: 2, "true": 3}], "become one"),
    ],
)
def test_what_json_cannot_express_is_named(tmp_path: Path, value: Any, text: str) -> None:
    with pytest.raises(NotJsonError, match=text) as caught:
        JsonCacher(tmp_path / "x.json").save(value)
    assert isinstance(caught.value, TypeError)
    assert not (tmp_path / "x.json").exists()


# --- pickles ---------------------------------------------------------------------------------------------------------
def local_class() -> Any:
    """An object of a class that no import can find."""

    class Local:
        def __init__(self) -> None:
            self.value = 3

    return Local()


def test_what_pickle_refuses_is_stored_by_value(tmp_path: Path) -> None:
    cacher = PickleCacher(tmp_path / "x.pkl")
    cacher.save({"f": lambda x: x + 1, "o": local_class(), "big": b"x" * 200_000})
    loaded = cacher.load()
    assert loaded["f"](2) == 3
    assert loaded["o"].value == 3


def test_what_nothing_can_pickle_is_an_error(tmp_path: Path) -> None:
    with (
        (tmp_path / "open").open("w") as file,
        pytest.raises((TypeError, pickle.PicklingError), match=r"[Cc]annot pickle"),
    ):
        files.dumps([1, file])


def test_a_class_that_is_gone_is_named() -> None:
    data = pickle.dumps(Point(1, [])).replace(b"Point", b"Pount")
    with pytest.raises(CacheError, match="'Pount' of the module"):
        files.loads(data)


def test_old_protocols_load() -> None:
    value = {"p": Point(1, [2]), "s": {1}, "e": ValueError("x").args}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert files.load(io.BytesIO(pickle.dumps(value, protocol=protocol))) == value


# --- lazy ------------------------------------------------------------------------------------------------------------
def test_lazy_loads_each_time(tmp_path: Path) -> None:
    JsonCacher(tmp_path / "x.json").save([1])
    lazy = Lazy("x", resolve=False, cacher=JsonCacher(tmp_path / "x.json"))
    assert (lazy.name, lazy.resolve) == ("x", False)
    first, second = lazy.load(), lazy.load()
    assert first == second == [1]
    assert first is not second
    assert Lazy("y").resolve is True
    assert str(Lazy("y")) == "y"
    assert sys.getsizeof(lazy) < 100
    with pytest.raises(CacheError, match="'y' has no value yet"):
        Lazy("y").load()


# --- cost ------------------------------------------------------------------------------------------------------------
def test_importing_cachers_is_cheap() -> None:
    code = "import sys; from curidask.caching import *; print([m for m in sys.modules if '.' not in m])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    heavy = {"cloudpickle", "fsspec", "numpy", "pandas", "polars", "pyarrow", "nbformat", "distributed"}
    assert not heavy & set(eval(done.stdout))
