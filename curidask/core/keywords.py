"""Keywords of the public API: each one is named, older names lead to today's, anything else is an error."""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

from curidask.errors import CuridaskError, ParameterError, StageDefinitionError, UnknownKeywordError, WrongTypeError

# --- what the calls of the public API take, by their annotations -----------------------------------------------------
# An argument of another type is an error at once.
#
# Only what is plain is checked: texts, numbers, flags, paths, lists, and objects of ours. The rest is left to the
# call.

Accepts = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """A type that an argument may have.

    Attributes
    ----------
    text : str
        With its article, for messages.
    accepts : callable
        Tells whether a value is of it.
    error : type of CuridaskError
        What is raised where it is another.
    """

    text: str
    accepts: Accepts
    error: type[CuridaskError] = WrongTypeError
    fix: str = ""


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, int) or type(value).__name__ in ("bool", "bool_")


_PLAIN: dict[Any, Kind] = {
    str: Kind("a text", lambda value: isinstance(value, str)),
    bool: Kind("True or False", _is_flag),
    int: Kind("a whole number", lambda value: hasattr(type(value), "__index__")),
    float: Kind("a number", lambda value: hasattr(type(value), "__float__") or hasattr(type(value), "__index__")),
    type(None): Kind("None", lambda value: value is None),
    Path: Kind("a path", lambda value: hasattr(type(value), "__fspath__")),
}
_PLURALS = {"a text": "texts", "a whole number": "whole numbers", "an ExperimentParameters": "parameter sets"}
_LISTS = (Sequence, Iterable, Collection, list, tuple)

OURS: dict[str, tuple[str, type[CuridaskError], str]] = {
    "ArtifactManager": (
        "curidask.manager",
        WrongTypeError,
        "give the manager itself: in `run()` the one that it is given, else one made with ArtifactManager(...)",
    ),
    "Record": ("curidask.record", WrongTypeError, "give what `Record(manager, param_set)` made"),
    "ExperimentParameters": (
        "curidask.params",
        ParameterError,
        "give an instance of a dataclass that inherits from ExperimentParameters, or None",
    ),
    "Procedure": ("curidask.procedure", StageDefinitionError, "give what `Procedure([...], manager)` made"),
    "Config": ("curidask.session.config", WrongTypeError, "give what `load_config()` made"),
    "Cacheable": ("curidask.caching.base", WrongTypeError, "give an instance of a class that inherits from Cacheable"),
}
"""Classes of ours, which annotations may name before they are loaded: their module, and what to say."""


class _Names(dict[str, Any]):
    """What an annotation names: what its module knows, classes of ours, else anything."""

    def __missing__(self, name: str) -> Any:
        if name in OURS:
            return getattr(sys.modules.get(OURS[name][0]), name, Any)
        return Any


def expected(function: Callable[..., Any]) -> dict[str, list[Kind]]:
    """For each parameter of a function the types that it may have; those that are left to the call are not in it."""
    known = _Names({**_BUILTINS, **function.__globals__})
    found = {}
    for parameter in inspect.signature(function).parameters.values():
        if isinstance(parameter.annotation, str) and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            kinds = _kinds(eval(parameter.annotation, {"__builtins__": {}}, known))
            if kinds and [kind.text for kind in kinds] != ["None"]:  # what may only be None says why itself
                found[parameter.name] = kinds
    return found


_BUILTINS = {kind.__name__: kind for kind in (str, bool, int, float, bytes, list, tuple, dict, type, object, set)}


def _kinds(form: Any) -> list[Kind] | None:
    """The types of an annotation; None when it says more than is checked."""
    if get_origin(form) in (Union, types.UnionType):
        parts = [_kinds(part) for part in get_args(form)]
        return None if None in parts else [kind for part in parts for kind in part or ()]
    if get_origin(form) in _LISTS:
        return [_list_of(_kinds(get_args(form)[0]))]
    if form in _PLAIN or form is None:
        return [_PLAIN[type(None) if form is None else form]]
    if getattr(get_origin(form) or form, "__name__", "") == "PathLike":
        return [_PLAIN[Path]]
    if isinstance(form, type) and form.__name__ in OURS:
        _, error, fix = OURS[form.__name__]
        article = "an" if form.__name__[0] in "AE" else "a"
        return [Kind(f"{article} {form.__name__}", lambda value: isinstance(value, form), error, fix)]
    return None


def _list_of(kinds: list[Kind] | None) -> Kind:
    def accepts(value: Any) -> bool:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            return False
        return kinds is None or not isinstance(value, list | tuple) or all(is_one_of(each, kinds) for each in value)

    if not kinds:
        return Kind("a list", accepts)
    inside = " or ".join(_PLURALS.get(kind.text) or f"{kind.text.split()[-1]}s" for kind in kinds)
    return Kind(f"a list of {inside}", accepts, kinds[0].error, kinds[0].fix and f"{kinds[0].fix}, in a list")


def is_one_of(value: Any, kinds: Sequence[Kind]) -> bool:
    """Whether a value is of one of these types."""
    return any(kind.accepts(value) for kind in kinds)


