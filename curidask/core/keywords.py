"""Keywords of the public API: each one is named, older names lead to today's, anything else is an error."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

from curidask.core.expected_types import Kind, expected, is_one_of, refuse
from curidask.core.near_names import near_name
from curidask.errors import CuridaskError, UnknownKeywordError, WrongTypeError

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
    expected, see `curidask.core.expected_types`.
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
