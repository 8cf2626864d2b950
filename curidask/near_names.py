"""Names of attributes that are not there: what was meant is told, where there is one that is nearly named so."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

NEARLY = 0.8
"""How alike two names are of which one is taken for the other, though it might be meant."""


def near_name(name: str, there: Iterable[str], cutoff: float = 0.6) -> str:
    """The one of some public names that is most like another, if need be in another case; empty when none is."""
    if name.startswith("_"):
        return ""
    public = [each for each in there if not each.startswith("_")]
    lower = {each.lower(): each for each in public}
    near = difflib.get_close_matches(name, public, n=1, cutoff=max(cutoff, NEARLY))
    return near[0] if near else lower.get("".join(difflib.get_close_matches(name.lower(), lower, 1, cutoff)), "")


def no_attribute(owner: str, name: str, there: Iterable[str]) -> AttributeError:
    """The error for an attribute that is not there; to be raised.

    Parameters
    ----------
    owner : str
        Whose it would be, to begin the message with.
    name : str
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
            near = near_name(name, self._settable(), NEARLY)
            if near:
                text = f"{type(self).__name__} has no attribute {name!r}, which is one of your own now; did you mean "
                warnings.warn(f"{text}{near!r}?", stacklevel=2)
        object.__setattr__(self, name, value)

    def _settable(self) -> Iterable[str]:
        yield from vars(self)
        for name, held in inspect.getmembers_static(type(self), inspect.isdatadescriptor):
            if not isinstance(held, property) or held.fset is not None:
                yield name
