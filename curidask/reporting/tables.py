"""Reportables that show tables."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from curidask.core.keywords import keywords
from curidask.reporting.index import check_passed_on, latex_keywords
from curidask.reporting.reportables import Reportable, file_link

DIGITS = 4
SHOWN_ROWS = 60
SHOWN_COLUMNS = 30


class DFReporter(Reportable):
    """Shows a table, and keeps all of it as a CSV file.

    Parameters
    ----------
    df : pandas or polars DataFrame or Series
    name, group : str, optional
        See `Reportable`.
    float_prec : int or None
        Digits after the point in what is shown; the file has them all. A number that would be shown as zero has an
        exponent. None for what pandas finds best. (`float_precision` is another name.)
    max_rows, max_columns : int
        Of a larger table the first and last ones are shown.
    """

    @keywords(float_precision="float_prec")
    def __init__(
        self,
        df: Any,
        name: str | None = None,
        group: str | None = None,
        float_prec: int | None = DIGITS,
        *,
        max_rows: int = SHOWN_ROWS,
        max_columns: int = SHOWN_COLUMNS,
    ) -> None:
        super().__init__(name, group)
        self.df = df
        self.float_prec = float_prec
        self.max_rows = max_rows
        self.max_columns = max_columns

    def render(self, folder: Path | None = None) -> None:
        """Write the whole table."""
        frame = self.frame()
        frame.to_csv(Path(folder or self.path) / "table.csv", encoding="utf-8", errors="replace")

    def html(self) -> str:
        """The table, or parts of a large one, with a link to all of it."""
        return self.table() + file_link("table.csv")

    def table(self) -> str:
        """The table as HTML, or parts of a large one with a note that says so."""
        frame = self.frame()
        shown = frame.to_html(
            max_rows=self.max_rows,
            max_cols=self.max_columns,
            border=0,
            classes="frame",
            justify="left",
            escape=True,
            float_format=None if self._digits() is None else self._rounded,
        )
        n_rows, n_columns = frame.shape
        note = ""
        if n_rows > self.max_rows or n_columns > self.max_columns:
            rows, columns = min(n_rows, self.max_rows), min(n_columns, self.max_columns)
            note = f"Shown are {rows:,} of {n_rows:,} rows and {columns:,} of {n_columns:,} columns."
        elif not n_rows:
            note = "The table has no rows."
        return f'<div class="scroll">{shown}</div>' + (f'<p class="note">{html.escape(note)}</p>' if note else "")

    def _digits(self) -> int | None:
        digits = self.float_prec
        if digits is not None and (isinstance(digits, bool) or not isinstance(digits, int) or digits < 0):
            raise self.refuse(f"its float_prec is {digits!r:.40}.", "pass a number of digits, as in float_prec=3")
        return digits

    def _rounded(self, value: float) -> str:
        shown = f"{value:.{self.float_prec}f}"
        return f"{value:.{self.float_prec}e}" if value and not float(shown) else shown

    def frame(self) -> Any:
        """The table as a pandas DataFrame.

        Raises
        ------
        ReportableError
            When it is no table.
        """
        try:
            import pandas as pd
        except ImportError:
            raise self.refuse("it needs pandas, which is not installed.", "pip install 'curidask[reports]'") from None
        df = self.df
        if type(df).__module__.partition(".")[0] == "polars":
            df = df.to_frame() if hasattr(df, "to_frame") else df
            if hasattr(df, "to_dict"):
                df = pd.DataFrame(df.to_dict(as_series=False))
        if isinstance(df, pd.Series):
            df = df.to_frame()
        if not isinstance(df, pd.DataFrame):
            raise self.refuse(
                f"it was given {type(self.df).__name__} ({self.df!r:.60}), which is no table.",
                "pass a pandas or polars DataFrame, as in DFReporter(pd.DataFrame(values))",
            )
        return df


class LatexTableReporter(DFReporter):
    r"""Shows a table with its LaTeX text, ready for a paper, and keeps that as a ``.tex`` file.

    The text uses ``\toprule`` and its kin, so the document needs ``\usepackage{booktabs}``.

    Parameters
    ----------
    df, name, group, max_rows, max_columns
        See `DFReporter`.
    caption, label : str, optional
        Of the LaTeX table.
    index : bool
        Whether the LaTeX table has the frame's index as its first column.
    float_prec : int, optional
        Digits after the point, in the text too.
    escape : bool
        Whether characters that LaTeX takes for commands are escaped; False for cells that hold LaTeX.
    **kwargs
        Passed to pandas' ``Styler.to_latex``, for example ``column_format="lrr"`` or ``hrules=False``.
    """

    @keywords(float_precision="float_prec")
    def __init__(
        self,
        df: Any,
        name: str | None = None,
        group: str | None = None,
        *,
        caption: str | None = None,
        label: str | None = None,
        index: bool = True,
        float_prec: int | None = None,
        escape: bool = True,
        max_rows: int = SHOWN_ROWS,
        max_columns: int = SHOWN_COLUMNS,
        **kwargs: Any,
    ) -> None:
        super().__init__(df, name, group, float_prec, max_rows=max_rows, max_columns=max_columns)
        check_passed_on(kwargs, latex_keywords, LatexTableReporter.__init__, f"{type(self).__name__}()")
        self.caption = caption
        self.label = label
        self.index = index
        self.escape = escape
        self.kwargs = kwargs
        self._text = ""

    def render(self, folder: Path | None = None) -> None:
        """Write the LaTeX text."""
        escape = "latex" if self.escape else None
        style = self.frame().style.format(precision=self._digits(), na_rep="NaN", escape=escape)
        for axis in ("index", "columns"):
            style = style.format_index(escape=escape, axis=axis)
        if not self.index:
            style = style.hide(axis="index")
        options = {"caption": self.caption, "label": self.label, "hrules": True, **self.kwargs}
        self._text = style.to_latex(**options)
        (Path(folder or self.path) / "table.tex").write_text(self._text, encoding="utf-8", errors="replace")

    def html(self) -> str:
        """The table, its LaTeX text, and a link to it."""
        lines = self._text.splitlines()
        shown = "\n".join(lines[: self.max_rows + 20])
        note = "" if len(lines) <= self.max_rows + 20 else '<p class="note">The file has the rest of the text.</p>'
        return (
            f"{self.table()}<details><summary>LaTeX</summary>"
            f'<pre class="latex" data-copy><code>{html.escape(shown)}</code></pre>{note}</details>'
            f"{file_link('table.tex')}"
        )
