"""What classes of parameter sets may look like, and the errors for those whose fields would be ignored in silence."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from curidask.core.hash_fields import BOOKKEEPING, declared_fields, is_pydantic
from curidask.core.keywords import check_keywords
from curidask.errors import ParameterError

METHODS = ("params_hash", "args_hash")

KEYWORD_ONLY = tuple(name for name in BOOKKEEPING if name != "name")


class EitherFrozen:
    """The options of the base class's ``@dataclass``, with `frozen` as the class that inherits from it has it.

    ``dataclasses`` lets frozen classes inherit from frozen ones only, and others from others. The base itself may be
    both: its methods change no field but by ``object.__setattr__``. Whoever asks is the decorator at work on the other
    class, so it is asked back.
    """

    def __init__(self, options: Any) -> None:
        self._options = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._options, name)

    @property
    def frozen(self) -> bool:
        """Whether the class that is being made is frozen."""
        return bool(sys._getframe(1).f_locals.get("frozen", False))


class ClassFacts(NamedTuple):
    """How a class is called.

    Attributes
    ----------
    keywords : frozenset of str, or None
        The keywords that it takes; None when it takes any.
    positional : tuple of str
        The fields that positional arguments go to; empty when the class has an ``__init__`` of its own.
    """

    keywords: frozenset[str] | None
    positional: tuple[str, ...]


_facts: WeakKeyDictionary[type, ClassFacts] = WeakKeyDictionary()


def check_call(base: type, cls: type, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Refuse a class or a call whose values would land nowhere or in another field than the one that is meant.

    Raises
    ------
    ParameterError, UnknownKeywordError
    """
    facts = _facts.get(cls)
    if facts is None:
        _check_class(base, cls)
        facts = _facts[cls] = _facts_of(cls)
    if facts.keywords is not None and not named.keys() <= facts.keywords:
        check_keywords(named, facts.keywords, f"{cls.__name__}()")
    if given and facts.positional:
        _check_positional(cls, facts.positional[: len(given)])


def keep_keyword_only(cls: type) -> None:
    """Let a field that a class declares anew stay keyword-only, as it is in the base."""
    for name in KEYWORD_ONLY:
        found = vars(cls).get(name)
        if isinstance(found, dataclasses.Field) and found.kw_only is dataclasses.MISSING:
            found.kw_only = True


def _facts_of(cls: type) -> ClassFacts:
    parameters = _parameters(cls)
    names = {p.name for p in parameters}
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    # An `__init__` that somebody wrote gives its arguments a meaning of its own.
    is_generated = names == _initial_fields(cls)
    positional = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return ClassFacts(None if takes_any else frozenset(names), tuple(positional) if is_generated else ())


def _parameters(cls: type) -> list[inspect.Parameter]:
    signature = getattr(cls, "__signature__", None)  # pydantic says there what its `**data` may be
    if signature is not None:
        return list(signature.parameters.values())
    init: Callable[..., Any] = cls.__init__  # type: ignore[misc]  # of this class, which is about to be called
    return list(inspect.signature(init).parameters.values())[1:]


def _initial_fields(cls: type) -> set[str]:
    attributes = getattr(cls, "__attrs_attrs__", None)
    fields: Any = dataclasses.fields(cls) if attributes is None else attributes
    return {field.name for field in fields if field.init}


def _check_positional(cls: type, taken: tuple[str, ...]) -> None:
    if taken[0] != "name":
        raise ParameterError(
            f"The first field of {cls.__name__} is {taken[0]!r}, not the name.",
            where=_where(cls),
            fix="write keywords, or list the base class ExperimentParameters last, so that its fields come first",
        )
    hidden = [name for name in taken if name in KEYWORD_ONLY]
    if hidden:
        raise ParameterError(
            f"{hidden[0]!r} would be given by its position.",
            where=_where(cls),
            fix=f"write {hidden[0]}=..., and declare it in the class as `{hidden[0]}: ... = field(..., kw_only=True)`",
        )


# --- fields that would be ignored ------------------------------------------------------------------------------------
def _check_class(base: type, cls: type) -> None:
    for kind in cls.__mro__:
        if issubclass(kind, base) and kind is not base:
            _check_body(kind)
    if hasattr(cls, "__attrs_attrs__") and "name" not in (field.name for field in cls.__attrs_attrs__):
        raise ParameterError(
            f"The attrs class {cls.__name__} has no field `name`: attrs takes over no fields of other classes.",
            where=_where(cls),
            fix='write `name: str = "UNNAMED"` as its first field',
        )
    if is_pydantic(cls) and cls.__init__ is base.__init__:  # type: ignore[misc]
        raise ParameterError(
            f"The pydantic model {cls.__name__} inherits from {base.__name__} first, so its fields would not be set.",
            where=_where(cls),
            fix=f"list the base classes the other way round: `class {cls.__name__}(BaseModel, {base.__name__})`",
        )


def _check_body(kind: type) -> None:
    body = vars(kind)
    declared = _annotated(kind)
    is_declared = any(name in body for name in ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__"))
    fields = [name for name, type_ in declared.items() if "ClassVar" not in str(type_) and not name.startswith("_")]
    if fields and not is_declared and "__init__" not in body:
        raise ParameterError(
            f"{kind.__name__} declares {fields[0]!r} but is no dataclass, so it would be ignored.",
            where=_where(kind),
            fix=f"write `@dataclass` above `class {kind.__name__}`",
        )
    taken = next((name for name in fields if name in METHODS), None)
    if taken is not None:
        raise ParameterError(
            f"{kind.__name__} has a field {taken!r}, which is the name of a method of every parameter set.",
            where=_where(kind),
            fix="give the field another name",
        )
    bare = next(_bare(kind, declared), None)
    if bare is not None:
        value = body[bare]
        above = "" if is_declared else f", and `@dataclass` above `class {kind.__name__}`"
        raise ParameterError(
            f"{kind.__name__} gives {bare!r} no type, so it is no field and {value!r:.60} would be ignored.",
            where=_where(kind),
            fix=f"write `{bare}: {type(value).__name__} = {value!r:.60}`{above} (`{bare}: ClassVar = ...` for what is "
            "no parameter)",
        )


def _bare(kind: type, annotated: Iterable[str]) -> Iterator[str]:
    """Names that a class body gives a value but no type, where the value is data."""
    if is_pydantic(kind):
        return  # pydantic refuses them itself
    made = {*annotated, *(declared_fields(kind) if "__attrs_attrs__" in vars(kind) else ())}
    for name, value in vars(kind).items():
        if not name.startswith("_") and name not in made and _is_data(value):
            yield name


def _is_data(value: Any) -> bool:
    is_code = hasattr(type(value), "__get__") or isinstance(value, type | ModuleType)
    return not is_code and not hasattr(value, "__origin__")


def _annotated(kind: type) -> dict[str, Any]:
    """The names that a class body gives a type, with the types."""
    if sys.version_info >= (3, 14):
        import annotationlib  # those that cannot be evaluated yet are no error in this form

        return annotationlib.get_annotations(kind, format=annotationlib.Format.FORWARDREF)
    return dict(vars(kind).get("__annotations__", {}))


def _where(cls: type) -> str:
    try:
        file, line = inspect.getsourcefile(cls), inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):  # made where there is no source
        return f"class {cls.__qualname__}"
    return f"class {cls.__qualname__}, {file}:{line}"
