"""What is said of values, errors and processes in manifests, run records and messages."""

from __future__ import annotations

import contextlib
import getpass
import os
import pickle
import platform
import socket
import sys
import traceback
from functools import cache
from pathlib import Path

from curidask.errors import CuridaskError
from curidask.execution.base import ErrorInfo
from curidask.execution.project.importer import path_on_driver
from curidask.execution.project.project_files import what_to_do
from curidask.store.backends.errors import what_is_full

FRAMEWORK = str(Path(__file__).resolve().parents[1]) + os.sep
STANDARD = os.path.dirname(os.__file__) + os.sep


LONGEST_MESSAGE = 10_000
"""Characters of an exception's message or traceback that are kept; one may hold a table of a million rows."""

LARGEST_EXCEPTION_BYTES = 1_000_000
"""An exception travels itself up to this size, beyond it as text."""


def describe_error(error: BaseException, *, portable: bool) -> ErrorInfo:
    """An exception as text, with the user's frames only."""
    if isinstance(error, CuridaskError):
        message, fix = error.what, error.fix
    else:
        message, fix = _safe_str(error), what_to_do(error) or what_is_full(error)
    if portable and _wanted_a_terminal(error):
        message = message or "the debugger was called where nobody can type"
        fix = "a worker has no terminal: run with --parallel 0, in this process"
    exception = error if not portable or _travels(error) else None
    # Our own errors say what is behind them; of their traceback only the user's frames could help.
    text = getattr(error, "traceback_text", "") if isinstance(error, CuridaskError) else ""
    if not text and not (isinstance(error, CuridaskError) and not _passed_users_code(error)):
        text = user_traceback(error, chain=not isinstance(error, CuridaskError))
    if isinstance(error, CuridaskError) and "  File " not in text:
        text = ""
    return ErrorInfo(type(error).__name__, _shortened(message), _shortened(text), fix, exception)


def first_line(error: BaseException) -> str:
    """The class of an exception and the first line of its message."""
    return f"{type(error).__name__}: {_safe_str(error)}".partition("\n")[0][:500].removesuffix(": ")


def _wanted_a_terminal(error: BaseException) -> bool:
    """Whether a stage called a debugger or ``input()`` where the standard input is empty."""
    return type(error).__name__ == "BdbQuit" or (isinstance(error, EOFError) and "reading a line" in _safe_str(error))


def _travels(error: BaseException) -> bool:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except BaseException:  # what it runs to pickle itself may raise anything
        return False
    return len(data) <= LARGEST_EXCEPTION_BYTES


def _shortened(text: str) -> str:
    if len(text) <= LONGEST_MESSAGE:
        return text
    half = LONGEST_MESSAGE // 2
    return f"{text[:half]}\n… ({len(text) - 2 * half} characters) …\n{text[-half:]}"


def _passed_users_code(error: BaseException) -> bool:
    """Whether the error came through code that is neither ours nor the standard library's on our behalf."""
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(
        not file.startswith(FRAMEWORK) and (not file.startswith((STANDARD, "<frozen ")) or "site-packages" in file)
        for file in files
    )


def user_traceback(error: BaseException, *, chain: bool = True) -> str:
    """The traceback without the frames of the framework, at its start and in its middle."""
    try:
        formatted = traceback.TracebackException.from_exception(error)
    except BaseException:  # an exception whose own attributes raise
        return f"{type(error).__name__}: {_safe_str(error)}\n"
    seen: set[int] = set()
    current: traceback.TracebackException | None = formatted
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        kept = [frame for frame in current.stack if not frame.filename.startswith(FRAMEWORK)]
        for frame in kept:
            _ = frame.line  # read where the file is
            frame.filename = path_on_driver(frame.filename)
        current.stack = traceback.StackSummary.from_list(kept)
        current = current.__cause__ or current.__context__
    try:
        if isinstance(error, CuridaskError):  # what it says is shown anyway, in another form
            return "Traceback (most recent call last):\n" + "".join(formatted.stack.format())
        return "".join(formatted.format(chain=chain))
    except BaseException:
        return f"{type(error).__name__}: {_safe_str(error)}\n"


def levels_to_user() -> int:
    """The ``stacklevel`` with which a warning of the caller names the user's own line."""
    levels, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((FRAMEWORK, contextlib.__file__)):
        levels, frame = levels + 1, frame.f_back
    return levels


def _safe_str(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:
        return f"<its message could not be made: {type(broken).__name__}>"


@cache
def user_name() -> str:
    """Who runs this."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user id, as in some containers
        return "unknown"


@cache
def worker_name() -> str:
    """Host and process, as messages name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def loaded_packages() -> dict[str, str]:
    """Versions of Python and of the top-level packages that are loaded (a package loaded later is seen later)."""
    return _versions(len(sys.modules))


_seen: tuple[int, dict[str, str]] = (0, {})


def _versions(n_modules: int) -> dict[str, str]:
    # Going through sys.modules costs more than storing a small artifact, so it is done when a module has come.
    global _seen  # noqa: PLW0603
    if _seen[0] != n_modules:
        versions = {"python": platform.python_version()}
        for name, module in list(sys.modules.items()):
            # Out of its namespace: asking the module itself can warn, or import something.
            version = None if "." in name or name.startswith("_") else vars(module).get("__version__")
            if isinstance(version, str) and name not in sys.stdlib_module_names:
                versions[name] = version
        _seen = (n_modules, versions)
    return _seen[1]
