"""What went wrong with a request to a place in the network, told from the errors of whatever client made it.

Clients raise what they like: built-in errors, those of botocore, aiohttp, obstore or a cloud's own library. They are
told apart by the codes that services give, by HTTP status and by the names of their classes, so that none of those
packages is needed here.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from curidask.core.redaction import hide_secrets
from curidask.errors import CacheError, ObjectMissingError

DETAIL_CHARACTERS = 200
CHAIN_LENGTH = 8

AGAIN = "what is committed stays, and a further run goes on from there"
MEANWHILE = (
    "`--cache data/cache` computes into a folder meanwhile, and "
    "`curidask cache push latest --from data/cache --to {url}` brings that here later"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A way in which requests fail.

    Attributes
    ----------
    says, fix : str
        What is wrong and what to do about it; ``{action}``, ``{name}`` and ``{url}`` are filled in.
    transient : bool
        Whether the same request may succeed a little later.
    """

    says: str
    fix: str
    transient: bool = False


KINDS = {
    "missing": Kind("There is no object {name!r}.", ""),
    "exists": Kind("There is an object {name!r} already.", ""),
    "bucket": Kind("The bucket is not there.", "create it, or correct the address"),
    "denied": Kind(
        "There is no permission to {action} {name!r}.",
        "ask for the right to list, read, write and delete below this address; --dry-cache needs to list and read only",
    ),
    "credentials": Kind(
        "The service refuses the credentials.",
        "check the key and the secret on this machine (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the "
        "variables that [tool.curidask.storage] names)",
    ),
    "none": Kind(
        "No credentials were found.",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile in [tool.curidask.storage], or set "
        "anon = true for a public place; workers need them too",
    ),
    "expired": Kind("The credentials have expired.", f"renew them; {AGAIN}"),
    "clock": Kind("The clock of this machine is too far off.", "set it; requests carry the time they were made at"),
    "region": Kind("The bucket is in another region.", 'name it: region = "…" in [tool.curidask.storage]'),
    "name": Kind("The service refuses the name {name!r}.", "use shorter names for stages, outputs or folders"),
    "full": Kind("The service has no room left.", f"free space or raise the quota; {AGAIN}"),
    "malformed": Kind("The service refuses the request.", "check the address, the region and the credentials"),
    "endpoint": Kind(
        "The address of the service cannot be used.",
        "write it with its scheme, as in https://storage.example: endpoint_url in [tool.curidask.storage], "
        "AWS_ENDPOINT_URL or ~/.aws/config",
    ),
    "login": Kind(
        "Nobody is logged in for these credentials, or no longer.",
        f"log in with `aws sso login`, and --profile NAME where it is a profile's; {AGAIN}",
    ),
    "certificate": Kind(
        "The service's certificate has expired.",
        "whoever runs the service must renew it; if it is new, set the clock of this machine",
    ),
    "tls": Kind(
        "The service's certificate is not trusted.",
        "name the authority's certificate: ca_bundle = PATH in [tool.curidask.storage], or AWS_CA_BUNDLE",
    ),
    "unsupported": Kind("The service cannot {action} in this way.", "choose another place for the cache"),
    "conflict": Kind("Others changed {name!r} at the same moment, again and again.", AGAIN, transient=True),
    "throttled": Kind(
        "The service asks for fewer requests.", f"use fewer workers, or try again later; {AGAIN}", transient=True
    ),
    "server": Kind("The service fails.", f"try again later; {AGAIN}", transient=True),
    "unreachable": Kind(
        "The service cannot be reached.",
        f"check the address, the endpoint and the network, and that the service runs; {AGAIN}; {MEANWHILE}",
        transient=True,
    ),
    "timeout": Kind(
        "The service does not answer.", f"check that it runs, or try again later; {AGAIN}; {MEANWHILE}", transient=True
    ),
    "broken": Kind("The connection breaks again and again.", f"check the network; {AGAIN}", transient=True),
    "other": Kind("The cache could not {action} {name!r}.", "check the address, the network and the credentials"),
}

OUTAGES = ("unreachable", "timeout")
IN_THE_MIDDLE = ("expired", "login")
"""Besides what is transient: what a place that has served may say later."""

