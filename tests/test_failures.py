"""What is made of the errors of clients, and how long requests are repeated."""

from __future__ import annotations

import pickle
import random
import time
from typing import Any

import pytest

from curidask.errors import CacheError, ObjectMissingError
from curidask.store.backends.errors import KINDS, Failure, classify
from curidask.store.backends.requests import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    RetryPolicy,
    expect_outage,
    patience_with,
)


def client_error(code: str, status: int) -> Exception:
    """As botocore has them."""
    error = Exception(f"An error occurred ({code})")
    response: dict[str, Any] = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error.response = response  # type: ignore[attr-defined]
    return error


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def named(name: str, text: str) -> Exception:
    """Of a class that is not installed here."""
    return type(name, (Exception,), {})(text)


OBSTORE = "Generic S3 error: Error performing PUT http://h/b/k in 1ms - Server returned non-2xx status code: "
CASES = [
    (raised_from(FileNotFoundError("x"), client_error("NoSuchKey", 404)), "missing"),
    (raised_from(FileNotFoundError("x"), client_error("NoSuchBucket", 404)), "bucket"),
    (raised_from(OSError(22, "pre-conditions"), client_error("PreconditionFailed", 412)), "exists"),
    (FileExistsError("x"), "exists"),
    (raised_from(PermissionError("Forbidden"), client_error("403", 403)), "denied"),
    (raised_from(PermissionError("x"), client_error("ExpiredToken", 400)), "expired"),
    (raised_from(PermissionError("x"), client_error("RequestTimeTooSkewed", 403)), "clock"),
    (raised_from(OSError(16, "x"), client_error("SlowDown", 503)), "throttled"),
    (raised_from(OSError(16, "x"), client_error("Unheard", 503)), "throttled"),
    (client_error("ConditionalRequestConflict", 409), "conflict"),
    (Exception(OBSTORE + "412 Precondition Failed: <Error><Code>PreconditionFailed</Code></Error>"), "exists"),
    (Exception(OBSTORE + "403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code></Error>"), "credentials"),
    (Exception(OBSTORE + "500 Internal Server Error: "), "server"),
    (Exception("DeleteObjects request failed for key k: Access Denied. (code: AccessDenied)"), "denied"),
    (Exception("HTTP error: error sending request\n\nDebug source:\n kind: Connect,\n"), "unreachable"),
    (Exception("HTTP error: error sending request\n\nDebug source:\n kind: Timeout,\n"), "timeout"),
    (Exception("HTTP error: error sending request\n\nDebug source:\n kind: Request,\n"), "broken"),
    (Exception(OBSTORE + "400 Bad Request: "), "malformed"),
    (raised_from(OSError(22, "Bad Request"), client_error("400", 400)), "malformed"),
    (Exception("Error performing GET http://h in 1ms - Received redirect without LOCATION, this"), "region"),
    (ValueError("Invalid endpoint: localhost:9000"), "endpoint"),
    (named("UnauthenticatedError", "External AWS credential provider: UnauthorizedSSOTokenError: The SSO"), "login"),
    (named("UnauthorizedSSOTokenError", "The SSO session associated with this profile has expired"), "login"),
    (named("UnauthenticatedError", "The operation lacked valid authentication credentials"), "credentials"),
    (Exception("error sending request: invalid peer certificate: Expired"), "certificate"),
    (Exception("error sending request: invalid peer certificate: UnknownIssuer"), "tls"),
    (ConnectionResetError("reset"), "broken"),
    (TimeoutError(), "timeout"),
    (NotImplementedError("x"), "unsupported"),
    (ValueError("what is this"), "other"),
]


@pytest.mark.parametrize(("error", "kind"), CASES, ids=lambda value: str(value)[:60])
def test_errors_of_clients_are_told_apart(error: Exception, kind: str) -> None:
    assert classify(error).kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_and_how_to_fix_it(kind: str) -> None:
    error = Failure(kind, "the service's words").error("read", "some/name", "s3://bucket/path")
    assert isinstance(error, CacheError)
    assert isinstance(error, ObjectMissingError) == (kind == "missing")
    assert error.what.endswith(".")
    assert "{" not in error.what + error.fix
    assert error.where == "s3://bucket/path"
    assert error.fix or kind in ("missing", "exists")
    assert pickle.loads(pickle.dumps(error)).kind == kind


def test_neither_secrets_nor_signatures_show() -> None:
    text = "GET https://h/b?X-Amz-Signature=0a1b2c&X-Amz-Credential=abc/2026 said: my-secret-text is wrong " + "x" * 500
    error = classify(ValueError(text)).error("read", "name", "url", {"my-secret-text"})
    for secret in ("0a1b2c", "abc/2026", "my-secret-text"):
        assert secret not in str(error)
    assert len(error.what) < 300


# --- patience --------------------------------------------------------------------------------------------------------
def test_pauses_are_drawn_below_a_limit_that_doubles() -> None:
    patience = RetryPolicy(1000, random.Random(1))
    now = time.monotonic()
    for attempt in range(20):
        limit = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt)
        pauses = [patience.pause(Failure("server"), attempt, now) for _ in range(200)]
        drawn = [pause for pause in pauses if pause is not None]
        assert len(drawn) == 200
        assert 0 <= min(drawn) < 0.1 * limit
        assert 0.9 * limit < max(drawn) <= limit


def test_only_what_passes_is_repeated_and_only_for_so_long() -> None:
    patience = RetryPolicy(10)
    now = time.monotonic()
    for kind, description in KINDS.items():
        assert (patience.pause(Failure(kind), 0, now) is not None) == description.transient
    assert patience.pause(Failure("throttled"), 3, now - 11) is None


def test_after_an_outage_nobody_waits_again_until_something_succeeds() -> None:
    patience = RetryPolicy(10)
    now = time.monotonic()
    assert patience.pause(Failure("unreachable"), 5, now - 11) is None
    assert patience.pause(Failure("unreachable"), 0, now) is None
    assert patience.pause(Failure("timeout"), 0, now) is None
    assert patience.pause(Failure("throttled"), 0, now) is not None
    patience.succeeded()
    assert patience.pause(Failure("unreachable"), 0, now) is not None


def test_an_outage_that_another_process_met_is_one_for_all_who_ask_that_place() -> None:
    here, elsewhere = patience_with("s3://bucket/a", 10), patience_with("s3://bucket/b", 10)
    assert patience_with("s3://bucket/a", 10) is here
    expect_outage("s3://bucket/a")
    now = time.monotonic()
    assert here.pause(Failure("unreachable"), 0, now) is None
    assert elsewhere.pause(Failure("unreachable"), 0, now) is not None
    here.succeeded()
    assert here.pause(Failure("unreachable"), 0, now) is not None
