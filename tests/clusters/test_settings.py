"""Mistakes in the configuration of clusters, found before anything starts; and what is chosen without mistakes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curidask.clusters import kinds
from curidask.clusters.registry import find
from curidask.clusters.settings import read_settings
from curidask.errors import ConfigurationError
from curidask.session.config import load_config
from tests.conftest import Project

SLURM = {"kind": "slurm", "queue": "debug"}
ADDRESS = {"kind": "address", "address": "tls://host:8786"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("slurm", "[cluster.x]"),
        ({}, "kind"),
        ({"kind": 3}, "kind"),
        ({"kind": "slrm"}, "'slurm'"),
        ({"kind": "package.Class"}, "module:Class"),
        (SLURM | {"n_workers": 0}, "n_workers"),
        (SLURM | {"n_workers": True}, "n_workers"),
        (SLURM | {"n_workers": "2"}, "n_workers"),
        (SLURM | {"n_workers": 2, "maximum": 3}, "minimum"),
        (SLURM | {"minimum": 2}, "maximum"),
        (SLURM | {"minimum": 3, "maximum": 2}, "above"),
        (SLURM | {"wait_seconds": 0}, "wait_seconds"),
        (SLURM | {"insecure": "yes"}, "insecure"),
        (SLURM | {"address": "tls://host:8786"}, "address"),
        (SLURM | {"tls_cert": "a"}, "tls_ca_file and tls_key"),
        ({"kind": "address"}, "address"),
        (ADDRESS | {"n_workers": 2}, "n_workers"),
        (ADDRESS | {"adress": "x"}, "'address'"),
        (ADDRESS | {"queue": "x"}, "queue"),
        (ADDRESS | {"address": "host:8786"}, "tls://"),
        (ADDRESS | {"address": "http://host:8786"}, "tls://"),
        (ADDRESS | {"address": "tls://host"}, "8786"),
        (ADDRESS | {"address": "tls://:8786"}, "8786"),
        (ADDRESS | {"address": "tls://host:99999"}, "8786"),
    ],
)
def test_mistakes_are_named_with_what_to_do(table: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings("x", table, tmp_path, "curidask.toml")
    assert said in str(caught.value)
    assert "curidask.toml" in caught.value.where
    assert caught.value.fix


@pytest.mark.parametrize("name", ["with space", "1st", "a/b", ""])
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        read_settings(name, SLURM, tmp_path, "curidask.toml")


def test_what_is_not_ours_is_passed_on(tmp_path: Path) -> None:
    table = SLURM | {"n_workers": 3, "tls_ca_file": "a", "tls_cert": "/b", "tls_key": "c"}
    settings = read_settings("x", table, tmp_path, "")
    assert settings.options == {"queue": "debug"}
    assert (settings.n_workers, settings.at_least, settings.is_adaptive) == (3, 3, False)
    assert (settings.tls_ca_file, settings.tls_cert) == (str(tmp_path / "a"), "/b")
    adaptive = read_settings("x", SLURM | {"maximum": 5}, tmp_path, "")
    assert (adaptive.at_least, adaptive.is_adaptive) == (0, True)


def test_choosing(tmp_path: Path) -> None:
    tables = {"lab": ADDRESS, "slurm": SLURM}
    assert find("lab", tables, root=tmp_path).kind == "address"
    assert find("tls://other:1", tables, root=tmp_path).address == "tls://other:1"
    assert find("local", tables, root=tmp_path).kind == "local"
    for asked, said in (("slrum", "'slurm'"), ("elsewhere", "lab, slurm"), ("host:8786", "tls://host:8786")):
        with pytest.raises(ConfigurationError) as caught:
            find(asked, tables, root=tmp_path)
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('cluster = "slurm"', "default_cluster"),
        ('ship = "project/*.json"', "list"),
        ("ship = [1]", "list"),
        ("default_cluster = 3", "default_cluster"),
    ],
)
def test_settings_of_a_wrong_type(project: Project, text: str, said: str) -> None:
    project.write("curidask.toml", text)
    with pytest.raises(ConfigurationError) as caught:
        load_config(project.root, {})
    assert said in str(caught.value)


def test_settings_from_file_and_environment(project: Project) -> None:
    project.write("curidask.toml", 'default_cluster = "a"\nship = ["x/*"]\n[cluster.a]\nkind = "local"\nn_workers = 2')
    config = load_config(project.root, {"CURIDASK_DEFAULT_CLUSTER": "b"})
    assert config.ship == ("x/*",)
    assert config.default_cluster == "b"
    assert config.cluster == {"a": {"kind": "local", "n_workers": 2}}


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--cluster", "nowhere"], 2, "There is no cluster 'nowhere'"),
        (["--cluster", "lab", "--scheduler", "tls://a:1"], 2, "either"),
        (["--cluster", "lab", "--parallel", "2"], 2, "Both"),
        (["--scheduler", "a:1"], 2, "tls://a:1"),
        (["--scheduler", "tcp://192.0.2.77:8786"], 2, "--insecure"),
        (["--scheduler", "tls://127.0.0.1:1"], 2, "curidask cluster certs"),
        (["--cluster", "queue"], 2, "'queue'"),
        (["--cluster", "threads"], 2, "'processes'"),
        (["--cluster", "module"], 2, "no_such_module"),
        (["--cluster", "class"], 2, "NoSuchClass"),
        (["--cluster", "function"], 2, "no dask cluster"),
        (["--cluster", "argument"], 1, "no_such_argument"),
        (["--cluster", "lab", "--cache", "memory://x"], 2, "memory://x"),
    ],
)
def test_mistakes_end_a_run_before_it_starts(project: Project, flags: list[str], code: int, said: str) -> None:
    project.write(
        "curidask.toml",
        """
        [cluster.lab]
        kind = "address"
        address = "tls://127.0.0.1:1"
        [cluster.queue]
        kind = "slurm"
        queu = "debug"
        [cluster.threads]
        kind = "local"
        processes = false
        [cluster.module]
        kind = "no_such_module:Class"
        [cluster.class]
        kind = "distributed:NoSuchClass"
        [cluster.function]
        kind = "collections:OrderedDict"
        [cluster.argument]
        kind = "distributed:LocalCluster"
        no_such_argument = 1
        """,
    )
    refused = project.experiment("demo", *flags)
    assert refused.returncode == code, refused.stderr
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr or "argument" in flags  # the workers' own
    assert project.calls() == {}


@pytest.mark.parametrize(("kind", "module"), [("slurm", "dask_jobqueue"), ("kubernetes", "dask_kubernetes")])
def test_missing_package_names_the_extra(project: Project, tmp_path: Path, kind: str, module: str) -> None:
    project.write("curidask.toml", f'[cluster.x]\nkind = "{kind}"')
    # A module of that name that cannot be imported stands before the real one; one of the project's would not.
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / f"{module}.py").write_text("raise ImportError('not here')")
    refused = project.experiment("demo", "--cluster", "x", env={"PYTHONPATH": str(shadow)})
    assert refused.returncode == 2, refused.stderr
    assert f"curidask[{kind}]" in refused.stderr


OTHERS = """
from contextlib import contextmanager
from functools import partial
from curidask.clusters import Connection
from curidask.clusters.existing import given
from curidask.clusters.kinds import ClusterKind

