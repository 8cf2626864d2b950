"""What reaches the terminal: with or without colour, what is logged, and warnings."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import click

from curidask.core.redaction import hide_secrets
from curidask.store.manifest import for_terminal

_colour: bool | None = None
"""None: as the stream is a terminal or not."""


def choose_colour(*, plain: bool = False) -> None:
    """Take colour away when it is not wanted: by a flag, by the variable ``NO_COLOR``, or on a dumb terminal."""
    global _colour  # noqa: PLW0603  # errors are shown where no command's context is left to ask
    unwanted = plain or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    _colour = False if unwanted else None


@contextmanager
def coloured(*, plain: bool) -> Iterator[None]:
    """Choose the colour for a while."""
    global _colour  # noqa: PLW0603  # see choose_colour
    before = _colour
    choose_colour(plain=plain)
    try:
        yield
    finally:
        _colour = before


def say(text: str = "", *, err: bool = True, nl: bool = True, as_it_is: bool = False, **style: Any) -> None:
    """Print a line, on stderr unless told otherwise.

    What moves the cursor is left out, and what is secret in addresses, but for what is to be shown `as_it_is`.
    """
    text = text if as_it_is else for_terminal(hide_secrets(text))
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


@contextmanager
def shown_logs(
    show: Callable[[str], None], root: Path, *, verbose: bool, everything: bool, notices: bool = True
) -> Iterator[None]:
    """Show warnings and errors that are logged meanwhile; with `verbose` what is told, too.

    Notices are warnings about no result.
    """
    from curidask.session.logging import SHORT_FORMAT, ByStage, ForFile, OwnRecords

    handler = _LineHandler(show)
    handler.setFormatter(logging.Formatter(SHORT_FORMAT))
    handler.setLevel(logging.INFO if verbose else logging.WARNING)
    handler.addFilter(OwnRecords(root, everything=everything))
    handler.addFilter(ForFile())
    handler.addFilter(ByStage())
    handler.addFilter(lambda record: notices or not getattr(record, "notice", False))
    top = logging.getLogger()
    level = top.level
    top.addHandler(handler)
    top.setLevel(min(level or logging.WARNING, handler.level))
    try:
        yield
    finally:
        top.removeHandler(handler)
        top.setLevel(level)


def show_warnings(show: Callable[[str], None]) -> None:
    """Show Python's warnings as lines from now on."""

    def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = f"{message}" if category is UserWarning else f"{category.__name__}: {message}"
        try:
            show(text)
        except Exception:  # of the display, which has no say in whether the run goes on
            with suppress(Exception):
                print(f"warning: {text}", file=sys.stderr)

    warnings.showwarning = show_warning


@contextmanager
def shown_warnings(show: Callable[[str], None]) -> Iterator[None]:
    """Show Python's warnings as lines meanwhile; those of a stage are part of what it prints."""
    from curidask.execution.process.context import print_warning
    from curidask.execution.process.tee import speaker

    before = warnings.showwarning
    show_warnings(show)
    as_line = warnings.showwarning

    def show_warning(*warning: Any, **named: Any) -> None:
        (print_warning if speaker() else as_line)(*warning, **named)

    warnings.showwarning = show_warning
    try:
        yield
    finally:
        warnings.showwarning = before
