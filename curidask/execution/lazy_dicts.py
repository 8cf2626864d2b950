"""What a stage looks up its inputs in: dicts whose values load when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Collection, ItemsView, Iterable, Iterator, KeysView, ValuesView
from functools import partial
from typing import Any, NoReturn

from curidask.core.keywords import CheckedCalls
from curidask.errors import MissingInputError, StageAccessError, UndeclaredInputError

_NOT_LOADED = object()


class LoadingDict(CheckedCalls, dict[Any, Any]):
    """A dict each of whose values is loaded when it is looked at, and not kept.

    What is assigned is kept in the dict itself.

    Parameters
    ----------
    load : callable
        Gives the value of a key.
    """

    def __init__(self, load: Callable[[Any], Any], keys: Iterable[Any]) -> None:
        super().__init__(dict.fromkeys(keys, _NOT_LOADED))
        self._load = load

    def __getitem__(self, key: Any) -> Any:
        held = super().__getitem__(key)
        return self._load(key) if held is _NOT_LOADED else held

    def __iter__(self) -> Iterator[Any]:
        # Overridden so that dict(...) and {**...} load; a snapshot, since users fill such a dict while they go through.
        return iter(list(super().__iter__()))

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or the default."""
        if key not in self:
            return default
        return self[key]

    def keys(self) -> Any:
        """All keys."""
        return KeysView(self)

    def values(self) -> Any:
        """All values, each loaded when it is its turn."""
        return ValuesView(self)

    def items(self) -> Any:
        """All keys with their values, each loaded when it is its turn."""
        return ItemsView(self)

    def pop(self, key: Any, *default: Any) -> Any:
        """Take a value out."""
        if default and key not in self:
            return default[0]
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[Any, Any]:
        """Take out the last key with its value."""
        key = next(reversed(self))
        return key, self.pop(key)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of a key, which is the default from now on if there was none."""
        if key not in self:
            self[key] = default
        return self[key]

    def copy(self) -> dict[Any, Any]:
        """A dict with all values."""
        return dict(self)

    def __or__(self, other: Any) -> Any:
        return self.copy() | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return other | self.copy() if isinstance(other, dict) else NotImplemented

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and self.copy() == dict(other)

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    def __repr__(self) -> str:
        return repr(self.copy())


class StageState(LoadingDict):
    """The inputs that a stage declares, of one record, by name.

    Others are not there, and what asks for them is refused: a stage's key would not know of them. So is what would
    change the state.

    Parameters
    ----------
    load : callable
        Gives the value of an input.
    names : collection of str
        Those that the record holds.
    where : str
        For messages.
    represent : callable
        Tells of an input of a record, by name, what displays show of it.
    declared : collection of str, optional
        What the stage declares; None for an aggregate that has all that its records hold.
    n_held : int
        How many artifacts the record holds.
    """

    def __init__(
        self,
        load: Callable[[str], Any],
        names: Collection[str],
        where: str,
        represent: Callable[[Any, str], Any],
        *,
        declared: Collection[str] | None = (),
        n_held: int = 0,
    ) -> None:
        super().__init__(load, names)
        self.names = list(names)
        self.represent = represent
        self._declared = declared
        self._n_others = n_held - len(self.names)
        self._where = where

    def __contains__(self, name: object) -> bool:
        if name in self.names:
            return True
        if self._declared is None or name in self._declared:
            return False
        raise UndeclaredInputError(
            f"{name!r} was read from the state, but is not a declared input ({self._known}).",
            where=self._where,
            fix=f"add {name!r} to the stage's `inputs` and to its function's parameters",
        )

    def __getitem__(self, name: str) -> Any:
        if name in self:
            return super().__getitem__(name)
        raise MissingInputError(
            f"The record has no {name!r}.",
            where=self._where,
            fix=f"ask for it with `state.get({name!r})`, or run a stage that makes it on the record before",
        )

    def __iter__(self) -> Iterator[str]:
        self._check_all_are_declared()
        return super().__iter__()

    def __len__(self) -> int:
        self._check_all_are_declared()
        return super().__len__()

    def __reversed__(self) -> Iterator[str]:
        self._check_all_are_declared()
        return super().__reversed__()

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(StageState, declared=self._declared, n_held=self._n_others + len(self.names))
        return make, (self._load, self.names, self._where, self.represent)

    def __repr__(self) -> str:
        return f"<the state in a stage, {self._known}>"

    @property
    def _known(self) -> str:
        return f"declared: {', '.join(map(repr, self.names)) or 'none'}"

    def _check_all_are_declared(self) -> None:
        if self._n_others > 0 and self._declared is not None:
            raise UndeclaredInputError(
                f"The state was gone through, but {self._n_others} of what it holds is not a declared input "
                f"({self._known}).",
                where=self._where,
                fix="look at the inputs by their names, or declare the others as well; an aggregate without `inputs` "
                "has all that its records hold",
            )

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise StageAccessError(
            "A stage cannot change a record's state.",
            where=self._where,
            fix="name the value among the stage's `outputs` and return it; in run(), `record.state[...] = value` puts "
            "one there by hand",
        )

    __setitem__ = __delitem__ = pop = popitem = setdefault = update = clear = __ior__ = _refuse


class GatheredInputs(LoadingDict):
    """One input of an aggregate: record to value.

    Each value is loaded when it is looked at and not kept, so an aggregate over many large artifacts needs the memory
    of one.
    """

    def __repr__(self) -> str:
        return f"<{len(self)} values by record>"
