"""What Parquet, Feather and ORC do not say of a pandas frame: described as JSON, and made again of it.

Arrow says of labels what type they had, and pandas makes others of the texts for some: of ``"False"`` the boolean True,
of an interval an error. So the columns are written under texts, and what their labels are is kept beside them. The same
holds for types that Arrow has no word for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curidask.caching import cells, labels

ATTRIBUTE = "curidask_columns"


def written(frame: Any, *, texts_only: bool = False) -> tuple[Any, dict[str, Any] | None]:
    """The frame as its file can have it, and what is lost with that; itself and None for nothing.

    Parameters
    ----------
    frame : pandas.DataFrame
    texts_only : bool
        Whether numbers are no labels either.

    Raises
    ------
    labels.LabelError
        When a label cannot be written down.
    """
    plain = labels.are_plain(frame.columns) and all(_is_text(name) for name in frame.index.names)
    if texts_only:
        plain = plain and all(isinstance(label, str) for label in frame.columns)
    lost = [place for place in range(frame.shape[1]) if _is_lost(frame.dtypes.iloc[place])]
    if plain and not lost:
        return frame, None
    texts = labels.texts_of(frame.columns)
    facts = {
        **labels.described(frame.columns),
        "index_names": labels.described_names(frame.index),
        "texts": texts,
        "types": {texts[place]: cells.described_column(frame.iloc[:, place], None) for place in lost},
    }
    frame = frame.set_axis(texts, axis="columns")
    frame.index = frame.index.set_names([name if _is_text(name) else str(name) for name in frame.index.names])
    for place in lost:
        categories = getattr(frame.dtypes.iloc[place], "categories", None)
        if categories is not None and hasattr(categories, "closed"):  # intervals, for which Arrow has no dictionary
            frame.isetitem(place, frame.iloc[:, place].astype(categories.dtype))
    return frame, facts


def restored(frame: Any, facts: Mapping[str, Any] | None) -> Any:
    """The frame that was described; some of its columns may have been left out."""
    if facts is None:
        return frame
    for place, text in enumerate(frame.columns):
        if text in facts["types"]:
            frame.isetitem(place, cells.made_column(facts["types"][text], frame.iloc[:, place]))
    places = {text: place for place, text in enumerate(facts["texts"])}
    frame.columns = labels.made(facts).take([places[text] for text in frame.columns])
    if len(facts["index_names"]) == frame.index.nlevels:
        frame.index = frame.index.set_names(labels.made_names(facts["index_names"]))
    return frame


def with_attribute(frame: Any) -> Any:
    """The frame as Parquet can have it, with what is lost among the attributes, which pandas keeps in the file."""
    prepared, facts = written(frame)
    if facts is not None:
        prepared.attrs = {**frame.attrs, ATTRIBUTE: facts}
    return prepared


def without_attribute(frame: Any) -> Any:
    """The frame that `with_attribute` described."""
    return restored(frame, frame.attrs.pop(ATTRIBUTE, None))


def _is_text(name: Any) -> bool:
    return name is None or isinstance(name, str)


def _is_lost(dtype: Any) -> bool:
    """Whether columns of a type come back as another one: categories that are no texts, and times in seconds."""
    if dtype.name == "category":
        return not all(isinstance(category, str) for category in dtype.categories)
    return dtype.kind in "mM" and cells.unit_of(dtype) == "s"
