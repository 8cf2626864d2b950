"""Results as text."""

from __future__ import annotations

from collections.abc import Sequence

from digits_lib.scores import Matrix, Row


def leaderboard_text(rows: Sequence[Row]) -> str:
    """The leaderboard, a line a configuration."""
    width = max(len("configuration"), *(len(row["configuration"]) for row in rows))
    lines = [f"      {'configuration':<{width}}  {'accuracy':>8}  {'spread':>6}  {'worst':>6}  {'seeds':>5}"]
    for place, row in enumerate(rows, start=1):
        spread = "-" if row["spread"] is None else f"{row['spread']:.2%}"
        lines.append(
            f"{place:>4}  {row['configuration']:<{width}}  {row['mean']:>8.2%}  {spread:>6}"
            f"  {row['worst']:>6.1%}  {row['seeds']:>5}"
        )
    return "\n".join(lines)


def confusion_text(matrix: Matrix) -> str:
    """A confusion matrix with its margins; a dot where nothing was counted."""
    width = max(5, len(str(max(map(max, matrix)))) + 1)
    header = "written \\ read" + "".join(f"{digit:>{width}}" for digit in range(len(matrix)))
    lines = [header]
    for digit, row in enumerate(matrix):
        lines.append(f"{digit:>14}" + "".join(f"{count or '.':>{width}}" for count in row))
    return "\n".join(lines)
