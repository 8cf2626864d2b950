"""Keywords of the public API: each one is named, older names lead to today's, anything else is an error."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from curidask.errors import UnknownKeywordError
from curidask.expected_types import Kind, expected, is_one_of, refuse

F = TypeVar("F", bound=Callable[..., Any])


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
    expected, see `curidask.expected_types`.
    """

    def decorate(function: F) -> F:
        parameters = inspect.signature(function).parameters.values()
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
        positional = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        named = frozenset(
            p.name
            for p in parameters
            if p.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY) and p.name != "self"
        )

        kinds: dict[str, list[Kind]] | None = None

        @functools.wraps(function)
        def checked(*args: Any, **given: Any) -> Any:
            nonlocal kinds
            if not given.keys() <= named:
                call = _call_text(function, args)
                given = _renamed(given, synonyms, positional[: len(args)], call)
                if not takes_any:
                    check_keywords(given, named, call, {**synonyms, **_of_subclasses(function, args)})
            if kinds is None:  # at the first call, since what annotations name is loaded then
                kinds = expected(function) if check_types else {}
            for name, value in (*zip(positional, args, strict=False), *given.items()):
                if name in kinds and not is_one_of(value, kinds[name]):
                    raise refuse(value, kinds[name], name, _call_text(function, args))
            return function(*args, **given)

        checked.__synonyms__ = synonyms  # type: ignore[attr-defined]  # the type checker has no type for such functions
        return checked  # type: ignore[return-value]

    return decorate


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
    near = difflib.get_close_matches(unknown[0], [*named, *(synonyms or ())], n=1)
    raise UnknownKeywordError(
        f"{call} has no keyword {unknown[0]!r}.",
        fix=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(named)) or 'none'}",
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
