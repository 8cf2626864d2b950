"""Buckets that are not as they seem: elsewhere, slow, behind other names, with keys of others, or old certificates."""

from __future__ import annotations

import datetime
import http.server
import logging
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from curidask.errors import CacheError
from curidask.store.backends.base import ObjectStore, open_objects
from curidask.store.backends.fsspec import FsspecObjects
from tests.strange_s3 import StrangeS3

KEYS = {"key": "some-key", "secret": "some-secret", "region": "us-east-1"}


@pytest.fixture(params=["fsspec", "obstore"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, plain_aws: Path) -> str:
    """Which client is used, where nothing else is configured."""
    monkeypatch.setenv("CURIDASK_OBJECT_CLIENT", request.param)
    return str(request.param)


# --- where it is -----------------------------------------------------------------------------------------------------
def test_a_bucket_in_another_region_is_found(client: str, tmp_path: Path) -> None:
    with StrangeS3(region="eu-west-1") as server:

        def opened(number: int) -> ObjectStore:
            return open_objects(f"s3://bucket/{number}", endpoint_url=server.endpoint, retry_seconds=2, **KEYS)

        opened(0).write("a", b"1")
        assert opened(0).read("a") == b"1"
        assert opened(0).exists(["a", "b"]) == {"a"}  # of such a question not even the answer's body says why
        assert opened(0).list() == ["a"]
        other = opened(0)
        other.remove(["a"])
        assert other.list() == []
        unsigned = open_objects("s3://bucket/1", endpoint_url=server.endpoint, anon=True)
        with pytest.raises(CacheError, match="in another region"):
            unsigned.read("a")


def test_a_large_file_goes_into_another_region(client: str, tmp_path: Path) -> None:
    with StrangeS3(region="eu-west-1") as server:
        objects = open_objects("s3://bucket/a", endpoint_url=server.endpoint, retry_seconds=2, **KEYS)
        (tmp_path / "file").write_bytes(b"x" * (2 << 20))
        objects.adopt(tmp_path / "file", "file")
        assert objects.fetch("file", tmp_path / "copy").size_bytes == 2 << 20


def test_the_bucket_is_in_the_name_of_a_host_where_that_is_configured(
    client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StrangeS3() as server:  # it is asked as a proxy, so that the names need not be known
        monkeypatch.setenv("HTTP_PROXY", server.endpoint)
        monkeypatch.setenv("http_proxy", server.endpoint)
        objects = open_objects(
            "s3://bucket/a", endpoint_url="http://storage.example", addressing_style="virtual", **KEYS
        )
        objects.write("b", b"1")
        assert server.asked == ["PUT http://bucket.storage.example/a/b"]
        assert "/us-east-1/s3/" in server.headers[0]["authorization"]


def test_an_endpoint_of_a_services_section_gets_the_requests(client: str, plain_aws: Path) -> None:
    with StrangeS3() as server:
        plain_aws.write_text(
            "[profile lab]\nregion = us-east-1\nservices = lab\n"
            f"[services lab]\ns3 =\n    endpoint_url = {server.endpoint}\n"
        )
        objects = open_objects("s3://bucket/a", profile="lab", key="k", secret="s")
        objects.write("b", b"1")
        assert server.asked == ["PUT /bucket/a/b"]


def test_all_requests_accept_to_pay(client: str, tmp_path: Path) -> None:
    with StrangeS3() as server:
        options = {"endpoint_url": server.endpoint, "requester_pays": True, **KEYS}
        objects = open_objects("s3://bucket/a", **options)
        objects.write("b", b"1")
        objects.create("c", b"1")
        objects.read("b")
        objects.list()
        objects.exists(["b"])
        open_objects("s3://bucket/other", **options).copy_from(objects, ["b"])
        objects.remove(["c"])
        objects.remove(["b", "d"])
        for asked, headers in zip(server.asked, server.headers, strict=True):
            assert headers.get("x-amz-request-payer") == "requester", asked
        assert len(server.asked) >= 9


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9", "storage.example", "storage.example/base", "localhost:9000"])
def test_an_endpoint_without_a_scheme_says_so(
    client: str, endpoint: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CURIDASK_OBJECT_CLIENT", "auto")
    option = {"endpoint_url": endpoint} if client == "fsspec" else {}
    if not option:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(CacheError) as caught:
        open_objects("s3://bucket/a", **KEYS, **option).list()
    assert endpoint in caught.value.what
    assert "https://" in caught.value.fix
    assert "panicked" not in capfd.readouterr().err


# --- how fast it is --------------------------------------------------------------------------------------------------
def test_the_limit_is_for_silence_and_not_for_the_whole_of_a_request(client: str, tmp_path: Path) -> None:
    with StrangeS3(pause_seconds=0.2) as server:
        options = {"read_timeout_seconds": 1.0, "retry_seconds": 0.1, "endpoint_url": server.endpoint, **KEYS}
        objects = open_objects("s3://bucket/a", **options)
        data = os.urandom(15 << 20)
        objects.write("b", data)
        assert objects.read("b") == data
        assert len(server.asked) == 2


# --- what else is there ----------------------------------------------------------------------------------------------
FOREIGN = ["x//y", "/x", "./x", "x/./y", "../x", "x/..", "x/", "//", "a\nb", "a\x01b", "a\x7fb", "a?b", "a\\b"]


def test_keys_of_others_never_end_a_listing(client: str) -> None:
    with StrangeS3() as server:
        objects = open_objects("s3://bucket/team", endpoint_url=server.endpoint, retry_seconds=1, **KEYS)
        for name in ("a", "sub/b", "z"):
            objects.write(name, b"1")
        for key in FOREIGN:
            server.content = {"/bucket/team/sub/" + key: b"theirs", "/bucket/team/" + key: b"theirs", **server.content}
            assert sorted(objects.list()) == ["a", "sub/b", "z"], key
            assert objects.list("sub/") == ["sub/b"]
            del server.content["/bucket/team/" + key], server.content["/bucket/team/sub/" + key]
        objects.write("c", b"1")
        assert sorted(objects.list()) == ["a", "c", "sub/b", "z"]


# --- who one is ------------------------------------------------------------------------------------------------------
SSO = """
[profile team]
region = eu-central-1
sso_session = lab
sso_account_id = 123456789012
sso_role_name = Researcher
[sso-session lab]
sso_region = eu-central-1
sso_start_url = https://lab.example/start
"""


@pytest.mark.parametrize("old", [False, True])
def test_whoever_is_not_logged_in_is_told_how_to(
    client: str, plain_aws: Path, caplog: pytest.LogCaptureFixture, *, old: bool
) -> None:
    session = "sso_region = eu-central-1\nsso_start_url = https://lab.example/start\n"
    text = SSO.replace("sso_session = lab\n", session).partition("[sso-session")[0] if old else SSO
    plain_aws.write_text(text)
    objects = open_objects("s3://bucket/a", profile="team", endpoint_url="http://127.0.0.1:9", retry_seconds=1)
    for action in (objects.list, objects.check_writable, lambda: objects.read("a")):
        with pytest.raises(CacheError) as caught:
            action()
        assert caught.value.kind == "login"
        assert "aws sso login" in caught.value.fix
        assert "\n" not in caught.value.what
    assert [
        record for record in caplog.records if record.levelno >= logging.WARNING
    ] == []  # else a traceback of botocore's shows above that line


def make_certificate(folder: Path) -> Path:
    """A certificate of the loopback interface that was good last year, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now - datetime.timedelta(days=400))
    builder = builder.not_valid_after(now - datetime.timedelta(days=35))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return folder / "ca.pem"


@pytest.fixture
def expired(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server whose certificate has expired, and the file to trust."""
    bundle = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://localhost:{server.server_address[1]}", bundle
        server.shutdown()
        thread.join()


def test_a_certificate_that_has_expired_is_told_as_that(client: str, expired: tuple[str, Path]) -> None:
    endpoint, bundle = expired
    objects = open_objects("s3://bucket/a", endpoint_url=endpoint, ca_bundle=str(bundle), retry_seconds=0.5, **KEYS)
    with pytest.raises(CacheError) as caught:
        objects.list()
    assert caught.value.kind == "certificate", caught.value
    assert "renew" in caught.value.fix
    assert "\n" not in caught.value.what


# --- addresses -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "url",
    [
        *("s3://bucket/a#b", "s3://bucket/a?b", "s3://bucket/a?versionId=1", "s3://bucket//a", "s3://bucket/a//b"),
        *("s3://bucket/./a", "s3://bucket/a/../b", "s3://bucket/a\tb", "s3://bucket/a\nb", "s3://", "s3:///a"),
        *("gs://bucket/a#1", "az://box/a?b", "s3a://bucket/..", "simplecache::s3://bucket/a#b", "s3://bucket#x"),
    ],
)
def test_addresses_that_clients_read_in_different_ways_are_refused_by_name(client: str, url: str) -> None:
    with pytest.raises(CacheError, match="address of the cache has") as caught:
        open_objects(url, endpoint_url="http://127.0.0.1:9", **KEYS)
    assert caught.value.where == url
    assert "s3://bucket/team/cache" in caught.value.fix


@pytest.mark.parametrize("path", ["a b", "a%20b", "a+b", "é", "a&b=c", "a@b", "a:b", "~", "a;b", "deep/er/", "a,b"])
def test_other_addresses_mean_the_same_to_both(client: str, path: str) -> None:
    with StrangeS3() as server:
        objects = open_objects(f"s3://bucket/{path}", endpoint_url=server.endpoint, **KEYS)
        objects.write("x", b"1")
        assert list(server.content) == [f"/bucket/{path.strip('/')}/x"]
        assert objects.list() == ["x"]


def test_a_client_of_the_other_kind_is_no_source_of_copies(client: str) -> None:
    with StrangeS3() as server:
        options = {"endpoint_url": server.endpoint, **KEYS}
        one = open_objects("s3://bucket/a", **options)
        other = FsspecObjects("s3://bucket/b", options)
        one.write("x", b"1")
        other.copy_from(one, ["x"])
        assert other.read("x") == b"1"