@contextmanager
def one_here(settings):
    from distributed import LocalCluster
    with LocalCluster(n_workers=settings.at_least, threads_per_worker=1, dashboard_address=None) as cluster:
        with given(cluster) as connection:
            yield connection

class Mine(ClusterKind):
    wait_seconds = 7.0
    def opener(self, settings, folder):
        return partial(one_here, settings)

KIND = Mine()
WRONG = 3
"""


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path in which a package with kinds of clusters is installed."""
    folder = tmp_path / "site-packages"
    about = folder / "others_kinds-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: others-kinds\nVersion: 1.0\n")
    points = "mine = others_kinds:KIND\nwrong = others_kinds:WRONG\ngone = others_kinds:GONE\n"
    (about / "entry_points.txt").write_text(f"[curidask.clusters]\n{points}")
    (folder / "others_kinds.py").write_text(OTHERS)
    monkeypatch.syspath_prepend(str(folder))
    kinds._of_others.cache_clear()
    yield folder
    kinds._of_others.cache_clear()
    sys.modules.pop("others_kinds", None)


def test_another_package_may_add_a_kind(others: Path, tmp_path: Path) -> None:
    settings = read_settings("x", {"kind": "mine", "n_workers": 2, "colour": "red"}, tmp_path, "")
    assert (settings.wait_seconds, settings.at_least, settings.options) == (7.0, 2, {"colour": "red"})
    with pytest.raises(ConfigurationError, match="mine"):
        read_settings("x", {"kind": "mien"}, tmp_path, "")
    for name, said in (("wrong", "is no object of a subclass"), ("gone", "cannot be loaded: AttributeError")):
        with pytest.raises(ConfigurationError, match=said) as caught:
            read_settings("x", {"kind": name}, tmp_path, "")
        assert caught.value.fix


def test_a_run_on_a_kind_of_another_package(others: Path, in_project: Project) -> None:
    in_project.write("curidask.toml", '[cluster.lab]\nkind = "mine"\nn_workers = 1\n')
    done = in_project.experiment("demo", "--cluster", "lab", "--no-report", env={"PYTHONPATH": str(others)}, timeout=90)
    assert done.returncode == 0, done.stderr
    assert in_project.last_run()["status"] == "done"
