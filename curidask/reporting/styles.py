"""Style sheets of reports: ours, and one of the user's own, which comes after it and is never written to."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path

from curidask.reporting.templating import asset
from curidask.session.config import Config

OURS = "style.css"
INSTEAD = "curidask.css"
"""The name of ours among the reports when `OURS` is a file of the user's."""
CUSTOM = "curidask-custom.css"
"""The copy of the user's own."""

SIGNATURE = re.compile(r"/\* curidask ([0-9a-f]{64})\b[^*]*\*/\n\Z")


def built_in() -> str:
    """Our style sheet, with a last line by which it is known again as long as nobody has changed it."""
    text = asset(OURS)
    return f"{text}/* curidask {_digest(text)}: a file that is changed above is yours, and stays as it is */\n"


def own_sheet(reports: Path, chosen: Path | None) -> bytes | None:
    """The user's own style sheet, None where there is none.

    Parameters
    ----------
    reports : Path
        The folder of all reports; a ``style.css`` there that is not ours is the user's.
    chosen : Path or None
        A style sheet that the configuration names.

    Warns
    -----
    UserWarning
        When the one that is named cannot be read. The default place may be empty.
    """
    path = chosen or reports / OURS
    try:
        content = path.read_bytes()
    except OSError as error:
        if chosen is not None and not (isinstance(error, FileNotFoundError) and _same(path, reports / OURS)):
            text = f"the style sheet {path} (report_css) cannot be read: {error.strerror or error}"
            warnings.warn(f"{text}; the report has the built-in one only", stacklevel=2)
        return None
    return None if _is_built_in(content) else content


def name_of_ours(reports: Path) -> str:
    """Under which name our style sheet is written among the reports, so that no file of the user's is replaced."""
    path = reports / OURS
    try:
        return OURS if _is_built_in(path.read_bytes()) else INSTEAD
    except FileNotFoundError:
        return INSTEAD if path.is_symlink() else OURS
    except OSError:
        return INSTEAD


def configured(config: Config) -> Path | None:
    """The style sheet that a project's configuration names."""
    return config.path(config.report_css) if config.report_css else None


def _is_built_in(content: bytes) -> bool:
    text = content.decode("utf-8", errors="replace")
    signature = SIGNATURE.search(text)
    return signature is not None and _digest(text[: signature.start()]) == signature[1]


def _same(one: Path, other: Path) -> bool:
    return one.absolute() == other.absolute()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
