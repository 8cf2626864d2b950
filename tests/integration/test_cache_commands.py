"""`curidask cache …` as a user types it, on a folder, on tiers, and on a real S3 server."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curidask.cli import commands as command_line
from curidask.core.artifact_names import manifest_name
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import open_objects
from curidask.store.backends.conditional_put import forget
from curidask.store.claims import Claims, claim_name
from curidask.store.maintenance.inventory import take_inventory
from curidask.store.maintenance.usage import RunReferences
from tests.careless_s3 import CarelessS3
from tests.conftest import DEMO, Project
from tests.s3server import S3Server, make_account

N_ARTIFACTS = 9
LONG_AGO = time.time() - 40 * 86400


class Result:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Result]


@pytest.fixture
def curidask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command line, in this process."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["curidask", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        done = capsys.readouterr()
        assert "Traceback" not in done.err
        return Result(int(ended.value.code or 0), done.out, done.err)

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose experiment has run once, for copies."""
    made = Project(tmp_path_factory.mktemp("finished") / "project")
    made.write("curidask.toml", "")
    made.write("experiments/demo.py", DEMO)
    done = made.experiment("demo", "--parallel", "0", "--no-report")
    assert done.returncode == 0, done.stderr
    return made.root


@pytest.fixture
def team(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of it, with this process in its folder."""
    project = Project(Path(shutil.copytree(finished, tmp_path / "project")))
    monkeypatch.chdir(project.root)
    return project


def stems(place: str | Path) -> set[str]:
    return {entry.stem for entry in take_inventory(ArtifactStore.open(place)).artifacts}


def uses_of(place: str | Path) -> list[dict[str, Any]]:
    objects = open_objects(place)
    return [json.loads(data) for data in objects.read_many(objects.list(".runs/")).values()]


def make_old(place: str | Path) -> None:
    """Let all that is in a cache have been made and used long ago."""
    store = ArtifactStore.open(place)
    for entry in take_inventory(store).artifacts:
        data = store.objects.read(manifest_name(entry.stem))
        assert entry.manifest is not None
        old = replace(entry.manifest, created="2020-01-01T00:00:00+00:00").to_bytes()
        assert old != data
        store.objects.write(manifest_name(entry.stem), old)
    kept = [*store.objects.list(".code/"), *store.objects.list(".lineage/")]
    for name in kept if store.local_root else ():
        os.utime(f"{store.local_root}/{name}", (LONG_AGO, LONG_AGO))
    for name in store.objects.list(".runs/"):
        values = json.loads(store.objects.read(name)) | {"started": LONG_AGO, "seen": LONG_AGO}
        store.objects.write(name, json.dumps(values).encode())


def rerun(project: Project, *arguments: str) -> None:
    done = project.experiment("demo", "--parallel", "0", "--no-report", *arguments)
    assert done.returncode == 0, done.stderr


def spoil(project: Project, part: str) -> None:
    path = project.artifacts(part)[0]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


# --- looking ---------------------------------------------------------------------------------------------------------
def test_ls_lists_what_fits(team: Project, curidask: Command) -> None:
    lines = curidask("cache", "ls").out.splitlines()
    assert len(lines) == N_ARTIFACTS + 2
    rows = curidask("cache", "ls", "--stage", "load", "--sort", "name", "--json").json
    assert [row["stage"] for row in rows] == ["load"] * 4
    assert [row["name"] for row in rows] == sorted(stems(team.cache) & {row["name"] for row in rows})
    largest = curidask("cache", "ls", "--sort", "size", "-n", "1", "--json").json
    sizes = [row["size_bytes"] for row in curidask("cache", "ls", "--json").json]
    assert [row["size_bytes"] for row in largest] == [max(sizes)]
    for arguments in (["--user", "nobody"], ["--experiment", "other"], ["--older", "1h"]):
        assert curidask("cache", "ls", *arguments, "--json").json == []
        assert str(team.cache) in curidask("cache", "ls", *arguments).out


def test_du_sums_up(team: Project, curidask: Command) -> None:
    rows = curidask("cache", "du", "--by", "stage", "--json").json
    assert {row["stage"]: row["artifacts"] for row in rows} == {"load": 4, "score": 4, "gather": 1}
    assert sum(row["size_bytes"] for row in rows) == sum(path.stat().st_size for path in team.artifacts())
    assert [row["size_bytes"] for row in rows] == sorted((row["size_bytes"] for row in rows), reverse=True)
    (row,) = curidask("cache", "du", "--by", "experiment", "--by", "age", "--json").json
    assert (row["experiment"], row["age"], row["artifacts"]) == ("demo", "up to a day", N_ARTIFACTS)
    make_old(team.cache)
    assert [row["age"] for row in curidask("cache", "du", "--by", "age", "--json").json] == ["older"]
    assert len(curidask("cache", "du").out.splitlines()) == 3


def test_show_tells_what_an_artifact_is_and_who_used_it(team: Project, curidask: Command) -> None:
    path = team.artifacts("gather_table")[0]
    (known,) = curidask("cache", "show", "gather_table", "--json").json
    assert (known["stage"], known["output"], known["signature"]) == ("gather", "table", "not signed")
    assert [file["size_bytes"] for file in known["files"]] == [path.stat().st_size]
    assert [use["run"] for use in known["used_by"]] == [team.last_run()["reference"]]
    assert len(known["inputs"]) == 4
    assert curidask("cache", "show", str(path), "--json").json == [known]
    assert curidask("cache", "show", known["name"], "--json").json == [known]
    text = curidask("cache", "show", "gather_table").out
    assert all(str(known[part]) in text for part in ("key", "host", "run", "cacher"))


@pytest.mark.parametrize(("name", "said"), [("nothing_like_it", "no artifact"), ("load_data", "4 artifacts")])
def test_show_needs_one_artifact(team: Project, curidask: Command, name: str, said: str) -> None:
    done = curidask("cache", "show", name)
    assert done.code == 2
    assert said in done.err


def test_a_damaged_manifest_is_told_as_such(team: Project, curidask: Command) -> None:
    path = next(team.cache.glob("*gather_table*_metadata.json"))
    path.write_bytes(path.read_bytes().replace(b'"stage"', b'"STAGE"'))
    assert "damaged" in curidask("cache", "ls").out
    (known,) = curidask("cache", "show", "gather_table", "--json").json
    assert "cut off or changed" in known["problem"]
    assert curidask("cache", "du").code == 0


def test_names_cannot_move_the_cursor(team: Project, curidask: Command) -> None:
    store = ArtifactStore.open(team.cache)
    one = take_inventory(store).artifacts[0]
    assert one.manifest is not None
    store.objects.write(
        manifest_name(one.stem), replace(one.manifest, user="\x1b[2Jx", preview="\x1b]0;x\x07").to_bytes()
    )
    for arguments in (["ls"], ["show", one.stem], ["du", "--by", "user"]):
        assert "\x1b" not in curidask("cache", *arguments).out


@pytest.mark.parametrize("command", ["ls", "du", "verify", "gc", "pull"])
def test_a_cache_that_is_not_there(team: Project, curidask: Command, command: str) -> None:
    done = curidask("cache", command, "--cache", "no/such/folder", *(["--to", "other"] if command == "pull" else []))
    assert done.code == 2
    assert "no cache" in done.err
    assert "no/such/folder" in done.err
    assert not (team.root / "no").exists()


# --- verify ----------------------------------------------------------------------------------------------------------
def test_verify_finds_what_is_not_what_was_committed(team: Project, curidask: Command) -> None:
    assert curidask("cache", "verify").code == 0
    spoil(team, "gather_table")
    spoil(team, "load_data")
    team.artifacts("score_score")[0].unlink()
    done = curidask("cache", "verify", "--json")
    assert done.code == 1
    assert {row["kind"] for row in done.json["problems"]} == {"damaged"}
    assert len(done.json["problems"]) == 2  # what lost its file altogether is no artifact any more
    assert "2" in curidask("cache", "verify").out
    assert curidask("cache", "verify", "--stage", "score").code == 0


def test_verify_can_load_as_well(team: Project, curidask: Command) -> None:
    assert curidask("cache", "verify", "--load").code == 0
    store = ArtifactStore.open(team.cache)
    manifests = [one.manifest for one in take_inventory(store).artifacts if one.manifest is not None]
    manifest = next(manifest for manifest in manifests if manifest.cacher == "JsonCacher")
    data = b'{"cut off'
    entry = replace(manifest.files[0], size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    store.objects.write(manifest.stem + entry.name, data)
    store.objects.write(manifest_name(manifest.stem), replace(manifest, files=(entry,)).to_bytes())
    assert curidask("cache", "verify").code == 0
    done = curidask("cache", "verify", "--load", "--json")
    assert done.code == 1
    (row,) = done.json["problems"]
    assert row["kind"] == "damaged"
    assert "JsonCacher cannot load it" in row["problem"]


def test_verify_checks_signatures(team: Project, curidask: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURIDASK_CACHE_KEY", "a key of the team")
    done = curidask("cache", "verify", "--json")
    assert done.code == 1
    assert [row["kind"] for row in done.json["problems"]] == ["untrusted"] * N_ARTIFACTS


# --- gc --------------------------------------------------------------------------------------------------------------
def test_gc_removes_what_nobody_used_and_a_run_makes_it_again(team: Project, curidask: Command) -> None:
    before = stems(team.cache)
    assert curidask("cache", "gc", "--unused", "30d").code == 0
    assert stems(team.cache) == before
    make_old(team.cache)
    plan = curidask("cache", "gc", "--unused", "30d", "--dry-run", "--json").json
    assert {row["name"] for row in plan["planned"]} == before
    assert stems(team.cache) == before
    done = curidask("cache", "gc", "--unused", "30d", "--json").json
    assert set(done["stems"]) == before
    assert sorted(path.name for path in team.cache.iterdir()) == []
    assert team.calls() != {}
    rerun(team)
    assert sum(team.calls().values()) == 13


def test_gc_keeps_the_last_runs_and_what_is_young(team: Project, curidask: Command) -> None:
    make_old(team.cache)
    assert curidask("cache", "gc", "--unused", "30d", "--keep-runs", "1", "--json").json["stems"] == []
    assert curidask("cache", "gc", "--max-size", "0", "--grace", "100000d", "--json").json["stems"] == []
    done = curidask("cache", "gc", "--max-size", "100B", "--json").json
    assert 0 < len(done["stems"]) < N_ARTIFACTS
    assert ArtifactStore.open(team.cache).objects.list() != []
    assert sum(path.stat().st_size for path in team.artifacts()) <= 100


def test_gc_leaves_what_a_run_says_to_use(team: Project, curidask: Command) -> None:
    make_old(team.cache)
    used = sorted(stems(team.cache))[:3]
    use = RunReferences([open_objects(team.cache)], reference="going_on_1", experiment="demo")
    use.register(used)
    done = curidask("cache", "gc", "--unused", "1d", "--grace", "0s", "--json").json
    assert stems(team.cache) == set(used)
    assert done["protected"] == {}  # they count as used just now
    use.end(used)
    assert curidask("cache", "gc", "--unused", "0s", "--grace", "1h", "--json").json["stems"] == []


def test_gc_removes_what_dead_runs_left(team: Project, curidask: Command) -> None:
    objects = open_objects(team.cache)
    alive = RunReferences([objects], reference="alive_1", session="a" * 32, work="alive_1-aaaaaaaaaaaa")
    alive.register(["x_y.0123456789ab"])
    owners = {}
    for letter in "ad":  # the session of the run that is alive, and that of one that is dead
        owner = Claims(objects, letter * 32, "ann", 60).owner.to_bytes()
        owners[letter] = json.dumps(json.loads(owner) | {"since": LONG_AGO}).encode()
        objects.write(claim_name(f"stem{letter}", 0), owners[letter])
        objects.write(f".claimant-{letter * 32}-{letter}", owners[letter])
    for name, since in (("old", LONG_AGO), ("young", time.time())):  # of a clean-up that was killed, and one under way
        objects.write(f".gc/{name}.json", json.dumps({"who": "ann", "since": since, "stems": []}).encode())
    young = Claims(objects, "y" * 32, "ann", 60).owner.to_bytes()
    objects.write(claim_name("stemy", 0), young)
    for name in (".work-alive_1-aaaaaaaaaaaa-00000000", ".work-dead_1-dddddddddddd-00000000", "sub/.tmp-1-2-00000003"):
        (team.cache / name).mkdir(parents=True)
        os.utime(team.cache / name, (LONG_AGO, LONG_AGO))
    (team.cache / ".work-young_1-cccccccccccc-00000000").mkdir()
    before = stems(team.cache)
    planned = curidask("cache", "gc", "--dry-run", "--json").json["leftovers"]
    assert len(planned) == 5
    assert curidask("cache", "gc", "--json").json["n_leftovers"] == 5
    assert objects.list(".gc/") == [".gc/young.json"]
    left = sorted(path.name for path in team.cache.iterdir() if path.name.startswith((".cl", ".w", ".t")))
    assert left == [
        ".claim-stema.0",
        ".claim-stemy.0",
        f".claimant-{'a' * 32}-a",
        ".work-alive_1-aaaaaaaaaaaa-00000000",
        ".work-young_1-cccccccccccc-00000000",
    ]
    assert stems(team.cache) == before
    alive.end([])


def test_gc_removes_halves_of_commits(team: Project, curidask: Command) -> None:
    make_old(team.cache)
    lost = next(team.cache.glob("*gather_table*_metadata.json"))
    payload = team.artifacts("gather_table")
    lost.unlink()
    assert payload[0].exists()
    assert curidask("cache", "gc", "--json").json["n_leftovers"] == 1
    assert not payload[0].exists()
    assert len(stems(team.cache)) == N_ARTIFACTS - 1


def test_gc_asks_which_tier_and_leaves_one_that_is_only_read(team: Project, curidask: Command) -> None:
    team.write("curidask.toml", 'cache = ["data/cache", "shared"]\ncache_mode = "rw,ro"\n')
    shutil.copytree(team.cache, team.root / "shared")
    assert "--tier" in curidask("cache", "gc").err
    assert curidask("cache", "gc", "--tier", "3").code == 2
    refused = curidask("cache", "gc", "--tier", "2", "--keep-runs", "0", "--grace", "0s")
    assert refused.code == 2
    assert "'ro'" in refused.err
    assert stems("shared") == stems(team.cache) != set()
    assert curidask("cache", "gc", "--tier", "1", "--keep-runs", "0", "--grace", "0s").code == 0
    assert stems(team.cache) == set() != stems("shared")


@pytest.mark.parametrize(
    "arguments", [["--unused", "30"], ["--max-size", "much"], ["--grace", "-1d"], ["--keep-runs", "-1"]]
)
def test_gc_refuses_what_it_does_not_understand(team: Project, curidask: Command, arguments: list[str]) -> None:
    done = curidask("cache", "gc", *arguments)
    assert done.code == 2
    assert arguments[0] in done.err
    assert len(stems(team.cache)) == N_ARTIFACTS


# --- pull and push ---------------------------------------------------------------------------------------------------
def test_push_and_pull_take_a_run_to_the_shared_tier_and_to_another_machine(team: Project, curidask: Command) -> None:
    team.write("curidask.toml", 'cache = ["data/cache", "../shared"]\n')
    shared, here = team.root.parent / "shared", stems(team.cache)
    reference = team.last_run()["reference"]
    assert curidask("cache", "push", "--dry-run", "--json").json["runs"][0]["reference"] == reference
    assert not shared.exists()
    done = curidask("cache", "push", "--json").json
    assert {row["result"] for row in done["artifacts"]} == {"copied"}
    assert stems(shared) == here
    assert "9 there already" in curidask("cache", "push", "latest").out
    shutil.rmtree(team.cache)
    shutil.rmtree(team.root / "data" / "runs")  # another machine: the shared tier alone knows the run
    assert curidask("cache", "pull", reference[: len("demo_1")]).code == 0
    assert stems(team.cache) == here
    shutil.rmtree(shared)
    team.calls()
    rerun(team, "--cache", "data/cache")
    assert team.calls() == {}


def test_what_is_pulled_counts_as_used(team: Project, curidask: Command) -> None:
    make_old(team.cache)
    assert curidask("cache", "pull", "--from", "data/cache", "--to", "laptop").code == 0
    assert curidask("cache", "gc", "--cache", "laptop", "--unused", "30d", "--json").json["stems"] == []
    assert [use["reference"] for use in uses_of("laptop")] == [team.last_run()["reference"]]


def test_all_of_a_cache_is_copied_and_damage_is_not(team: Project, curidask: Command) -> None:
    spoil(team, "gather_table")
    reference = team.last_run()["reference"]
    done = curidask("cache", "push", "--all", "--to", "copy", "--json")
    assert done.code == 1
    (failed,) = [row for row in done.json["artifacts"] if row["result"] == "failed"]
    assert "gather_table" in failed["name"]
    assert len(stems("copy")) == N_ARTIFACTS - 1
    assert "not copied" in curidask("cache", "push", "--all", "--to", "copy").out
    # It is no run: neither the latest one, nor one of the last ones to be kept.
    assert curidask("cache", "push", "--to", "other", "--dry-run", "--json").json["runs"][0]["reference"] == reference
    make_old("copy")
    assert curidask("cache", "gc", "--cache", "copy", "--unused", "30d", "--keep-runs", "5").code == 0
    assert stems("copy") == set()


def test_what_is_gone_is_told(team: Project, curidask: Command) -> None:
    for path in team.cache.glob("*gather_table*"):
        path.unlink()
    done = curidask("cache", "push", "--to", "copy", "--json")
    assert done.code == 1
    assert [row["result"] for row in done.json["artifacts"]].count("missing") == 1


def test_a_run_that_only_its_record_knows(team: Project, curidask: Command) -> None:
    shutil.rmtree(team.cache / ".runs")
    assert curidask("cache", "push", "--to", "copy").code == 0
    assert stems("copy") == stems(team.cache)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pull", "demo_9", "--to", "x"], "demo_9"),
        (["pull", "--experiment", "other", "--to", "x"], "other"),
        (["pull"], "same place"),
        (["push", "--all", "latest", "--to", "x"], "--all"),
        (["push", "--to", "7"], "7"),
        (["push", "--to", "a,b"], "several places"),
    ],
)
def test_copying_says_what_it_cannot_do(team: Project, curidask: Command, arguments: list[str], said: str) -> None:
    done = curidask("cache", *arguments)
    assert done.code == 2
    assert said in done.err
    assert not (team.root / "x").exists()


# --- on a real S3 server ---------------------------------------------------------------------------------------------
@pytest.fixture(params=["fsspec", "obstore"])
def bucket(request: pytest.FixtureRequest, s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place in a bucket, with either client."""
    monkeypatch.setenv("CURIDASK_OBJECT_CLIENT", request.param)
    forget()
    return s3


def test_a_bucket_is_filled_looked_at_verified_and_cleaned_up(team: Project, bucket: str, curidask: Command) -> None:
    assert curidask("cache", "push", "--to", bucket).code == 0
    assert stems(bucket) == stems(team.cache)
    at = ["--cache", bucket]
    assert len(curidask("cache", "ls", *at, "--json").json) == N_ARTIFACTS
    assert curidask("cache", "du", *at, "--json").json[0]["artifacts"] == N_ARTIFACTS
    assert curidask("cache", "show", "gather_table", *at, "--json").json[0]["stage"] == "gather"
    objects = open_objects(bucket)
    (payload,) = [n for n in objects.list() if "gather_table" in n and "_metadata" not in n]
    objects.write(payload, b"{}")
    done = curidask("cache", "verify", *at, "--json")
    assert (done.code, len(done.json["problems"])) == (1, 1)
    assert curidask("cache", "pull", *at, "--to", "laptop").code == 1
    assert len(stems("laptop")) == N_ARTIFACTS - 1
    make_old(bucket)
    objects.write(
        claim_name("stem", 0),
        json.dumps(json.loads(Claims(objects, "d" * 32, "ann", 60).owner.to_bytes()) | {"since": LONG_AGO}).encode(),
    )
    assert curidask("cache", "gc", *at, "--unused", "30d").code == 0
    assert objects.list() == objects.list(".claim-") == objects.list(".gc/") == []


def test_who_may_only_read_checks_and_pulls(
    team: Project, s3: str, s3_server: S3Server, curidask: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert curidask("cache", "push", "--to", s3).code == 0
    for name, value in s3_server.reader.env.items():
        monkeypatch.setenv(name, value)
    done = curidask("cache", "check", s3, "--json")
    assert done.code == 1
    assert [(row["name"], row["ok"]) for row in done.json] == [("list", True), ("write", False)]
    assert "fix:" in curidask("cache", "check", s3).out
    assert curidask("cache", "check", s3, "--read-only").code == 0
    assert curidask("cache", "pull", "--from", s3, "--to", "laptop").code == 0
    assert stems("laptop") == stems(team.cache)
    refused = curidask("cache", "gc", "--cache", s3, "--keep-runs", "0", "--grace", "0s")
    assert refused.code == 1
    assert stems(s3) == stems(team.cache)


def test_gc_goes_on_past_what_it_may_not_remove(
    team: Project, curidask: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(team.cache)
    monkeypatch.setattr("curidask.store.maintenance.usage._may_remove", lambda path: "gather_table" not in path)
    done = curidask("cache", "gc", "--unused", "30d")
    assert done.code == 1
    assert done.out.count("stays: demo_") == 1
    assert "This user may not remove 'demo_" in done.out
    assert f"removed {N_ARTIFACTS - 1} artifacts" in done.out
    (left,) = stems(team.cache)
    assert curidask("cache", "verify").code == 0
    again = curidask("cache", "gc", "--unused", "30d", "--json")
    assert (again.code, list(again.json["refused"]), again.json["stems"]) == (1, [left], [])


def test_check_of_a_bucket(team: Project, s3: str, curidask: Command) -> None:
    done = curidask("cache", "check", s3, "--json")
    assert (done.code, {row["ok"] for row in done.json}) == (0, {True})
    assert open_objects(s3).list() == open_objects(s3).list(".check-") == open_objects(s3).list(".probe-") == []


def test_check_says_what_is_wrong(
    s3: str, s3_server: S3Server, team: Project, curidask: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = curidask("cache", "check", "s3://no-such-bucket/x", "--json")
    assert done.code == 1
    assert [row["ok"] for row in done.json] == [False]
    assert "bucket" in done.json[0]["says"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    done = curidask("cache", "check", s3)
    assert done.code == 1
    assert "credentials" in done.out


def test_check_of_a_folder_and_of_one_that_cannot_be_made(team: Project, curidask: Command) -> None:
    done = curidask("cache", "check", "--json").json
    assert all(row["ok"] for row in done)
    assert {"list", "read", "write", "create exclusively", "delete", "latency"} <= {row["name"] for row in done}
    assert not [path for path in team.cache.iterdir() if path.name.startswith(".check")]
    (team.root / "file").write_text("no folder")
    assert curidask("cache", "check", "file/cache").code == 1


def test_check_tells_a_place_that_does_not_create_exclusively(
    team: Project, curidask: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CarelessS3("ignores") as careless:
        for name, value in make_account("ann").env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", careless.endpoint)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("CURIDASK_OBJECT_CLIENT", "fsspec")
        done = curidask("cache", "check", "s3://cache/team", "--json")
    (row,) = [row for row in done.json if row["name"] == "create exclusively"]
    assert (row["ok"], row["needed"], done.code) == (False, False, 0)
    assert row["fix"]


# --- as a program ----------------------------------------------------------------------------------------------------
def test_from_a_shell(team: Project) -> None:
    done = team.command("curidask", "cache", "ls", "--json")
    assert (done.returncode, len(json.loads(done.stdout))) == (0, N_ARTIFACTS)
    failed = team.command("curidask", "cache", "ls", "--cache", "nowhere")
    assert (failed.returncode, failed.stdout) == (2, "")
