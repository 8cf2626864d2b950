"""Requests to S3 go where botocore sends them, whichever client makes them and however that is configured.

botocore itself is the oracle: each line of the table is configured as users configure it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from curidask.errors import CacheError
from curidask.store.backends.base import ObjectStore, open_objects
from curidask.store.backends.fsspec import FsspecObjects
from curidask.store.backends.obstore import ObstoreObjects

KEYS = {"key": "some-key", "secret": "some-secret"}
SERVICES = """
[default]
region = eu-central-1
services = lab
[services lab]
s3 =
    endpoint_url = http://127.0.0.1:9
"""


@dataclass(frozen=True)
class Case:
    """Something that is configured.

    Attributes
    ----------
    url : str
        Where obstore sends a request for the object ``a/b``; empty where it is not used.
    """

    url: str = ""
    bucket: str = "bucket"
    env: dict[str, str] = field(default_factory=dict)
    file: str = "[default]\nregion = eu-central-1\n"
    options: dict[str, Any] = field(default_factory=dict)


AWS = "https://bucket.s3.eu-central-1.amazonaws.com/a/b"
LOCAL = "http://127.0.0.1:9/bucket/a/b"
CASES = {
    "region of the file": Case(AWS),
    "region of AWS_REGION": Case(AWS, env={"AWS_REGION": "eu-central-1"}, file=""),
    "region of the option": Case(AWS, env={"AWS_REGION": "us-west-2"}, options={"region": "eu-central-1"}),
    "region of AWS_DEFAULT_REGION": Case(AWS, env={"AWS_DEFAULT_REGION": "eu-central-1"}, file=""),
    "region of a profile": Case(
        AWS, env={"AWS_PROFILE": "team"}, file="[profile team]\nregion = eu-central-1\n[default]\nregion = us-east-1\n"
    ),
    "no region": Case(file=""),
    "us-east-1": Case("https://bucket.s3.amazonaws.com/a/b", file="", options={"region": "us-east-1"}),
    "China": Case("https://bucket.s3.cn-north-1.amazonaws.com.cn/a/b", options={"region": "cn-north-1"}),
    "dotted bucket": Case("https://s3.eu-central-1.amazonaws.com/my.own.bucket/a/b", bucket="my.own.bucket"),
    "path addressing": Case("https://s3.eu-central-1.amazonaws.com/bucket/a/b", options={"addressing_style": "path"}),
    "path addressing of the file": Case(
        "https://s3.eu-central-1.amazonaws.com/bucket/a/b",
        file="[default]\nregion = eu-central-1\ns3 =\n    addressing_style = path\n",
    ),
    "FIPS": Case(
        "https://bucket.s3-fips.us-east-1.amazonaws.com/a/b",
        env={"AWS_USE_FIPS_ENDPOINT": "true"},
        options={"region": "us-east-1"},
    ),
    "FIPS of the file": Case(
        "https://bucket.s3-fips.us-east-1.amazonaws.com/a/b",
        file="[default]\nregion = us-east-1\nuse_fips_endpoint = true\n",
    ),
    "dual stack": Case(
        "https://bucket.s3.dualstack.eu-central-1.amazonaws.com/a/b", env={"AWS_USE_DUALSTACK_ENDPOINT": "true"}
    ),
    "dual stack of the file": Case(
        "https://bucket.s3.dualstack.eu-central-1.amazonaws.com/a/b",
        file="[default]\nregion = eu-central-1\ns3 =\n    use_dualstack_endpoint = true\n",
    ),
    "FIPS and dual stack in China": Case(
        env={"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"}, options={"region": "cn-north-1"}
    ),
    "accelerated": Case(
        "https://bucket.s3-accelerate.amazonaws.com/a/b",
        file="[default]\nregion = eu-central-1\ns3 =\n    use_accelerate_endpoint = true\n",
    ),
    "endpoint of the option": Case(LOCAL, file="", options={"endpoint_url": "http://127.0.0.1:9"}),
    "endpoint of the file": Case(LOCAL, file="[default]\nregion = eu-central-1\nendpoint_url = http://127.0.0.1:9\n"),
    "endpoint of a services section": Case(LOCAL, file=SERVICES),
    "endpoint of a profile that is an option": Case(
        LOCAL, file=SERVICES.replace("[default]", "[profile lab]"), options={"profile": "lab"}
    ),
    "endpoint of AWS_ENDPOINT_URL_S3": Case(
        LOCAL, env={"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_ENDPOINT_URL": "http://127.0.0.1:8"}
    ),
    "endpoints that do not count": Case(
        AWS, file=SERVICES.replace("services", "ignore_configured_endpoint_urls = true\nservices", 1)
    ),
    "endpoint of the option and of a variable": Case(
        options={"endpoint_url": "http://127.0.0.1:9"}, env={"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8"}
    ),
    "endpoint with a path": Case(
        "http://127.0.0.1:9/base/bucket/a/b", options={"endpoint_url": "http://127.0.0.1:9/base"}
    ),
    "endpoint with a slash": Case(LOCAL, options={"endpoint_url": "http://127.0.0.1:9/"}),
    "virtual addressing with an own endpoint": Case(
        "http://bucket.storage.example:9/a/b",
        options={"endpoint_url": "http://storage.example:9", "addressing_style": "virtual"},
    ),
    "dotted bucket, virtual addressing and an own endpoint": Case(
        "http://my.bucket.storage.example:9/a/b",
        bucket="my.bucket",
        options={"endpoint_url": "http://storage.example:9", "addressing_style": "virtual"},
    ),
    "named endpoint": Case("http://storage.example:9/bucket/a/b", options={"endpoint_url": "http://storage.example:9"}),
    "bucket with capitals": Case("https://s3.eu-central-1.amazonaws.com/Bucket_x/a/b", bucket="Bucket_x"),
    "express bucket": Case(bucket="bucket--euc1-az1--x-s3"),
    "access point": Case(bucket="arn:aws:s3:eu-central-1:123456789012:accesspoint:mine"),
    "old signatures, which botocore makes no more": Case(
        AWS, file="[default]\nregion = eu-central-1\ns3 =\n    signature_version = s3\n"
    ),
    "a variable that obstore alone reads": Case(env={"AWS_SERVER_SIDE_ENCRYPTION": "AES256"}),
    "a variable that nobody knows yet": Case(env={"AWS_S3_NEW_THING": "1"}),
    "unsigned by a variable": Case(env={"AWS_SKIP_SIGNATURE": "true"}),
    "settings of fsspec": Case(env={"FSSPEC_S3_ENDPOINT_URL": "http://127.0.0.1:9"}),
    "a proxy for all": Case(env={"ALL_PROXY": "http://127.0.0.1:3"}),
    "a proxy": Case(AWS, env={"HTTPS_PROXY": "http://127.0.0.1:3"}),
    "a proxy with exceptions": Case(env={"HTTPS_PROXY": "http://127.0.0.1:3", "NO_PROXY": ".amazonaws.com"}),
    "requester pays": Case(AWS, options={"requester_pays": True}),
    "a token of the environment beside given keys": Case(AWS, env={"AWS_SESSION_TOKEN": "somebody-else's"}),
    "variables of batch jobs": Case(AWS, env={"AWS_BATCH_JOB_ID": "1", "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, plain_aws: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """What is configured is so around the test."""
    from fsspec import config

    case = CASES[request.param]
    plain_aws.write_text(case.file)
    for name, value in case.env.items():
        monkeypatch.setenv(name, value)
    config.conf.clear()
    config.set_conf_env(config.conf)
    yield case
    config.conf.clear()


class Stopped(Exception):
    """Instead of sending a request."""


class Watch:
    """Sees the requests of a client of botocore's, and lets none out."""

    def __init__(self, client: Any) -> None:
        self.requests: list[Any] = []
        client.meta.events.register("before-send.s3", self._see)

    def _see(self, request: Any, **_: object) -> None:
        self.requests.append(request)
        raise Stopped

    def seen(self) -> tuple[str, str]:
        """The address and the region of the first one."""
        signed = self.requests[0].headers["Authorization"]
        return str(self.requests[0].url), (signed.decode() if isinstance(signed, bytes) else signed).split("/")[2]


