"""How a place in the network is reached, and that secrets stay where they are."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from curidask.errors import CacheError, ConfigurationError
from curidask.session.config import load_config
from curidask.store.artifacts import ArtifactStore
from curidask.store.backends.base import open_objects
from curidask.store.backends.fsspec import FsspecObjects
from curidask.store.backends.obstore import ObstoreObjects, suits
from curidask.store.backends.options import StorageOptions, check_storage_table, options_for

SECRET = "very-secret-text-of-somebody"
LITERAL = {"key": "some-key-of-somebody", "secret": SECRET, "endpoint_url": "http://127.0.0.1:9", "region": "x"}


def test_options_are_sorted_by_what_they_are_for() -> None:
    options = StorageOptions.of(
        {"region": "eu", "retry_seconds": 3, "secret": SECRET, "token_env": "T", "default_block_size": 5}
    )
    assert (options.region, options.retry_seconds, options.client) == ("eu", 3.0, "auto")
    assert options.credentials == {"secret": SECRET}
    assert options.variables == {"token": "T"}
    assert options.driver == {"default_block_size": 5}
    assert StorageOptions.of(options.given()) == options


@pytest.mark.parametrize(
    "wrong",
    [
        {"client": "boto"},
        {"region": 3},
        {"anon": "yes"},
        {"max_pool_connections": 0},
        {"max_pool_connections": True},
        {"retry_seconds": -1},
        {"read_timeout_seconds": "5"},
        {"addressing_style": "weird"},
        {"secret_env": ""},
        {"secret_env": 3},
    ],
)
def test_values_of_the_wrong_kind_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_objects("s3://bucket/path", **wrong)
    assert next(iter(wrong)) in caught.value.what
    assert caught.value.fix


# --- secrets ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("client", ["fsspec", "obstore"])
def test_a_secret_that_is_given_is_neither_shown_nor_sent(client: str) -> None:
    objects = open_objects("s3://bucket/path", client=client, **LITERAL)
    store = ArtifactStore(objects)
    assert SECRET not in repr(objects) + repr(store) + repr(objects.options) + str(vars(objects))  # type: ignore[attr-defined]
    for thing in (objects, store):
        with pytest.raises(CacheError) as caught:
            pickle.dumps(thing)
        assert SECRET not in str(caught.value)
        assert "_env" in caught.value.fix
        assert "send_credentials" in caught.value.fix


@pytest.mark.parametrize("options", [{"client_kwargs": {"aws_secret_access_key": SECRET}}, {"password": SECRET}])
def test_secrets_within_options_for_the_file_system_are_not_sent_either(options: dict[str, object]) -> None:
    objects = FsspecObjects("memory://x")
    objects.options = StorageOptions.of(options)
    with pytest.raises(CacheError) as caught:
        pickle.dumps(objects)
    assert SECRET not in str(caught.value) + repr(objects.options)


def test_secrets_are_sent_when_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = StorageOptions.of({**LITERAL, "send_credentials": True}).to_send("s3://bucket")
    assert sent["secret"] == SECRET
    monkeypatch.setenv("TEAM_SECRET", "from the variable")
    sent = StorageOptions.of({"secret_env": "TEAM_SECRET", "send_credentials": True}).to_send("s3://bucket")
    assert sent["secret"] == "from the variable"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from the usual variable")
    assert StorageOptions.of({"send_credentials": True}).to_send("s3://b")["secret"] == "from the usual variable"
    assert "secret" not in StorageOptions.of({"send_credentials": True, "anon": True}).to_send("s3://b")


@pytest.mark.parametrize("client", ["fsspec", "obstore"])
def test_names_of_variables_travel_and_not_what_is_in_them(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", "key of the team")
    monkeypatch.setenv("TEAM_SECRET", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret text")
    options = {"key_env": "TEAM_KEY", "secret_env": "TEAM_SECRET", "endpoint_url": "http://127.0.0.1:9"}
    objects = open_objects("s3://bucket/path", client=client, region="x", **options)
    data = pickle.dumps(ArtifactStore(objects))
    assert b"TEAM_SECRET" in data
    for secret in (SECRET, "key of the team", "another secret text"):
        assert secret.encode() not in data
    assert type(pickle.loads(data).objects) is type(objects)
    monkeypatch.delenv("TEAM_SECRET")
    with pytest.raises(CacheError, match="TEAM_SECRET is not set"):
        pickle.loads(data)


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    for url in (f"s3://key:{SECRET}@bucket/path", f"sftp://me:{SECRET}@host/path"):
        with pytest.raises(CacheError, match="password") as caught:
            open_objects(url)
        assert SECRET not in str(caught.value)


# --- which client ----------------------------------------------------------------------------------------------------
def test_the_client_fits_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    keys = {"key": "k", "secret": SECRET}
    assert isinstance(open_objects("s3://bucket", region="eu", **keys), ObstoreObjects)
    assert isinstance(open_objects("s3://bucket", endpoint_url="http://127.0.0.1:9", **keys), ObstoreObjects)
    # Where the bucket is, only botocore finds out; and options for a file system are for that.
    assert isinstance(open_objects("s3://bucket", **keys), FsspecObjects)
    assert isinstance(open_objects("s3://bucket", region="eu", default_block_size=9_000_000, **keys), FsspecObjects)
    assert isinstance(open_objects("memory://x", client="obstore"), FsspecObjects)
    monkeypatch.setenv("CURIDASK_OBJECT_CLIENT", "fsspec")
    assert isinstance(open_objects("s3://bucket", region="eu", **keys), FsspecObjects)
    assert isinstance(open_objects("s3://bucket", region="eu", client="obstore", **keys), ObstoreObjects)
    monkeypatch.setenv("CURIDASK_OBJECT_CLIENT", "boto")
    with pytest.raises(ConfigurationError, match="boto"):
        open_objects("s3://bucket")


CLOUDS = [
    ("gs://bucket/a", {}, {}, True),
    ("gs://bucket/a", {}, {"GOOGLE_APPLICATION_CREDENTIALS": "file.json"}, True),
    ("gs://bucket/a", {}, {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}, False),
    ("gs://bucket/a", {}, {"GOOGLE_SERVICE_ACCOUNT": "file.json"}, False),  # obstore alone reads it
    ("gs://bucket/a", {"endpoint_url": "http://127.0.0.1:9"}, {}, False),
    ("gs://bucket/a", {"project": "x"}, {}, False),
    ("az://box/a", {"account_name": "x", "account_key": "y"}, {}, True),
    ("az://box/a", {}, {"AZURE_STORAGE_ACCOUNT_NAME": "x", "AZURE_STORAGE_ACCOUNT_KEY": "y"}, True),
    ("az://box/a", {}, {"AZURE_STORAGE_CONNECTION_STRING": "x"}, False),
    ("s3://bucket/a", {"region": "eu", "token": "t"}, {}, False),
    ("simplecache::s3://bucket/a", {"region": "eu"}, {}, False),
]


@pytest.mark.parametrize(("url", "options", "env", "same"), CLOUDS)
def test_obstore_is_for_what_is_known_to_mean_the_same_to_it(
    url: str, options: dict[str, str], env: dict[str, str], monkeypatch: pytest.MonkeyPatch, *, same: bool
) -> None:
    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "AZURE_", "STORAGE_", "AWS_")):
            monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert suits(url, StorageOptions.of(options)) is same


@pytest.mark.parametrize("client", ["fsspec", "obstore"])
def test_a_profile_is_found_with_its_key_and_region(
    client: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text(
        f"[team]\naws_access_key_id = {os.environ['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {os.environ['AWS_SECRET_ACCESS_KEY']}\nregion = us-east-1\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a wrong one")
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    objects = open_objects(s3, client=client, profile="team", endpoint_url=endpoint)
    objects.write("a", b"1")
    assert pickle.loads(pickle.dumps(objects)).read("a") == b"1"
    with pytest.raises(CacheError):
        open_objects(s3, client=client, profile="nobody", endpoint_url=endpoint).read("a")


# --- configuration ---------------------------------------------------------------------------------------------------
def test_the_configuration_says_how_places_are_reached(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        """
        [tool.curidask]
        cache = "s3://bucket/team"
        object_client = "fsspec"
        [tool.curidask.storage]
        endpoint_url = "http://here"
        region = "eu"
        [tool.curidask.storage."s3://other"]
        region = "us"
        [tool.curidask.storage."s3://other/deep"]
        region = "asia"
        """
    )
    config = load_config(tmp_path, env={})
    assert config.storage_options("s3://bucket/team") == {
        "client": "fsspec",
        "endpoint_url": "http://here",
        "region": "eu",
    }
    assert config.storage_options("s3://other/path")["region"] == "us"
    assert config.storage_options("s3://other/deep/path")["region"] == "asia"
    assert config.storage_options("s3://others/path")["region"] == "eu"
    assert config.storage_options(str(tmp_path)) == {}
    assert load_config(tmp_path, env={"CURIDASK_OBJECT_CLIENT": "obstore"}).object_client == "obstore"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('object_client = "boto"', "use one of"),
        ('storage = "s3"', "table of options"),
        ("[storage]\nregion = 3", "text in quotes"),
        ('[storage]\nregoin = "eu"', "'region'"),
        ('[storage]\nendpoint-url = "eu"', "'endpoint_url'"),
        ('[storage."s3://other"]\nanon = "no"', "true or false"),
        ('[storage]\n"s3://other" = "eu"', "table of options"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_opened(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "curidask.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_config(tmp_path, env={})
    assert "curidask.toml" in caught.value.where


def test_the_longest_address_wins() -> None:
    table = {"region": "a", "s3://b": {"region": "b"}, "s3://b/c": {"anon": True}}
    assert options_for("s3://b/c/d", table) == {"region": "a", "anon": True}
    assert options_for("s3://bb", table) == {"region": "a"}
    check_storage_table(table, "here")