CODES = {
    "missing": "NoSuchKey NotFound 404 BlobNotFound",
    "exists": "PreconditionFailed 412 BlobAlreadyExists ConditionNotMet",
    "bucket": "NoSuchBucket ContainerNotFound",
    "denied": "AccessDenied 403 AllAccessDisabled AccountProblem UnauthorizedAccess AuthorizationPermissionMismatch "
    "InvalidObjectState",
    "credentials": "SignatureDoesNotMatch InvalidAccessKeyId InvalidToken 401 Unauthorized AuthenticationFailed "
    "InvalidSecurity NotSignedUp AuthorizationFailure UnrecognizedClientException InvalidClientTokenId",
    "expired": "ExpiredToken ExpiredTokenException TokenRefreshRequired RequestExpired",
    "clock": "RequestTimeTooSkewed",
    "region": "PermanentRedirect 301 307 IllegalLocationConstraintException AuthorizationHeaderMalformed Redirect",
    "name": "KeyTooLongError InvalidUri InvalidURI InvalidObjectName",
    "full": "507 InsufficientStorage QuotaExceeded XMinioStorageFull XMinioAdminBucketQuotaExceeded EntityTooLarge",
    "unsupported": "NotImplemented 501 405 MethodNotAllowed",
    "conflict": "409 OperationAborted ConditionalRequestConflict",
    "throttled": "SlowDown 503 429 ServiceUnavailable Throttling ThrottlingException RequestLimitExceeded ServerBusy "
    "TooManyRequests TooManyRequestsException RequestThrottled RequestThrottledException",
    "server": "InternalError 500 502 504 BadGateway GatewayTimeout InternalServerError",
    "broken": "RequestTimeout IncompleteBody BadDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch 408",
}
CLASSES = {
    "none": "NoCredentialsError PartialCredentialsError",
    "login": "UnauthorizedSSOTokenError TokenRetrievalError SSOTokenLoadError",
    "credentials": "CredentialRetrievalError ProfileNotFound UnauthenticatedError RefreshError DefaultCredentialsError",
    "tls": "SSLError ClientConnectorCertificateError ClientConnectorSSLError SSLCertVerificationError",
    "unreachable": "EndpointConnectionError ConnectTimeoutError ProxyConnectionError ClientConnectorError gaierror "
    "ConnectionRefusedError ServiceRequestError",
    "timeout": "ReadTimeoutError FSTimeoutError TimeoutError SocketTimeoutError",
    "broken": "ConnectionClosedError HTTPClientError ClientPayloadError ServerDisconnectedError ClientOSError "
    "ContentLengthError FlexibleChecksumError IncompleteReadError ResponseParserError ConnectionResetError "
    "BrokenPipeError IncompleteRead ResponseStreamingError ServiceResponseError ShortBodyError",
    "exists": "FileExistsError AlreadyExistsError PreconditionError ResourceExistsError",
    "denied": "PermissionError PermissionDeniedError",
    "missing": "FileNotFoundError NotFoundError ResourceNotFoundError",
    "unsupported": "NotImplementedError NotSupportedError",
}
_BY_CODE = {code: kind for kind, codes in CODES.items() for code in codes.split()}
_BY_CLASS = {name: kind for kind, names in CLASSES.items() for name in names.split()}

