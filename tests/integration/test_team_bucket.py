"""An experiment whose cache is a bucket on a real server, with workers, as a user runs it."""

from __future__ import annotations

import pytest

from curidask.store.backends.base import open_objects
from tests.conftest import Project
from tests.s3server import S3Server

SETTINGS = """
cache = "{url}"
object_client = "{client}"

[storage]
endpoint_url = "{endpoint}"
region = "us-east-1"
key_env = "TEAM_KEY"
secret_env = "TEAM_SECRET"
"""


@pytest.fixture(params=["fsspec", "obstore"])
def team(request: pytest.FixtureRequest, project: Project, s3: str, s3_server: S3Server) -> Project:
    """The demo with its cache in a bucket, and credentials in variables of the team's own."""
    text = SETTINGS.format(url=s3, client=request.param, endpoint=s3_server.endpoint)
    project.write("curidask.toml", text)
    return project


def credentials(server: S3Server, **changes: str) -> dict[str, str]:
    """The environment of a member of the team, which has nothing of the usual variables."""
    usual = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"), "")
    return {**usual, "TEAM_KEY": server.owner.key, "TEAM_SECRET": server.owner.secret, **changes}


def test_workers_share_a_bucket_and_the_secret_is_nowhere(team: Project, s3_server: S3Server, s3: str) -> None:
    env = credentials(s3_server)
    first = team.experiment("demo", "--parallel", "2", "-v", env=env)
    assert first.returncode == 0, first.stderr
    assert sum(team.calls().values()) == 13
    again = team.experiment("demo", "--parallel", "2", env=env)
    assert again.returncode == 0, again.stderr
    assert team.calls() == {}
    objects = open_objects(s3)
    stored = objects.read_many(objects.list())
    assert any(name.endswith(".json") and b"set3" in data for name, data in stored.items())
    assert not team.cache.exists()
    said = (first.stdout + first.stderr + again.stdout + again.stderr).encode()
    files = [path.read_bytes() for path in team.root.rglob("*") if path.is_file()]
    assert any(s3.encode() in data for data in files)  # it does look where something of the cache is told
    for data in (said, *files, *stored.values()):
        assert s3_server.owner.secret.encode() not in data
        assert s3_server.owner.key.encode() not in data


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"TEAM_SECRET": "a-wrong-secret"}, "refuses the credentials"), ({"TEAM_KEY": ""}, "TEAM_KEY")],
)
def test_wrong_credentials_end_the_run_before_it_computes(
    team: Project, s3_server: S3Server, changes: dict[str, str], said: str
) -> None:
    done = team.experiment("demo", "--parallel", "0", env=credentials(s3_server, **changes))
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "a-wrong-secret" not in done.stdout + done.stderr
    assert team.calls() == {}


def test_a_bucket_that_is_not_there_ends_the_run_before_it_computes(team: Project, s3_server: S3Server) -> None:
    done = team.experiment("demo", "--parallel", "0", "--cache", "s3://no-such-bucket/x", env=credentials(s3_server))
    assert done.returncode != 0
    assert "bucket is not there" in done.stderr
    assert "Traceback" not in done.stderr
    assert team.calls() == {}
