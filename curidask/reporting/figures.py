"""Reportables that show pictures: figures of matplotlib, line plots, image files.

Matplotlib is used through its objects only, never through pyplot, so the user's backend and current figure stay as they
are, and it works where there is no screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curidask.core.keywords import keywords
from curidask.reporting.index import check_passed_on, plot_keywords, savefig_keywords
from curidask.reporting.reportables import IMAGE_SUFFIXES, Reportable, file_link, image_size, image_tag

LARGEST_SVG_BYTES = 2_000_000
"""A figure that is larger as SVG (hundreds of thousands of points) would make the report slow; it is shown as PNG."""

PIXEL_KEYWORDS = {"metadata", "pil_kwargs"}
"""Keywords of ``savefig`` that mean something else, or nothing, for an SVG."""

MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpg",
    b"GIF8": "gif",
}


class FigureReporter(Reportable):
    """Shows a figure of matplotlib as it is now: what is drawn into it later, or that it is closed, does not matter.

    Parameters
    ----------
    fig : matplotlib.figure.Figure or object
        A figure, axes, or what has a ``figure`` (seaborn's grids).
    name, group : str, optional
        See `Reportable`.
    format : str, optional
        By default SVG, and PNG for a figure of very many points or where keywords are for pixels. What a browser does
        not show, such as ``"pdf"``, is kept as a file beside an SVG.
    dpi : float, optional
        Dots per inch of a PNG.
    alt : str, optional
        What the figure shows, for those who cannot see it; the name by default.
    **kwargs
        Passed to ``Figure.savefig``, for example ``transparent=True``.
    """

    @keywords()
    def __init__(
        self,
        fig: Any,
        name: str | None = None,
        group: str | None = None,
        *,
        format: str | None = None,
        dpi: float | None = None,
        alt: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, group)
        check_passed_on(kwargs, savefig_keywords, FigureReporter.__init__, f"{type(self).__name__}()")
        self.fig = fig
        self.format = format
        self.dpi = dpi
        self.alt = alt
        self.kwargs = kwargs
        self._files: list[str] = []
        self._size: tuple[int, int] | None = None

    def render(self, folder: Path | None = None) -> None:
        """Draw the figure into a file."""
        folder = Path(folder or self.path)
        figure = self.figure()
        if not figure.axes and not getattr(figure, "texts", None):
            raise self.refuse("the figure is empty.", "draw into it before it is reported")
        chosen = self.format or ("png" if PIXEL_KEYWORDS & self.kwargs.keys() else "svg")
        shown = chosen if f".{chosen}" in IMAGE_SUFFIXES else "svg"
        path = folder / f"figure.{shown}"
        self._save(figure, path)
        if not self.format and path.stat().st_size > LARGEST_SVG_BYTES:
            path.unlink()
            path = folder / "figure.png"
            self._save(figure, path)
        self._size = image_size(path.read_bytes())
        self._files = [path.name]
        if chosen != shown:
            self._save(figure, folder / f"figure.{chosen}")
            self._files.append(f"figure.{chosen}")

    def html(self) -> str:
        """The image, and a link to the file where a browser does not show its format."""
        image, *others = self._files
        return image_tag(image, self.alt or f"Figure: {self.name}", self._size) + "".join(map(file_link, others))

    def figure(self) -> Any:
        """The figure itself.

        Raises
        ------
        ReportableError
            When there is none.
        """
        figure = self.fig if hasattr(self.fig, "savefig") else getattr(self.fig, "figure", None)
        if not hasattr(figure, "savefig") or isinstance(self.fig, type):
            raise self.refuse(
                f"it was given {type(self.fig).__name__} ({self.fig!r:.60}), which is no figure.",
                "pass a matplotlib Figure, as in `fig, ax = plt.subplots(); ...; FigureReporter(fig)`",
            )
        return getattr(figure, "figure", figure)

    def _save(self, figure: Any, path: Path) -> None:
        options: dict[str, Any] = {"dpi": self.dpi or "figure", "bbox_inches": "tight", **self.kwargs}
        if path.suffix == ".svg":
            # Without the date, the same figure gives the same file.
            options["metadata"] = {"Date": None, **(options.get("metadata") or {})}
        try:
            figure.savefig(path, **options, format=path.suffix[1:])
        except ValueError as error:
            if "format" not in str(error).lower():
                raise
            raise self.refuse(f"it has no format {self.format!r}.", 'pass format="svg", "png" or "pdf"') from None
        except TypeError as error:
            given = ", ".join(f"{name}={value!r:.40}" for name, value in self.kwargs.items()) or "none"
            raise self.refuse(
                f"it cannot be saved as {path.suffix[1:]}: {error}",
                f"check the arguments passed on to savefig ({given})",
            ) from None


class LinePlotReporter(FigureReporter):
    """Shows one line or several.

    Parameters
    ----------
    y : sequence, mapping of str to sequence, or DataFrame
        The values of one line; or those of several, by label.
    x : sequence or mapping of str to sequence, optional
        Where the values lie, for all lines or by label; their places (or a Series' index) by default.
    name, group : str, optional
        See `Reportable`.
    plot_kwargs : mapping, optional
        Passed to matplotlib's ``plot``, for example ``{"marker": "o"}``.
    savefig_kwargs : mapping, optional
        Passed to ``Figure.savefig``.
    title, xlabel, ylabel : str
    format, dpi, alt
        See `FigureReporter`.
    **plot_args
        More for ``plot``, for example ``marker="o"``.
    """

    @keywords()
    def __init__(
        self,
        y: Any,
        x: Any = None,
        name: str | None = None,
        group: str | None = None,
        plot_kwargs: Mapping[str, Any] | None = None,
        savefig_kwargs: Mapping[str, Any] | None = None,
        *,
        title: str = "",
        xlabel: str = "",
        ylabel: str = "",
        format: str | None = None,
        dpi: float | None = None,
        alt: str = "",
        **plot_args: Any,
    ) -> None:
        saving = {"format": format, "dpi": dpi} | dict(savefig_kwargs or {})
        call = f"{type(self).__name__}()"
        check_passed_on(saving, savefig_keywords, call=f"savefig_kwargs of {call}")
        check_passed_on(plot_kwargs or {}, plot_keywords, call=f"plot_kwargs of {call}")
        check_passed_on(plot_args, plot_keywords, LinePlotReporter.__init__, call)
        super().__init__(None, name, group, alt=alt, **saving)
        self.y = y
        self.x = x
        self.title = title
        self.xlabel = xlabel
        self.ylabel = ylabel
        self.plot_kwargs = {**(plot_kwargs or {}), **plot_args}
        self.savefig_kwargs = dict(savefig_kwargs or {})

    def figure(self) -> Any:
        """Draw the plot."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise self.refuse(
                "it needs matplotlib, which is not installed.", "pip install 'curidask[reports]'"
            ) from None
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        lines = list(self._lines())
        for label, x, y in lines:
            self._draw(axes, x, y, label)
        axes.set(title=self.title, xlabel=self.xlabel, ylabel=self.ylabel)
        axes.grid(visible=True, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if any(label for label, _, _ in lines):
            axes.legend(frameon=False)
        return figure

    def html(self) -> str:
        """The image, with the lines' names as its description."""
        if not self.alt:
            labels = ", ".join(label for label, _, _ in self._lines() if label)
            self.alt = f"Line plot {self.title or self.name}" + (f" of {labels}" if labels else "")
        return super().html()

    def _draw(self, axes: Any, x: Any, y: Any, label: str) -> None:
        # An underscore at the start would keep a label out of the legend.
        options = {"label": f"\u200b{label}" if label.startswith("_") else label or None, **self.plot_kwargs}
        try:
            axes.plot(*((y,) if x is None else (x, y)), **options)
        except (AttributeError, TypeError, ValueError) as error:
            shown = ", ".join(f"{name}={value!r}" for name, value in self.plot_kwargs.items()) or "none"
            raise self.refuse(
                f"{self._line(label)} cannot be plotted: {error}",
                f"check the values and the arguments passed on to plot ({shown})",
            ) from None

    def _lines(self) -> Iterator[tuple[str, Any, Any]]:
        """Label, x (None: the places) and y of each line."""
        if not isinstance(self.y, Mapping) and not hasattr(self.y, "columns"):
            yield "", *self._checked("", self.x, self.y)
            return
        if not len(self.y):
            raise self.refuse("there is no line: y is empty.", "pass at least one line")
        labels = self.y if isinstance(self.y, Mapping) else self.y.columns
        for label in labels:
            x = self.x
            if isinstance(x, Mapping):
                if label not in x:
                    raise self.refuse(f"{self._line(str(label))} has no x: x lacks its label.", "give it one in x")
                x = x[label]
            yield str(label), *self._checked(str(label), x, self.y[label])

    def _checked(self, label: str, x: Any, y: Any) -> tuple[Any, Any]:
        """The values of a line, once they are known to be one."""
        import numpy as np

        values = self._array(y, f"{self._line(label)}")
        if not values.size:
            raise self.refuse(f"{self._line(label)} is empty: y has no values.", "pass at least one value")
        if values.dtype.kind not in "biufmM":
            raise self.refuse(f"the values of {self._line(label)} are no numbers.", "pass numbers as y")
        if x is None:
            return getattr(y, "index", None) if type(y).__module__.startswith("pandas") else None, values
        places = self._array(x, f"the x of {self._line(label)}")
        if places.shape != values.shape:
            raise self.refuse(
                f"{self._line(label)} has {values.size} values, but {places.size} places: the lengths differ.",
                "make x and y equally long",
            )
        return np.asarray(places), values

    def _array(self, values: Any, what: str) -> Any:
        import numpy as np

        if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
            raise self.refuse(f"{what} is {type(values).__name__} ({values!r:.60}), no list.", "pass a list of numbers")
        try:
            array = np.asarray(values)
        except ValueError:
            raise self.refuse(f"{what} is a ragged list.", "pass a flat list of numbers") from None
        if array.dtype.kind == "O":  # None stands for a value that is missing
            try:
                array = np.array([np.nan if value is None else value for value in array], dtype=float)
            except (TypeError, ValueError):
                return array
        if array.ndim != 1:
            raise self.refuse(
                f"{what} has {array.ndim} dimensions (shape {array.shape}).",
                "pass a flat list; for several lines, a dict of label to list",
            )
        return array

    def _line(self, label: str) -> str:
        return f"the line {label!r}" if label else "the line"


class ImageReporter(Reportable):
    """Shows an image as it is: PNG, JPEG, GIF, WebP, AVIF, BMP or SVG.

    Parameters
    ----------
    image_path : path or bytes
        The file, read now, or its content. (`image` is another name.)
    name, group : str, optional
        See `Reportable`.
    alt : str, optional
        What the image shows, for those who cannot see it; the name by default.
    """

    @keywords(image="image_path")
    def __init__(self, image_path: Any, name: str | None = None, group: str | None = None, *, alt: str = "") -> None:
        super().__init__(name, group)
        self.image_path = image_path
        self.alt = alt
        self._file = ""
        self._size: tuple[int, int] | None = None

    def render(self, folder: Path | None = None) -> None:
        """Copy the image."""
        data = self._data()
        suffix = _image_type(data)
        if suffix is None:
            raise self.refuse(
                f"{self._given()} is no image that a browser shows.",
                "pass a PNG, JPEG, GIF, WebP, AVIF, BMP or SVG image",
            )
        self._file = f"image.{suffix}"
        self._size = image_size(data)
        (Path(folder or self.path) / self._file).write_bytes(data)

    def html(self) -> str:
        """The image."""
        return image_tag(self._file, self.alt or f"Image: {self.name}", self._size)

    def _data(self) -> bytes:
        if isinstance(self.image_path, bytes | bytearray | memoryview):
            return bytes(self.image_path)
        if not isinstance(self.image_path, str | Path):
            raise self.refuse(
                f"it was given {type(self.image_path).__name__} ({self.image_path!r:.60}).",
                "pass the path of an image file or its bytes",
            )
        try:
            return Path(self.image_path).read_bytes()
        except OSError as error:
            raise self.refuse(
                f"{self._given()} cannot be read: {error.strerror or error}.",
                "pass a path that the process that runs the stage can read",
            ) from None

    def _given(self) -> str:
        if isinstance(self.image_path, str | Path):
            return f"the file {str(self.image_path)!r}"
        return f"what it was given ({len(self.image_path)} bytes)"


def _image_type(data: bytes) -> str | None:
    for magic, suffix in MAGIC.items():
        if data.startswith(magic):
            return suffix
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "avif"
    if data[:2] == b"BM" and int.from_bytes(data[2:6], "little") == len(data):
        return "bmp"
    head = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n")
    return "svg" if head.startswith((b"<?xml", b"<svg", b"<!--", b"<!DOCTYPE svg")) and b"<svg" in data[:4000] else None