# In the text of an error that has no attributes for them.
_CODE_IN_TEXT = re.compile(r"<Code>\s*(\w+)\s*</Code>|\(code: (\w+)\)")
_STATUS_IN_TEXT = re.compile(r"status(?: code)?: (\d{3})\b")
_WORDS = (
    ("endpoint", re.compile(r"^Invalid endpoint\b")),
    ("region", re.compile(r"redirect without LOCATION")),
    ("tls", re.compile(r"certificate|UnknownIssuer|InvalidCertificate", re.I)),
    ("timeout", re.compile(r"kind: Timeout|TimedOut|timed out", re.I)),
    ("unreachable", re.compile(r"kind: Connect\b|dns error|tcp connect error|connection refused", re.I)),
    ("broken", re.compile(r"error sending request|body error|kind: (?:Interrupted|Request|Decode)|ill-formed", re.I)),
    ("none", re.compile(r"after 0 retries.*credentials|no credentials|169\.254\.169\.254", re.I | re.S)),
)
# Where the first to say something knows less than its words tell.
_CLOSER = (
    ("tls", "certificate", re.compile(r"expired", re.I)),
    ("credentials", "login", re.compile(r"\bSSO\b|UnauthorizedSSOTokenError|SSOTokenLoadError|TokenRetrievalError")),
)
_SIGNED = re.compile(r"(?i)((?:x-(?:amz|goog)-)?(?:signature|credential|security-token)|awsaccesskeyid|sig)=[^&\s\"']+")


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    detail : str
        The service's or the client's own words. They may hold secrets.
    """

    kind: str
    detail: str = field(default="", repr=False)

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed a little later."""
        return KINDS[self.kind].transient

    @property
    def is_outage(self) -> bool:
        """Whether nothing at all can be expected of the place at the moment."""
        return self.kind in OUTAGES

    @property
    def is_elsewhere(self) -> bool:
        """Whether the bucket may be elsewhere: what only asks after an object is refused without a word then."""
        return self.kind in ("region", "malformed")

    def error(self, action: str, name: str, url: str, secrets: Collection[str] = ()) -> CacheError:
        """The error to raise for it, in which none of the secrets shows."""
        kind = KINDS[self.kind]
        says, fix = (text.format(action=action, name=name, url=url) for text in (kind.says, kind.fix))
        detail = f" ({shortened(redact(self.detail, secrets))})" if self.detail else ""
        error_class = ObjectMissingError if self.kind == "missing" else CacheError
        error = error_class(says[:-1] + f"{detail}.", where=url, fix=fix)
        error.kind = self.kind
        return error


def is_gone(error: CacheError) -> bool:
    """Whether a place that has served may fail in this way for a while, whatever is asked of it."""
    return error.kind in IN_THE_MIDDLE or (error.kind in KINDS and KINDS[error.kind].transient)


def in_short(error: CacheError) -> str:
    """What went wrong without what differs from one request to the next, so that several may say the same."""
    kind = KINDS.get(error.kind)
    says = error.what if kind is None or "{" in kind.says else kind.says
    return says.rstrip(".")


class ShortBodyError(Exception):
    """Fewer bytes arrived than the service said."""


def classify(error: BaseException) -> Failure:
    """Tell what went wrong from what a client raised, and what that was raised from."""
    chain = list(_chain(error))
    # A service's own code says most, then the status, then what kind of error it is.
    found = [_BY_CODE[code] for link in chain for code in _codes(link) if code in _BY_CODE]
    found += [_BY_CLASS[name] for link in chain for name in _class_names(link) if name in _BY_CLASS]
    found += [kind for kind, pattern in _WORDS if pattern.search(str(error))]
    kind = found[0] if found else "malformed" if any("400" in _codes(link) for link in chain) else "other"
    kind = next((closer for rough, closer, words in _CLOSER if rough == kind and words.search(str(error))), kind)
    if kind == "missing" and "bucket" in found:
        kind = "bucket"
    if kind == "region" and not re.search(r"region|redirect|endpoint", str(error), re.I):
        kind = "credentials"
    return Failure(kind, "" if kind in ("missing", "exists") else _detail(error))


def redact(text: str, secrets: Collection[str]) -> str:
    """The text without secrets and without signatures of signed addresses."""
    for secret in sorted(secrets, key=len, reverse=True):
        if secret:
            text = text.replace(secret, "***")
    return _SIGNED.sub(r"\1=***", hide_secrets(text))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen = 0
    link: BaseException | None = error
    while link is not None and seen < CHAIN_LENGTH:
        yield link
        seen += 1
        link = link.__cause__ or link.__context__


def _class_names(error: BaseException) -> list[str]:
    return [cls.__name__ for cls in type(error).__mro__]


def _codes(error: BaseException) -> Iterator[str]:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        yield str(response.get("Error", {}).get("Code", ""))
        yield str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    own = getattr(error, "__dict__", {})  # a property of that name may be a deprecated one
    for attribute in ("error_code", "status_code", "status", "code"):
        value = own.get(attribute, getattr(type(error), attribute, None))
        if isinstance(value, str | int) and not isinstance(value, bool):
            yield str(value)
    text = str(error)
    match = _CODE_IN_TEXT.search(text)
    if match:
        yield match.group(1) or match.group(2)
    status = _STATUS_IN_TEXT.search(text)
    if status:
        yield status.group(1)


