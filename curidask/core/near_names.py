"""Names of attributes that are not there: what was meant is told, where there is one that is nearly named so."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

ALIKE = 0.6
"""How alike two names are at least of which one may be meant to be the other; 1 for the same."""

IN_PART = 0.9
"""What it counts to be like a word of a name, or like it in another case."""

SWITCHED_OFF = 0.97
"""What it counts to be like a name but for ``no_`` before it."""

NEARLY = 0.8
"""How alike two names are of which one may be meant although the other can be, too."""


def near_name(name: str, there: Iterable[str]) -> str:
    """The one of some public names that another was meant to be; empty when it is like none of them.

    Notes
    -----
    A word of a name counts, too: ``stge`` is meant to be ``stage_name`` rather than ``store``. So does another case,
    and what is switched off: ``no_reports`` is meant to be ``report``.
    """
    if name.startswith("_"):
        return ""
    scored = [(_likeness(name, each), each) for each in there if not each.startswith("_")]
    likeness, nearest = max(scored, default=(0.0, ""), key=lambda scored: scored[0])
    return nearest if likeness >= ALIKE else ""


def nearly(name: str, there: Iterable[str]) -> str:
    """The one of some public names of which another is the same but for a slip; empty when it is of none."""
    public = [each for each in there if not each.startswith("_")]
    near = [] if name.startswith("_") else difflib.get_close_matches(name, public, n=1, cutoff=NEARLY)
    return near[0] if near else ""


def _likeness(name: str, other: str) -> float:
    parts = [word for word in other.split("_") if len(word) >= SHORTEST_WORD and word != other]
    in_part = max(_ratio(name.lower(), part) for part in (other.lower(), *parts))
    switched = SWITCHED_OFF * _ratio(name.removeprefix("no_"), other) if name.startswith("no_") else 0.0
    return max(_ratio(name, other), IN_PART * in_part, switched)


SHORTEST_WORD = 3


def _ratio(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, name, other).ratio()


def no_attribute(owner: str, name: str, there: Iterable[str]) -> AttributeError:
    """The error for an attribute that is not there; to be raised.

    Parameters
    ----------
    owner : str
        Whose it would be, to begin the message with.
    there : iterable of str
        The names that there are.
    """
    near = near_name(name, there)
    return AttributeError(f"{owner} has no attribute {name!r}" + (f"; did you mean {near!r}?" if near else ""))


class NearNames:
    """An object whose attributes, when they are misspelt, are told with the near name.

    An attribute of a user's own can be set; a name that is nearly that of one that could be meant is warned of. It
    begins with `_is_made`, which ``__init__`` sets when it has ended.
    """

    _is_made = False

    if not TYPE_CHECKING:  # for whom any name would be there

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):
                return object.__getattribute__(self, name)  # a property that raised raises the same once more
            raise no_attribute(f"{type(self).__name__!r} object", name, dir(self))

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_made and name not in vars(self) and not hasattr(type(self), name):
            near = nearly(name, self._settable())
            if near:
                text = f"{type(self).__name__} has no attribute {name!r}, which is one of your own now; did you mean "
                warnings.warn(f"{text}{near!r}?", stacklevel=2)
        object.__setattr__(self, name, value)

    def _settable(self) -> Iterable[str]:
        yield from vars(self)
        for name, held in inspect.getmembers_static(type(self), inspect.isdatadescriptor):
            if not isinstance(held, property) or held.fset is not None:
                yield name