def botocore_asks(case: Case) -> tuple[str, str]:
    """The address and the region of a request as botocore makes it by itself."""
    options = case.options
    session = botocore.session.Session(profile=options.get("profile"))
    style = options.get("addressing_style")
    client = session.create_client(
        "s3",
        region_name=options.get("region") or case.env.get("AWS_REGION"),
        endpoint_url=options.get("endpoint_url"),
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(s3={"addressing_style": style}) if style else None,
    )
    watch = Watch(client)
    with pytest.raises(Stopped):
        client.get_object(Bucket=case.bucket, Key="a/b")
    return watch.seen()


def s3fs_asks(objects: ObjectStore) -> tuple[str, str]:
    """The same of the request that s3fs makes."""
    fs: Any = objects._requests().client.fs  # type: ignore[attr-defined]
    fs.connect()
    watch = Watch(fs.s3)
    with pytest.raises(CacheError):
        objects.read("a/b")
    return watch.seen()


def obstore_asks(objects: ObstoreObjects) -> tuple[str, str]:
    """The same of the request that obstore makes."""
    import obstore

    client: Any = objects._requests().client
    urls = set()
    for store in (client._once, client._transfer):
        urls.add(obstore.sign(store, "GET", "a/b", timedelta(minutes=1)).partition("&X-Amz-Date")[0])
    (url,) = urls
    address, _, query = url.partition("?")
    return address, query.split("%2F")[2]


def test_obstore_asks_what_botocore_would_or_is_not_used(case: Case) -> None:
    objects = open_objects(f"s3://{case.bucket}", **KEYS, **case.options)
    if not case.url:
        assert isinstance(objects, FsspecObjects)
        with pytest.raises(CacheError, match="what is configured") as caught:
            open_objects(f"s3://{case.bucket}", client="obstore", **KEYS, **case.options)
        assert "auto" in caught.value.fix
        return
    assert isinstance(objects, ObstoreObjects)
    asked = botocore_asks(case)
    assert asked[0] == case.url
    assert obstore_asks(objects) == asked
    assert s3fs_asks(open_objects(f"s3://{case.bucket}", client="fsspec", **KEYS, **case.options)) == asked