def refuse(value: Any, kinds: Sequence[Kind], name: str, call: str) -> CuridaskError:
    """The error for an argument of another type; to be raised."""
    texts = [kind.text for kind in kinds if kind.text != "None"]
    made = next((kind for kind in kinds if kind.fix), kinds[0])
    if type(value).__name__ == "ManagerFacts" and "an ArtifactManager" in texts:
        return made.error(
            f"`{name}` of {call} is what a stage knows of the manager, and not the manager.",
            where=call,
            fix="make records and call stages in run(), not in stages: what a stage makes goes on as its outputs",
        )
    return made.error(
        f"`{name}` of {call} is {described(value)}, not {' or '.join(texts)}.",
        where=call,
        fix=made.fix or f"give {' or '.join(texts)}",
    )


def described(value: Any) -> str:
    """What an argument is, for a message."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value) if isinstance(value, str | bytes | int | float | list | tuple | None) else ""
    return f"{text} ({type(value).__name__})" if 0 < len(text) <= 60 else f"a value of type {type(value).__name__}"


# --- keywords --------------------------------------------------------------------------------------------------------
F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE = __name__.partition(".")[0]


def keywords(check_types: bool = True, /, **synonyms: str) -> Callable[[F], F]:
    """Check the keywords of a function's calls, and the types of its arguments as far as annotations tell them.

    Parameters
    ----------
    check_types : bool
        False for a function that checks its arguments itself.
    **synonyms : str
        Another name of a parameter, and the parameter: ``args="params"`` lets a call with ``args=`` through.

    Returns
    -------
    callable
        A decorator. The decorated function has its synonyms as `__synonyms__`.

    Notes
    -----
    A call raises `UnknownKeywordError` (a `TypeError`) for a keyword that is neither a parameter nor a synonym, naming
    the nearest one, and for a parameter that is given under two names. A function with ``**others`` of its own takes
    every keyword. For an argument of a wrong type it raises `WrongTypeError` (a `TypeError`) or an error of what was
    expected, see `curidask.core.keywords`.
    """

    def decorate(function: F) -> F:
        takes = _Parameters.of(function)
        kinds: dict[str, list[Kind]] | None = None if check_types else {}
        enough = range(0) if check_types else takes.enough

        @functools.wraps(function)
        def checked(*args: Any, **given: Any) -> Any:
            nonlocal kinds
            if not given and len(args) in enough:  # what is called for each stage is called so
                return function(*args)
            if not given.keys() <= takes.named:
                given = takes.by_own_names(function, args, given, synonyms)
            takes.check_number(function, args, given.keys())
            if kinds is None:  # at the first call, since what annotations name is loaded then
                kinds = expected(function)
            if kinds:
                takes.check_types(kinds, function, args, given)
            return function(*args, **given)

        checked.__synonyms__ = synonyms  # type: ignore[attr-defined]  # the type checker has no type for such functions
        return checked  # type: ignore[return-value]

    return decorate


@dataclass(frozen=True, slots=True)
class _Parameters:
    """What a function takes.

    Attributes
    ----------
    positional, required : tuple of str
        The names of those that can be given by position, and of those that must be given.
    named : frozenset of str
        Those that can be given by keyword.
    any_number, any_keyword : bool
        Whether it takes any others by position or by keyword.
    enough : range
        The numbers of arguments by position that are enough for a call without keywords.
    """

    positional: tuple[str, ...]
    required: tuple[str, ...]
    named: frozenset[str]
    any_number: bool
    any_keyword: bool
    enough: range

    @classmethod
    def of(cls, function: Callable[..., Any]) -> _Parameters:
        parameters = inspect.signature(function).parameters.values()
        kinds = {p.kind for p in parameters}
        by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        positional = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
        required = tuple(p.name for p in by_name if p.default is p.empty)
        return cls(
            positional,
            required,
            frozenset(p.name for p in by_name if p.name != "self"),
            inspect.Parameter.VAR_POSITIONAL in kinds,
            inspect.Parameter.VAR_KEYWORD in kinds,
            range(len(required), len(positional) + 1) if set(required) <= set(positional) else range(0),
        )

    def by_own_names(
        self, function: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any], synonyms: Mapping[str, str]
    ) -> dict[str, Any]:
        """The keywords of a call with synonyms replaced; those that are not there are refused."""
        call = _call_text(function, args)
        renamed = _renamed(given, synonyms, self.positional[: len(args)], call)
        if not self.any_keyword:
            check_keywords(renamed, self.named, call, {**synonyms, **_of_subclasses(function, args)})
        return renamed

    def check_number(self, function: Callable[..., Any], args: tuple[Any, ...], given: Set[str]) -> None:
        """Refuse a call that has too few arguments, too many by position, or one of them twice."""
        by_place = self.positional[: len(args)]
        if len(args) in self.enough and given.isdisjoint(by_place):
            return
        lacking = [name for name in self.required if name not in given and name not in by_place]
        twice = [name for name in given if name in by_place and name in self.named]
        n_more = 0 if self.any_number else len(args) - len(self.positional)
        if lacking:
            raise self._without(lacking, _call_text(function, args), given)
        if twice:
            raise UnknownKeywordError(
                f"{_call_text(function, args)} was given {twice[0]!r} by position and by keyword.", fix="give it once"
            )
        if n_more > 0:
            raise WrongTypeError(
                f"{_call_text(function, args)} was given {n_more} more arguments by position than it takes.",
                fix=f"{self._taken}; give others by keyword",
            )

    def check_types(
        self,
        kinds: Mapping[str, list[Kind]],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        given: Mapping[str, Any],
    ) -> None:
        """Refuse an argument of another type than is expected, where that is known."""
        for name, value in (*zip(self.positional, args, strict=False), *given.items()):
            if name in kinds and not is_one_of(value, kinds[name]):
                raise refuse(value, kinds[name], *_argument(function, args, name))

    def _without(self, lacking: Sequence[str], call: str, given: Collection[str]) -> CuridaskError:
        others = [name for name in given if name not in self.named]  # of a function that takes any keyword
        for other in others:
            if near := near_name(other, lacking):
                return UnknownKeywordError(
                    f"{call} was called without {near!r}, but with {other!r}.", fix=f"did you mean {near!r}?"
                )
        return WrongTypeError(
            f"{call} was called without {lacking[0]!r}.", fix=f"give it; {self._taken}, or by keyword"
        )

    @property
    def _taken(self) -> str:
        names = [name for name in self.positional if name != "self"]
        return f"it takes {', '.join(names) or 'none'} by position"


class CheckedCalls:
    """A class of ours whose public methods check the keywords of their calls as `keywords` does; so do its subclasses.

    Those of users' subclasses stay as they are.
    """

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] != _PACKAGE:
            return
        for name, held in list(vars(cls).items()):
            is_public = name == "__init__" or not name.startswith("_")
            if is_public and isinstance(held, FunctionType) and not hasattr(held, "__synonyms__"):
                setattr(cls, name, keywords(False)(held))


def check_keywords(
    given: Collection[str], named: Collection[str], call: str, synonyms: Mapping[str, str] | None = None
) -> None:
    """Refuse keywords that a call does not have.

    Parameters
    ----------
    given, named : collection of str
        Those of the call, and those there are.
    call : str
        The call, for the message.
    synonyms : mapping of str to str, optional
        Other names of some of them, which a message may suggest.

    Raises
    ------
    UnknownKeywordError
        Naming the first one that is not there, and the nearest that is.
    """
    unknown = [name for name in given if name not in named]
    if not unknown:
        return
    near = near_name(unknown[0], [*sorted(named), *(synonyms or ())])
    raise UnknownKeywordError(
        f"{call} has no keyword {unknown[0]!r}.",
        fix=f"did you mean {near!r}?" if near else f"it has: {', '.join(sorted(named)) or 'none'}",
    )


def _renamed(
    given: Mapping[str, Any], synonyms: Mapping[str, str], positional: Collection[str], call: str
) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for name, value in given.items():
        parameter = synonyms.get(name, name)
        if parameter in renamed or (name in synonyms and (parameter in given or parameter in positional)):
            raise UnknownKeywordError(
                f"{call} was given {parameter!r} twice.",
                fix=f"give it once: {name!r} is another name of it" if name in synonyms else "give it once",
            )
        renamed[parameter] = value
    return renamed


def _of_subclasses(function: Callable[..., Any], args: tuple[Any, ...]) -> dict[str, str]:
    """What the constructors of subclasses take: a typo of it arrives here when they pass on what they do not know."""
    if function.__name__ != "__init__" or not args:
        return {}
    constructors = [vars(kind)["__init__"] for kind in type(args[0]).__mro__[:-1] if "__init__" in vars(kind)]
    names = [n for c in constructors for n in (*list(inspect.signature(c).parameters)[1:], *_synonyms(c))]
    return dict.fromkeys(names, "")


def _synonyms(function: Callable[..., Any]) -> Mapping[str, str]:
    return getattr(function, "__synonyms__", {})


def _argument(function: Callable[..., Any], args: tuple[Any, ...], name: str) -> tuple[str, str]:
    """How a message names an argument and its call: what an attribute is set to is told as that."""
    if args and isinstance(getattr(type(args[0]), function.__name__, None), property):
        return function.__name__, type(args[0]).__name__
    return name, _call_text(function, args)


def _call_text(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """How a message names the call: a class by its name, a method with its class."""
    name = function.__name__
    if name in ("__init__", "__new__") and args:
        kind = args[0] if isinstance(args[0], type) else type(args[0])
        return f"{kind.__name__}()"
    names = function.__qualname__.split(".")
    if len(names) == 2 and args:  # the class may be an inner one of ours, or the parent of the user's
        names[0] = type(args[0]).__name__
    return f"{'.'.join(names)}()"


# --- names of attributes that are not there --------------------------------------------------------------------------
# What was meant is told, where there is one that is nearly named so.

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