def _detail(error: BaseException) -> str:
    text = str(error)
    message = re.search(r"<Message>(.*?)</Message>", text, re.S)
    code = _CODE_IN_TEXT.search(text)
    if message:
        words = f"{code.group(1)}: {message.group(1)}" if code and code.group(1) else message.group(1)
    else:
        words = text.strip().partition("\n")[0] or type(error).__name__
    return words.strip().partition("\n")[0].strip().rstrip(".")


def shortened(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= DETAIL_CHARACTERS else text[: DETAIL_CHARACTERS - 1] + "…"


# --- what the system says when a file cannot be read or written, in words that help ----------------------------------
SET_ANOTHER = "name one on another disk in the variable TMPDIR, on each machine that computes"
FULL_BYTES = 1 << 20
"""A disk with less counts as full: what did not fit may have been larger than what is left."""

_FIXES = {
    errno.ENOSPC: "free space on its disk, or choose another cache with --cache; what is committed stays",
    errno.EDQUOT: "free space within your quota, or choose another cache with --cache; what is committed stays",
    errno.EFBIG: "raise the limit on file sizes, or choose another cache with --cache; what is committed stays",
    errno.EACCES: "ask for the right to it, or choose another cache with --cache; --dry-cache only reads",
    errno.EPERM: "ask for the right to it, or choose another cache with --cache; --dry-cache only reads",
    errno.EROFS: "it is read-only: choose another cache with --cache, or only read with --dry-cache",
    errno.ENAMETOOLONG: "use shorter names for stages, outputs, the prefix, suffixes or folders",
    errno.ENOTDIR: "a file lies where a folder is needed: move it away, or choose another cache with --cache",
    errno.EEXIST: "a file lies where a folder is needed: move it away, or choose another cache with --cache",
    errno.EISDIR: "a folder lies where a file is needed: move it away, or choose another cache with --cache",
}

OTHER_FIX = "check that the place of the cache works, or choose another with --cache"


def explain(error: OSError, action: str, name: str, url: str) -> CacheError:
    """The error to raise for one of the system: what could not be done, where, and what to do about it."""
    fix = what_is_full(error, url) or _FIXES.get(error.errno or 0, OTHER_FIX)
    return CacheError(f"The cache could not {action} {name!r}: {error.strerror or error}.", where=url, fix=fix)


def check_folder(root: str | os.PathLike[str] | None) -> None:
    """Raise a `CacheError` where something else than a folder lies in the place of a cache's folder."""
    if root is not None and os.path.exists(root) and not os.path.isdir(root):
        error = explain(NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)), "use", str(root), str(root))
        error.ran_nothing = True
        raise error


def what_is_full(error: BaseException, place: str = "") -> str:
    """What to do when it is the folder for temporary files that is full, naming it; empty for all else.

    Parameters
    ----------
    place : str
        The folder that was to be written to; on the same disk it is no less full.
    """
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return f"no folder for temporary files can be written to: free space in one of them, or {SET_ANOTHER}"
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    folder = tempfile.gettempdir()
    named = os.fspath(error.filename) if isinstance(error.filename, str) else ""
    is_named = Path(named).is_relative_to(folder) if named else False
    if not is_named and (not _is_full(folder) or (place and _is_same_disk(folder, place))):
        return ""
    return f"the folder for temporary files, {folder}, is full: free space there, or {SET_ANOTHER}"


def _is_full(folder: str) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < FULL_BYTES or (found.f_files > 0 and found.f_favail == 0)


def _is_same_disk(folder: str, other: str) -> bool:
    try:
        return os.stat(folder).st_dev == os.stat(other).st_dev
    except OSError:  # not there, or no folder
        return False


def is_refused(error: BaseException | None) -> bool:
    """Whether the permission to do something is what was missing."""
    while error is not None:
        if isinstance(error, CacheError) and error.kind == "denied":
            return True
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return True
        error = error.__cause__ or error.__context__
    return False
