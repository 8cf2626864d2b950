"""Runs with a signing key: nothing that somebody else put into the cache is loaded, and the key is nowhere."""

from __future__ import annotations

import hashlib
import json
import pickle
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from curidask.core.artifact_names import manifest_name
from curidask.execution.base import Environment
from curidask.manager import ArtifactManager
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import open_objects
from curidask.store.manifest import FileEntry, Manifest, split_signature, with_signature
from curidask.store.signing import VARIABLE, Keyring
from tests.conftest import DEMO, TABLE, Project
from tests.s3server import S3Server

OURS, THEIRS = "the key of our team", "the key of another team"
N_STORED = 9
QUICK = ("demo", "--parallel", "0", "--no-report")


class Evil:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return (open, (str(self.trace), "w"))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose cache our key has signed, for copies."""
    made = Project(tmp_path_factory.mktemp("signed") / "project")
    made.write("curidask.toml", "")
    made.write("experiments/demo.py", DEMO)
    done = made.experiment(*QUICK, env={VARIABLE: OURS})
    assert done.returncode == 0, done.stderr
    made.calls()
    return made.root


@pytest.fixture
def team(signed: Path, tmp_path: Path) -> Project:
    """A copy of it in which the scores are gone, so that a run has to load what is below them."""
    project = Project(Path(shutil.copytree(signed, tmp_path / "project")))
    for path in (*project.cache.glob("*_score_*"), *project.cache.glob("*_gather_*")):
        path.unlink()
    return project


def loaded(project: Project) -> Manifest:
    """The manifest of the pickle that the first set loads."""
    store = ArtifactStore.open(project.cache)
    manifests = [store.manifest(path.name.removesuffix(".pkl")) for path in project.artifacts("load_data")]
    (found,) = [manifest for manifest in manifests if manifest is not None and manifest.set_name == "set0"]
    return found


def plant(project: Project, encode: Callable[[Manifest, bytes], bytes]) -> Path:
    """Put a pickle that runs code in the place of one, with a manifest that fits it; where its trace would be."""
    trace, manifest = project.root.parent / "trace", loaded(project)
    data = pickle.dumps(Evil(trace))
    genuine = (project.cache / manifest_name(manifest.stem)).read_bytes()
    entry = FileEntry(manifest.files[0].name, len(data), hashlib.sha256(data).hexdigest())
    (project.cache / (manifest.stem + entry.name)).write_bytes(data)
    (project.cache / manifest_name(manifest.stem)).write_bytes(encode(replace(manifest, files=(entry,)), genuine))
    return trace


def unsigned(manifest: Manifest, genuine: bytes) -> bytes:
    return manifest.to_bytes()


def of_another_key(manifest: Manifest, genuine: bytes) -> bytes:
    return Keyring([THEIRS]).sign(manifest.to_bytes())


def forged(manifest: Manifest, genuine: bytes) -> bytes:
    return with_signature(manifest.to_bytes(), split_signature(genuine)[0])


def replayed(manifest: Manifest, genuine: bytes) -> bytes:
    """One that our key did sign: for an artifact of another name with these very files."""
    return Keyring([OURS]).sign(replace(manifest, stem=manifest.stem.replace("load", "other")).to_bytes())


def of_another_artifact_key(manifest: Manifest, genuine: bytes) -> bytes:
    """One that our key did sign, under this name, for another artifact key."""
    return Keyring([OURS]).sign(replace(manifest, key=manifest.key[:12] + "0" * 52).to_bytes())


ATTACKS = (unsigned, of_another_key, forged, replayed, of_another_artifact_key)


def test_without_a_key_the_planted_pickle_would_run(team: Project) -> None:
    trace = plant(team, unsigned)
    team.experiment(*QUICK)
    assert trace.exists()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_with_a_key_it_never_does(team: Project, attack: Callable[[Manifest, bytes], bytes]) -> None:
    trace = plant(team, attack)
    done = team.experiment(*QUICK, env={VARIABLE: OURS})
    assert done.returncode == 0, done.stderr
    assert not trace.exists()
    scores = [json.loads(path.read_text()) for path in team.artifacts("gather_table")]
    assert scores == [TABLE]
    assert team.calls()["load_set0"] == 1
    again = team.experiment(*QUICK, env={VARIABLE: OURS})
    assert again.returncode == 0, again.stderr
    assert team.calls() == {}


def moved(manifest: Manifest, genuine: bytes) -> bytes:
    """One that our key did sign, as it lies under another name, of another artifact key."""
    return Keyring([OURS]).sign(replace(manifest, stem=f"{manifest.stem[:-12]}{'0' * 12}", key="0" * 64).to_bytes())


@pytest.mark.parametrize(
    ("attack", "why"), [(of_another_key, "signed with another key"), (moved, "signed for another artifact")]
)
def test_workers_check_too_and_a_warning_says_how_many_are_not_trusted(
    team: Project, attack: Callable[[Manifest, bytes], bytes], why: str
) -> None:
    trace = plant(team, attack)
    told = team.experiment(*QUICK, "--dry", env={VARIABLE: OURS})
    assert "1 artifact is not trusted" in told.stderr
    assert f": 1 {why}" in told.stderr
    team.calls()
    done = team.experiment("demo", "--parallel", "2", "--no-report", env={VARIABLE: OURS})
    assert done.returncode == 0, done.stderr
    assert not trace.exists()
    assert done.stderr.count("1 artifact is not trusted") == 1
    assert f": 1 {why}" in done.stderr
    assert team.calls()["load_set0"] == 1
    store = ArtifactStore.open(team.cache, keys=Keyring([OURS]))
    stems = [path.name[: -len("_metadata.json")] for path in team.cache.glob("*_metadata.json")]
    assert store.present(stems) == set(stems)  # what workers commit, they sign


def test_keys_are_rotated(signed: Path, tmp_path: Path) -> None:
    team = Project(Path(shutil.copytree(signed, tmp_path / "project")))
    new = "a key that is new"

    def computed(keys: str) -> int:
        done = team.experiment(*QUICK, env={VARIABLE: keys})
        assert done.returncode == 0, done.stderr
        return sum(count for stage, count in team.calls().items() if not stage.startswith("change"))

    assert computed(f"{new},{OURS}") == 0
    assert computed(new) == N_STORED
    assert computed(f"{OURS},{new}") == 0
    assert computed(OURS) == N_STORED


NO_KEY_FOR_WORKERS = DEMO.replace(
    "def run(param_sets, manager):\n",
    f"def run(param_sets, manager):\n    import os; os.environ.pop({VARIABLE!r}, None)\n",
)


def test_workers_take_the_key_from_their_own_environment_or_file(project: Project) -> None:
    project.write("experiments/demo.py", NO_KEY_FOR_WORKERS)
    refused = project.experiment("demo", "--parallel", "2", "--no-report", env={VARIABLE: OURS})
    assert refused.returncode == 1
    assert VARIABLE in refused.stderr
    assert OURS not in refused.stderr
    assert project.artifacts() == []
    project.write("keys", OURS).chmod(0o600)
    project.write("curidask.toml", 'cache_key_file = "keys"\n')
    done = project.experiment("demo", "--parallel", "2", "--no-report")
    assert done.returncode == 0, done.stderr
    assert len(project.artifacts()) == N_STORED


def test_a_key_that_can_be_guessed_is_refused(project: Project) -> None:
    done = project.experiment(*QUICK, env={VARIABLE: "secret"})
    assert done.returncode == 2
    assert VARIABLE in done.stderr
    assert project.calls() == {}


# --- no secret anywhere ----------------------------------------------------------------------------------------------
def everything_said_and_written(project: Project, url: str, env: dict[str, str]) -> list[bytes]:
    """All that runs and commands print, write into the project and the near cache, and put into the bucket."""
    said = []
    for name, *arguments in (
        ("experiment", "demo", "--map"),
        ("experiment", "demo", "--parallel", "2", "-v", "-s", "--notebook", "--log-errors"),
        ("experiment", "demo", "--parallel", "0", "--print-params", "-v"),
        ("experiment", "demo", "--paths"),
        ("curidask", "cache", "ls", "--json"),
        ("curidask", "cache", "show", "gather_table", "--json"),
        ("curidask", "cache", "pull", "--to", "laptop"),
        ("curidask", "cache", "gc", "--json"),
    ):
        done = project.command(name, *arguments, env=env)
        assert done.returncode == 0, done.stderr
        said.append((done.stdout + done.stderr).encode())
    wrong = project.command("curidask", "cache", "ls", "--cache", "s3://no-such-bucket/x", env=env)
    assert wrong.returncode == 1
    files = [path.read_bytes() for path in project.root.parent.rglob("*") if path.is_file()]
    objects = open_objects(url)
    stored = objects.read_many([*objects.list(), *objects.list("."), *objects.list(".runs/")])
    assert any(b"signature" in data for data in stored.values())
    return [*said, wrong.stdout.encode(), wrong.stderr.encode(), *files, *stored.values()]


def test_no_secret_is_said_written_stored_or_sent(
    project: Project, s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"signing{secrets.token_hex(16)}"
    env = {**s3_server.env, VARIABLE: key, "CURIDASK_CACHE": s3}
    parts = everything_said_and_written(project, s3, env)
    monkeypatch.setenv(VARIABLE, key)
    monkeypatch.chdir(project.root)
    with ArtifactManager("demo", cache=s3, parallel=2, live=False) as manager:
        work = Environment(manager.store, manager.reference, portable=True, claims=manager.claims, work="work")
        sent = pickle.dumps(work)
    assert s3.encode() in sent
    for secret in (key, s3_server.owner.secret, s3_server.owner.key):
        assert [part[:200] for part in (*parts, sent) if secret.encode() in part] == []
