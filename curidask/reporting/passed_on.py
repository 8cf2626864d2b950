"""Keywords that reportables pass on to other packages: which there are is asked of these packages themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

from curidask.core.keywords import check_keywords

Names = Callable[[], frozenset[str]]


def check_passed_on(
    given: Collection[str], names: Names, function: Callable[..., Any] | None = None, call: str = ""
) -> None:
    """Refuse keywords that the package they go to does not have, before anything is drawn.

    Parameters
    ----------
    given : collection of str
    names : callable
        Gives those of the package. Where that is not installed, nothing is refused here.
    function : callable, optional
        What they were given to, whose own parameters a message may suggest.
    call : str
        How a message names it.

    Raises
    ------
    UnknownKeywordError
    """
    if not given:
        return
    try:
        there = names()
    except ImportError:
        return
    own = inspect.signature(function).parameters.values() if function is not None else ()
    named = {p.name for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"}
    check_keywords(given, there | named, call)


def savefig_keywords() -> frozenset[str]:
    """What ``Figure.savefig`` takes, for whatever format."""
    from matplotlib.backend_bases import FigureCanvasBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_ps import FigureCanvasPS
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    takers: list[Any] = [Figure.savefig, FigureCanvasBase.print_figure]
    for canvas in (FigureCanvasAgg, FigureCanvasPdf, FigureCanvasPS, FigureCanvasSVG):
        takers += [getattr(canvas, name) for name in dir(canvas) if name.startswith("print_")]
    names = {p.name for taker in takers for p in _named(taker)}
    return frozenset(names - {"self", "fname", "filename", "filename_or_obj", "outfile", "fmt"})


def plot_keywords() -> frozenset[str]:
    """What ``Axes.plot`` takes: its own keywords, and the properties of lines with their aliases."""
    from matplotlib.artist import ArtistInspector
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    inspector = ArtistInspector(Line2D)
    aliases = {alias for others in inspector.aliasd.values() for alias in others}
    return frozenset({*inspector.get_setters(), *aliases, *(p.name for p in _named(Axes.plot))} - {"self"})


def latex_keywords() -> frozenset[str]:
    """What ``Styler.to_latex`` takes, but for where to write to."""
    from pandas.io.formats.style import Styler

    return frozenset(p.name for p in _named(Styler.to_latex)) - {"self", "buf"}


def _named(function: Any) -> list[inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
