"""What reaches the terminal: with or without colour, what is logged, and warnings."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import click

_colour: bool | None = None
"""None: as the stream is a terminal or not."""


def choose_colour(*, plain: bool = False) -> None:
    """Take colour away when it is not wanted: by a flag, by the variable ``NO_COLOR``, or on a dumb terminal."""
    global _colour  # noqa: PLW0603  # errors are shown where no command's context is left to ask
    unwanted = plain or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    _colour = False if unwanted else None


def say(text: str = "", *, err: bool = True, nl: bool = True, **style: Any) -> None:
    """Print a line, on stderr unless told otherwise."""
    click.echo(click.style(text, **style) if style else text, file=own_stream(err=err), nl=nl, color=_colour)


def own_stream(*, err: bool = True) -> TextIO:
    """The stream for what the command says: while a stage runs here, what goes to the usual one is the stage's."""
    stream = sys.stderr if err else sys.stdout
    own: TextIO = getattr(stream, "beneath", stream)
    return own


class _LineHandler(logging.Handler):
    """Hands each record over as a line of text."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._show(self.format(record))
        except Exception:
            self.handleError(record)


def show_logs(show: Callable[[str], None], root: Path, *, verbose: bool, everything: bool) -> None:
    """Show warnings and errors that are logged; with `verbose` what is told, too."""
    from curidask.logs import SHORT_FORMAT, ByStage, ForFile, OwnRecords

    handler = _LineHandler(show)
    handler.setFormatter(logging.Formatter(SHORT_FORMAT))
    handler.setLevel(logging.INFO if verbose else logging.WARNING)
    handler.addFilter(OwnRecords(root, everything=everything))
    handler.addFilter(ForFile())
    handler.addFilter(ByStage())
    top = logging.getLogger()
    top.addHandler(handler)
    top.setLevel(min(top.level or logging.WARNING, handler.level))


def show_warnings(show: Callable[[str], None]) -> None:
    """Show Python's warnings as lines."""

    def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        show(f"{message}" if category is UserWarning else f"{category.__name__}: {message}")

    warnings.showwarning = show_warning
