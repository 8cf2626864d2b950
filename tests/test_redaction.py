"""Secrets in addresses: recognised however they are written, and shown nowhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from curidask.cli.run import main
from curidask.core.redaction import hide_secrets, holds_secret
from curidask.errors import CacheError, CuridaskError
from curidask.session.config import load_config
from curidask.store.backends.base import open_objects
from tests.conftest import Project

SECRET = "wJalr/XUtn+FE/MI7K"
WITH_SECRETS = (
    f"s3://AKIA:{SECRET}@bucket/team",
    f"s3://:{SECRET}@bucket/team",
    f"simplecache::s3://AKIA:{SECRET}@bucket/team",
    f"filecache::simplecache::s3://AKIA:{SECRET}@bucket/team",
    f"zip://inner.csv::https://me:{SECRET}@host:8080/a.zip",
    f"https://me:{SECRET}@host/path",
    f"ftp://me:{SECRET}@host:21/path@x",
    f"s3://AKIA:123/{SECRET}@bucket",
    f"https://host/path?x=1&X-Amz-Signature={SECRET}",
    f"https://host/path?token={SECRET}&y=2",
    f"sftp://me:p@{SECRET}@host/path",
)
WITHOUT = (
    "s3://bucket/team", "s3://bucket/who@where/x", "simplecache::s3://bucket/team", "http://host:8080/path@x",
    "abfs://container@account.dfs.core.windows.net/x", "sftp://me@host/path", "tls://10.0.0.1:8786", "data/a:b@c",
    "https://host/?monkey=1", "/mnt/x", "memory://a/b",
)  # fmt: skip


@pytest.mark.parametrize("url", WITH_SECRETS)
def test_what_is_secret_is_hidden(url: str) -> None:
    for text in (url, f"see {url} for it", json.dumps({"a": [url, "b"]}), f"data/cache,{url}"):
        shown = hide_secrets(text)
        assert not any(part in shown for part in SECRET.split("/")), shown
        assert holds_secret(text)
    assert json.loads(hide_secrets(json.dumps({"a": [url, "b"]})))["a"][1] == "b"


@pytest.mark.parametrize("url", WITHOUT)
def test_what_is_no_secret_is_shown(url: str) -> None:
    assert hide_secrets(url) == url


@pytest.mark.parametrize("url", WITH_SECRETS[:9])
def test_a_cache_with_a_secret_in_its_address_is_refused_without_showing_it(url: str, tmp_path: Path) -> None:
    for open_it in (open_objects, lambda url: load_config(tmp_path, {"CURIDASK_CACHE": f"{url},,x"}).cache_urls()):
        with pytest.raises(CuridaskError) as caught:
            open_it(url)
        assert not any(part in str(caught.value) + repr(caught.value) for part in SECRET.split("/"))
    with pytest.raises(CacheError, match="holds a password or key"):
        open_objects(url)


def test_errors_of_ours_show_none() -> None:
    error = CuridaskError(f"no {WITH_SECRETS[0]}", where=WITH_SECRETS[1], fix=WITH_SECRETS[2])
    assert "XUtn" not in str(error) + repr(error) + error.what + error.where + error.fix


EXPERIMENT = """
import logging
import sys
from dataclasses import dataclass
import curidask as cf
from curidask.caching import JsonCacher

@dataclass
class Params(cf.ExperimentParameters):
    source: str = "URL"
    more: tuple = ("URL",)

@cf.stage(None, ["value"], [JsonCacher])
def load(record):
    logging.getLogger("mine").warning("reading %s", record.params.source)
    raise OSError(f"cannot reach {record.params.source}")

@cf.stage(None, ["address"], [JsonCacher])
def keep(record):
    return record.params.source

def get_params():
    return [Params("one")]

def run(param_sets, manager):
    for params in param_sets:
        keep(cf.Record(manager, params))
        load(cf.Record(manager, params))
"""


def test_nothing_that_is_kept_or_shown_of_a_run_has_one(
    in_project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_project.write("experiments/secretive.py", EXPERIMENT.replace("URL", WITH_SECRETS[2]))
    for more in ((), ("--map",), ("--print-params",)):
        command = ["experiment", "secretive", "--parallel", "0", *more]
        monkeypatch.setattr(sys, "argv", [*command, "--notes", f"from {WITH_SECRETS[0]}"])
        with pytest.raises(SystemExit):
            main()
        shown = capsys.readouterr()
        assert "XUtn" not in shown.out + shown.err
    files = [path for path in in_project.root.rglob("*") if path.is_file() and "experiments" not in path.parts]
    assert {"run.json", "index.html"} <= {path.name for path in files}
    assert len([path for path in files if path.suffix == ".log"]) == 1
    found = [path.name for path in files if b"XUtn" in path.read_bytes()]
    assert all("keep_address" in name and not name.endswith("_metadata.json") for name in found), found
    assert len(found) == 1  # the value itself, which is the user's


def test_what_a_client_says_shows_none(caplog: pytest.LogCaptureFixture) -> None:
    from curidask.store.backends.errors import redact

    assert "XUtn" not in redact(f'Failed to connect to proxy URL: "{WITH_SECRETS[5]}"', set())
