"""Reportables that show tables."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from curidask.reporting.reportables import Reportable

SHOWN_ROWS = 60
SHOWN_COLUMNS = 30


class DFReporter(Reportable):
    """Shows a table, and keeps all of it as a CSV file.

    Parameters
    ----------
    df : pandas or polars DataFrame or Series
    name, group : str, optional
        See `Reportable`.
    float_precision : int, optional
        Digits after the point in what is shown; the file has them all.
    max_rows, max_columns : int
        Of a larger table the first and last ones are shown.
    """

    def __init__(
        self,
        df: Any,
        name: str | None = None,
        group: str | None = None,
        *,
        float_precision: int | None = None,
        max_rows: int = SHOWN_ROWS,
        max_columns: int = SHOWN_COLUMNS,
    ) -> None:
        super().__init__(name, group)
        self.df = df
        self.float_precision = float_precision
        self.max_rows = max_rows
        self.max_columns = max_columns

    def render(self, folder: Path) -> None:
        """Write the whole table."""
        frame = self.frame()
        frame.to_csv(folder / "table.csv", encoding="utf-8", errors="replace")

    def html(self) -> str:
        """The table, or parts of a large one, with a link to all of it."""
        return self.table() + f'<p class="files"><a href="{self.link("table.csv")}" download>table.csv</a></p>'

    def table(self) -> str:
        """The table as HTML, or parts of a large one with a note that says so."""
        frame = self.frame()
        precision = self.float_precision
        shown = frame.to_html(
            max_rows=self.max_rows,
            max_cols=self.max_columns,
            border=0,
            classes="frame",
            justify="left",
            escape=True,
            float_format=None if precision is None else f"{{:.{precision}f}}".format,
        )
        n_rows, n_columns = frame.shape
        note = ""
        if n_rows > self.max_rows or n_columns > self.max_columns:
            rows, columns = min(n_rows, self.max_rows), min(n_columns, self.max_columns)
            note = f"Shown are {rows:,} of {n_rows:,} rows and {columns:,} of {n_columns:,} columns."
        elif not n_rows:
            note = "The table has no rows."
        return f'<div class="scroll">{shown}</div>' + (f'<p class="note">{html.escape(note)}</p>' if note else "")

    def frame(self) -> Any:
        """The table as a pandas DataFrame.

        Raises
        ------
        ReportableError
            When it is no table.
        """
        import pandas as pd

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
    df, name, group, float_precision, max_rows, max_columns
        See `DFReporter`.
    caption, label : str, optional
        Of the LaTeX table.
    index : bool
        Whether the LaTeX table has the frame's index as its first column.
    """

    def __init__(
        self,
        df: Any,
        name: str | None = None,
        group: str | None = None,
        *,
        caption: str | None = None,
        label: str | None = None,
        index: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(df, name, group, **options)
        self.caption = caption
        self.label = label
        self.index = index
        self._text = ""

    def render(self, folder: Path) -> None:
        """Write the LaTeX text."""
        precision = self.float_precision
        self._text = self.frame().to_latex(
            caption=self.caption,
            label=self.label,
            index=self.index,
            escape=True,
            float_format=None if precision is None else f"{{:.{precision}f}}".format,
        )
        (folder / "table.tex").write_text(self._text, encoding="utf-8", errors="replace")

    def html(self) -> str:
        """The table, its LaTeX text, and a link to it."""
        lines = self._text.splitlines()
        shown = "\n".join(lines[: self.max_rows + 20])
        note = "" if len(lines) <= self.max_rows + 20 else '<p class="note">The file has the rest of the text.</p>'
        return (
            f"{self.table()}<details><summary>LaTeX</summary>"
            f'<pre class="latex" data-copy><code>{html.escape(shown)}</code></pre>{note}</details>'
            f'<p class="files"><a href="{self.link("table.tex")}" download>table.tex</a></p>'
        )
