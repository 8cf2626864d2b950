"""Which fields enter a hash, and as what: of dataclasses, attrs classes, pydantic models, as sets or parts of sets."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from curidask.errors import ParameterError

BOOKKEEPING = ("name", "hash", "overwrite", "hash_representations")
"""Fields of a parameter set that are not part of its hash."""


class HashedField(NamedTuple):
    """A field of a dataclass, with what enters the hash for it.

    Attributes
    ----------
    value : object
        What enters; None when nothing does.
    how : str
        How that comes about: one of the constants below.
    """

    name: str
    value: Any
    how: str

    @property
    def mechanism(self) -> str:
        """How that comes about, for people."""
        return self.how.format(name=self.name, kind=type(self.value).__name__)


BOOKKEEPING_FIELD = "left out: not part of the hash"
NONE = "left out: None"
LEFT_OUT = "left out by hash_representations"
PLAIN = "value of type {kind}"
REPRESENTED = "hash_representations[{name!r}]"


def hashed_fields(value: Any) -> Iterator[HashedField]:
    """All fields of what has fields, sorted by name, so that their order is free.

    Attributes that were set beside the fields count as fields: they can change what a stage computes.

    Raises
    ------
    ParameterError
        For a representation of a field that is not there, or that raises.
    """
    skipped = BOOKKEEPING if is_parameter_set(value) else ("hash_representations",)
    representations = _representations(value)
    names = field_names(value)
    if representations:
        _check_names(value, representations, [name for name in names if name not in skipped])
    for name in names:
        if name in skipped:
            yield HashedField(name, None, BOOKKEEPING_FIELD)
        else:
            yield _field(value, name, representations)


def is_parameter_set(value: Any) -> bool:
    """Whether a value is a parameter set, whose bookkeeping is no part of its hash."""
    return hasattr(type(value), "params_hash")


def has_fields(cls: type) -> bool:
    """Whether a class declares fields: a dataclass, an attrs class, a pydantic model."""
    return hasattr(cls, "__dataclass_fields__") or hasattr(cls, "__attrs_attrs__") or is_pydantic(cls)


def is_pydantic(cls: type) -> bool:
    """Whether a class is a pydantic model or a pydantic dataclass."""
    return hasattr(cls, "__pydantic_fields__")


def declared_fields(cls: type) -> tuple[str, ...]:
    """The fields that a class declares, in their order."""
    known = _declared_fields.get(cls)
    if known is None:
        known = _declared_fields[cls] = tuple(_declared(cls))
    return known


_declared_fields: WeakKeyDictionary[type, tuple[str, ...]] = WeakKeyDictionary()


def _declared(cls: type) -> Iterable[str]:
    names = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
    names += [field.name for field in getattr(cls, "__attrs_attrs__", ())]
    return dict.fromkeys([*names, *getattr(cls, "__pydantic_fields__", ())])


def field_values(value: Any) -> dict[str, Any]:
    """The fields of a parameter set or a part of one, and what was set beside them, in their order."""
    return {name: getattr(value, name, None) for name in _all_names(value)}


def field_names(value: Any) -> Sequence[str]:
    """The fields of what has fields and what was set beside them, sorted."""
    cls = type(value)
    declared = _sorted_fields.get(cls)
    if declared is None:
        declared = _sorted_fields[cls] = tuple(sorted(declared_fields(cls)))
    names = _all_names(value) if _extra(value).keys() - declared else declared
    return declared if len(names) == len(declared) else sorted(names)


_sorted_fields: WeakKeyDictionary[type, tuple[str, ...]] = WeakKeyDictionary()


def _all_names(value: Any) -> list[str]:
    cls = type(value)
    declared = declared_fields(cls)
    return [*declared, *(name for name in _extra(value) if name not in declared and not is_memo(cls, name))]


def _extra(value: Any) -> dict[str, Any]:
    """What may hold more than the declared fields; a pydantic model keeps what it allows beside them elsewhere."""
    held: dict[str, Any] = getattr(value, "__dict__", {})
    if not is_pydantic(type(value)):
        return held
    more = [getattr(value, name, None) or {} for name in ("__pydantic_extra__", "__pydantic_private__")]
    return {**held, **more[0], **more[1]}


def is_memo(cls: type, name: str) -> bool:
    """Whether an instance's attribute of that name is what its class computed for it (`functools.cached_property`)."""
    found = next((vars(kind)[name] for kind in cls.__mro__ if name in vars(kind)), None)
    kind = type(found)
    return hasattr(kind, "__get__") and not hasattr(kind, "__set__") and not isinstance(found, _METHODS)


_METHODS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    classmethod,
    staticmethod,
)


def fields_with_code(value: Any) -> list[Any]:
    """The fields through which a value may bring code along: not those for which something else stands in its hash."""
    represented = {*_representations(value), "hash_representations"}
    held = field_values(value).items()
    return [field for name, field in held if name not in represented or has_fields(type(field))]


def hashed_field(value: Any, name: str) -> HashedField:
    """One of the fields that `hashed_fields` gives, which are not bookkeeping."""
    return _field(value, name, _representations(value))


def _field(value: Any, name: str, representations: Mapping[str, Any]) -> HashedField:
    held = getattr(value, name, None)
    if held is None:
        return HashedField(name, None, NONE)
    if name not in representations:
        return HashedField(name, held, PLAIN)
    function = representations[name]
    if function is None:
        return HashedField(name, None, LEFT_OUT)
    return HashedField(name, _represented(value, name, function, held), REPRESENTED)


def _representations(value: Any) -> Mapping[str, Callable[[Any, Any], Any] | None]:
    found = getattr(value, "hash_representations", None)
    return found if isinstance(found, dict) else {}


def _check_names(value: Any, representations: Mapping[str, Any], names: list[str]) -> None:
    unknown = [name for name in representations if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        raise ParameterError(
            f"`hash_representations` names {unknown[0]!r}, which is no field.",
            where=_where(value),
            fix=f"did you mean {near[0]!r}?" if near else f"name one of: {', '.join(names)}",
        )


def _represented(value: Any, name: str, function: Callable[[Any, Any], Any], held: Any) -> Any:
    try:
        return function(value, held)
    except Exception as error:
        raise ParameterError(
            f"The hash representation of {name!r} raised {type(error).__name__}: {error}",
            where=_where(value),
            fix="it is called as `representation(self, value)` and returns plain data",
        ) from error


def _where(value: Any) -> str:
    kind = type(value).__name__
    return f"parameter set {value.name!r} ({kind})" if is_parameter_set(value) else kind
