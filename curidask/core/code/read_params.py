"""Which fields of its parameters a stage can be seen to read: from the source, without running anything.

A small abstract interpretation. Names in a function hold the record, its parameter set or a part of it, or none of
these; what is done with them is followed through assignments, helpers and methods of the parameter class. Where one of
them goes to what cannot be followed, all of it counts as read, so a field is never called unused that may be read.
"""

from __future__ import annotations

import ast
import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from curidask.core.code.canonical_source import Function
from curidask.core.code.names import Use, bound_in
from curidask.core.code.places import find, has_line, layers
from curidask.core.code.scopes import LoadedSources, Outside, Resolver, Scope, Sources
from curidask.core.hash_fields import BOOKKEEPING, field_values, has_fields, is_parameter_set

# --- what parameter sets look like -----------------------------------------------------------------------------------
# The fields of their classes, and of the classes of what is in them.

Path: TypeAlias = tuple[str, ...]


class Shapes:
    """The classes of some parameter sets and of their parts, by the path of the part."""

    def __init__(self, params: Iterable[Any]) -> None:
        self._classes: dict[Path, dict[type, None]] = {}
        self._names: dict[Path, dict[str, None]] = {}
        for value in params:
            self._add(value, ())

    def _add(self, value: Any, path: Path) -> None:
        skipped = BOOKKEEPING if is_parameter_set(value) else ("hash_representations",)
        fields = {name: held for name, held in field_values(value).items() if name not in skipped}
        self._classes.setdefault(path, {})[type(value)] = None
        self._names.setdefault(path, {}).update(dict.fromkeys(fields))
        for name, held in fields.items():
            if has_fields(type(held)):
                self._add(held, (*path, name))

    def __contains__(self, path: Path) -> bool:
        return path in self._classes

    def classes(self, path: Path) -> Collection[type]:
        """The classes of what is there."""
        return self._classes.get(path, {}).keys()

    def fields(self, path: Path) -> Collection[str]:
        """The fields of what is there."""
        return self._names.get(path, {}).keys()

    def sorted(self, paths: Collection[Path], within: Path = ()) -> tuple[list[str], list[str]]:
        """Which fields are among some, and which are not, in the order of the classes; parts where these differ."""
        among: list[str] = []
        others: list[str] = []
        for name in self.fields(within):
            path = (*within, name)
            if path in paths:
                among.append(".".join(path))
            elif any(each[: len(path)] == path for each in paths):
                more, less = self.sorted(paths, path)
                among, others = among + more, others + less
            else:
                others.append(".".join(path))
        return among, others


# --- what names in the functions of a stage may hold of its parameters; see `curidask.core.code.read_params` ---------
@dataclass(frozen=True, slots=True)
class Record:
    """The record of a stage."""


@dataclass(frozen=True, slots=True)
class Params:
    """Its parameter set, or what a field of it holds that has fields itself."""

    path: Path = ()


@dataclass(frozen=True, slots=True)
class Method:
    """A method of one."""

    function: types.FunctionType
    of: Params


@dataclass(frozen=True, slots=True)
class Local:
    """A function or lambda within a function."""

    node: Any
    frame: Frame


Value: TypeAlias = "Record | Params | Method | Local"
Values: TypeAlias = frozenset[Value]
NOTHING: Values = frozenset()


@dataclass(eq=False, slots=True)
class Frame:
    """The names of a function, and where it stands."""

    scope: Scope
    title: str
    bound: Mapping[str, Any]
    around: Frame | None = None
    names: dict[str, Values] = field(default_factory=dict)
    returned: Values = NOTHING

    def look_up(self, name: str) -> Values:
        """What a name may hold."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.names or name in frame.bound:
                return frame.names.get(name, NOTHING)
            frame = frame.around
        return NOTHING

    def imports(self, name: str) -> Any:
        """What a name is by the functions around: "global" where they do not bind it, imports where they import it."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.bound:
                return frame.bound[name]
            frame = frame.around
        return "global"

    @property
    def seen(self) -> tuple[frozenset[tuple[str, Values]], ...]:
        """What names hold that can be seen from here, as far as it is known."""
        around = () if self.around is None else self.around.seen
        return (*around, frozenset(self.names.items()))


def taken_by(
    arguments: ast.arguments, given: Sequence[Values], named: Mapping[str, Values]
) -> dict[str, Values] | None:
    """What the parameters of a function get; None where what is followed goes where it is not taken by its name."""
    in_order = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    by_name = {*(a.arg for a in arguments.args), *(a.arg for a in arguments.kwonlyargs)}
    if any(given[len(in_order) :]) or any(values for name, values in named.items() if name not in by_name):
        return None
    found = dict(zip(in_order, given, strict=False))
    found |= {name: values for name, values in named.items() if name in by_name}
    return {name: values for name, values in found.items() if values}


def definitions(called: ast.expr, frame: Frame, resolver: Resolver) -> Iterator[tuple[Scope, Any] | None]:
    """The functions that a name with attributes leads to; None for each thing that is not one."""
    steps: list[str] = []
    while isinstance(called, ast.Attribute):
        steps.insert(0, called.attr)
        called = called.value
    found = frame.imports(called.id) if isinstance(called, ast.Name) else ()
    if not found or not isinstance(called, ast.Name):
        yield None
        return
    root = called.id if found == "global" else found
    for target in resolver.resolve(frame.scope, Use(root, tuple(steps), called.id)):
        yield None if isinstance(target, Outside) else _plain_function(*target)


def _plain_function(scope: Scope, name: Any) -> tuple[Scope, Any] | None:
    """A definition that is one function without decorators, in its module."""
    statements = scope.table.entries.get(name, ()) if isinstance(name, str) else ()
    nodes = [s.node for s in statements if name in s.bound and not s.is_import]
    plain = len(nodes) == 1 and isinstance(nodes[0], Function) and not nodes[0].decorator_list
    return (scope, nodes[0]) if plain else None


# --- read params -----------------------------------------------------------------------------------------------------
MOST_PASSES = 8
"""Over the body of a function, until its names hold nothing new."""
MOST_FUNCTIONS = 500


@dataclass(slots=True)
class Reads:
    """What is read of a parameter set.

    Attributes
    ----------
    fields : tuple of str
        Seen to be read, those of parts as ``"data.seed"``, in the order of the class.
    unused : tuple of str
        Not seen to be read.
    whole : tuple of str
        Why all of it counts as read.
    bookkeeping : tuple of str
        Read of what is no part of the hash.
    """

    fields: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    bookkeeping: tuple[str, ...] = ()


def reads_of(function: Callable[..., Any], params: Sequence[Any], sources: Sources | None = None) -> Reads:
    """What the function of a stage can be seen to read of its parameters.

    Parameters
    ----------
    params : sequence of ExperimentParameters
        Sets that it gets, whose classes and those of their parts are looked at.
    sources : Sources, optional
        Where sources are read; by default as they were loaded.
    """
    reader = _Reader(Resolver(sources or LoadedSources()), Shapes(params))
    reader.stage(function)
    return reader.result()


class _Reader:
    def __init__(self, resolver: Resolver, shapes: Shapes) -> None:
        self._resolver = resolver
        self._shapes = shapes
        self._read: set[Path] = set()
        self._touched: set[Path] = set()
        self._whole: dict[str, None] = {}
        self._bookkeeping: dict[str, None] = {}
        self._known: dict[Any, Frame] = {}
        self._open: set[Any] = set()

    def result(self) -> Reads:
        """What was read."""
        read = self._read | {p for p in self._touched if not any(r[: len(p)] == p for r in self._read)}
        used, unused = self._shapes.sorted(read)
        return Reads(tuple(used), tuple(unused), tuple(self._whole), tuple(self._bookkeeping))

    # --- functions ---------------------------------------------------------------------------------------------------
    def stage(self, function: Callable[..., Any]) -> None:
        """Read the function of a stage."""
        made_of = [layer for layer in layers(function) if isinstance(layer, types.FunctionType)]
        place = find(made_of[0], self._resolver) if len(made_of) == 1 else None
        node = None if place is None else place.statement.node
        if len(made_of) > 1:
            self._whole["its function is decorated, and what the decorator does with the record is not followed"] = None
        elif place is None or not isinstance(node, Function | ast.Lambda):
            self._whole["its source cannot be read"] = None
        else:
            frame = self._call(node, place.key[0], place.title, (frozenset([Record()]),), {}, None)
            if frame is not None:
                self._escape(frame.returned, frame, node, "returned")

    def _call(
        self,
        node: Any,
        scope: Scope,
        title: str,
        given: Sequence[Values],
        named: Mapping[str, Values],
        around: Frame | None,
    ) -> Frame | None:
        """Read a function that is called with these; None where it does not take them one by one."""
        taken = taken_by(node.args, given, named)
        if taken is None:
            return None
        key = (node, frozenset(taken.items()), () if around is None else around.seen)
        if key in self._known or key in self._open or len(self._known) >= MOST_FUNCTIONS:
            return self._known.get(key)  # none for one that calls itself
        self._open.add(key)
        frame = Frame(scope, title, bound_in(node), around, dict(taken))
        body = node.body if isinstance(node.body, list) else [ast.Return(node.body, lineno=node.lineno)]
        for _ in range(MOST_PASSES):
            before = (*frame.seen, frame.returned)
            self._statements(body, frame)
            if (*frame.seen, frame.returned) == before:
                break
        self._open.discard(key)
        self._known[key] = frame
        return frame

    # --- statements --------------------------------------------------------------------------------------------------
    def _statement(self, node: ast.AST, frame: Frame) -> None:
        _STATEMENTS.get(type(node), _Reader._other)(self, node, frame)

    def _nested(self, node: Any, frame: Frame) -> None:
        for decorator in node.decorator_list:
            self._use(decorator, frame)
        self._bind(ast.Name(node.name, ast.Store()), self._function(node, frame), frame)

    def _return(self, node: ast.Return, frame: Frame) -> None:
        frame.returned |= NOTHING if node.value is None else self._value(node.value, frame)

    def _assignment(self, node: Any, frame: Frame) -> None:
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if node.value is not None:
                self._assign(target, node.value, frame)

    def _expression(self, node: ast.Expr, frame: Frame) -> None:
        self._value(node.value, frame)

    def _condition(self, node: Any, frame: Frame) -> None:
        self._test(node.test, frame)
        self._statements([*node.body, *node.orelse], frame)

    def _statements(self, nodes: Iterable[ast.AST], frame: Frame) -> None:
        for node in nodes:
            self._statement(node, frame)

    def _other(self, node: ast.AST, frame: Frame) -> None:
        """Any other statement or part of one: what it is made of, each expression as used in a way that is not seen."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._use(child, frame)
            elif not isinstance(child, ast.expr_context | ast.operator):
                self._statement(child, frame)

    def _assign(self, target: ast.expr, value: ast.expr, frame: Frame) -> None:
        if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
            plain = not any(isinstance(part, ast.Starred) for part in (*target.elts, *value.elts))
            if plain and len(target.elts) == len(value.elts):
                for one, other in zip(target.elts, value.elts, strict=True):
                    self._assign(one, other, frame)
                return
        self._bind(target, self._value(value, frame), frame)

    def _bind(self, target: ast.expr, values: Values, frame: Frame) -> None:
        if isinstance(target, ast.Name) and frame.imports(target.id) != "global":
            owner = frame
            while target.id not in owner.bound and owner.around is not None:
                owner = owner.around
            owner.names[target.id] = owner.names.get(target.id, NOTHING) | values
        else:
            self._escape(values, frame, target, "kept elsewhere")
            if not isinstance(target, ast.Name):
                self._other(target, frame)

    def _function(self, node: Any, frame: Frame) -> Values:
        """A function that is made here: it may be called from anywhere, and sees the names around it."""
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self._use(default, frame)
        self._call(node, frame.scope, f"{frame.title}.{getattr(node, 'name', '<lambda>')}", (), {}, frame)
        return frozenset([Local(node, frame)])

    # --- expressions -------------------------------------------------------------------------------------------------
    def _use(self, node: ast.expr, frame: Frame) -> None:
        self._escape(self._value(node, frame), frame, node, "used whole")

    def _test(self, node: ast.expr, frame: Frame) -> Values:
        """What an expression gives that is asked whether it is true."""
        values = self._value(node, frame)
        for name in ("__bool__", "__len__"):
            self._escape(self._attribute(values, name, frame, node), frame, node, "asked whether it is true")
        return values

    def _value(self, node: ast.expr, frame: Frame) -> Values:
        """What an expression may give of what is followed."""
        handle = _EXPRESSIONS.get(type(node))
        if handle is None:
            self._other(node, frame)
            return NOTHING
        values: Values = handle(self, node, frame)
        return values

    def _name(self, node: ast.Name, frame: Frame) -> Values:
        return frame.look_up(node.id)

    def _asked(self, node: ast.Attribute, frame: Frame) -> Values:
        return self._attribute(self._value(node.value, frame), node.attr, frame, node)

    def _choice(self, node: ast.IfExp, frame: Frame) -> Values:
        self._test(node.test, frame)
        return self._value(node.body, frame) | self._value(node.orelse, frame)

    def _either(self, node: ast.BoolOp, frame: Frame) -> Values:
        return frozenset().union(*(self._test(part, frame) for part in node.values))

    def _named(self, node: ast.NamedExpr, frame: Frame) -> Values:
        values = self._value(node.value, frame)
        self._bind(node.target, values, frame)
        return values

    def _unary(self, node: ast.UnaryOp, frame: Frame) -> Values:
        if isinstance(node.op, ast.Not):
            self._test(node.operand, frame)
        else:
            self._use(node.operand, frame)
        return NOTHING

    def _comparison(self, node: ast.Compare, frame: Frame) -> Values:
        is_by_identity = all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops)
        for part in (node.left, *node.comparators):
            (self._value if is_by_identity else self._use)(part, frame)
        return NOTHING

    def _comprehension(self, node: Any, frame: Frame) -> Values:
        inner = Frame(frame.scope, frame.title, bound_in(node), frame)
        for number, generator in enumerate(node.generators):
            self._use(generator.iter, inner if number else frame)
            for test in generator.ifs:
                self._test(test, inner)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self._use(part, inner)
        return NOTHING

    def _attribute(self, values: Values, name: str, frame: Frame, node: ast.AST) -> Values:
        found: set[Value] = set()
        for value in values:
            if isinstance(value, Record) and name in ("rng", "seed"):
                self._escape(frozenset([value]), frame, node, f"drawn from by record.{name}")
            elif isinstance(value, Record) and name in ("params", "args"):
                found.add(Params())
            elif isinstance(value, Record) and name == "name":
                self._bookkeeping[name] = None
            elif isinstance(value, Params):
                found |= self._member(value, name, frame, node)
        return frozenset(found)

    def _member(self, of: Params, name: str, frame: Frame, node: ast.AST) -> Values:
        """What reading an attribute of a parameter set, or of a part of one, gives."""
        path = (*of.path, name)
        if name in self._shapes.fields(of.path):
            if path in self._shapes:
                self._touched.add(path)
                return frozenset([Params(path)])
            self._read.add(path)
            return NOTHING
        if name in BOOKKEEPING and not of.path:
            self._bookkeeping[name] = None
            return NOTHING
        held = (inspect.getattr_static(cls, name, None) for cls in self._shapes.classes(of.path))
        return frozenset().union(*(self._of_class(each, of, name, frame, node) for each in held))

    def _of_class(self, held: Any, of: Params, name: str, frame: Frame, node: ast.AST) -> Values:
        """What an attribute gives that is no field."""
        got = held.fget if isinstance(held, property) else held
        got = got.func if isinstance(got, functools.cached_property) else got
        if isinstance(got, types.FunctionType):
            method = Method(got, of)
            return frozenset([method]) if got is held else self._method(method, (), {}, frame, node)
        is_asked_for = any(hasattr(cls, "__getattr__") for cls in self._shapes.classes(of.path))
        is_data = not (hasattr(held, "__get__") or callable(held)) and not (held is None and is_asked_for)
        if name != "__class__" and not is_data and not isinstance(held, staticmethod | classmethod):
            self._escape(frozenset([of]), frame, node, f"asked for {name}")
        return NOTHING

    # --- calls -------------------------------------------------------------------------------------------------------
    def _called(self, node: ast.Call, frame: Frame) -> Values:
        given = [self._value(argument, frame) for argument in node.args]
        named = {keyword.arg or "**": self._value(keyword.value, frame) for keyword in node.keywords}
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            for values in (*given, *named.values()):  # which may come at any place
                self._escape(values, frame, node, "passed on with others")
            given, named = [], {}
        asked = self._builtin(node, given, frame)
        if asked is not None:
            return asked
        found: Values = NOTHING
        functions = self._value(node.func, frame)
        for function in functions:
            if isinstance(function, Method):
                found |= self._method(function, given, named, frame, node)
            elif isinstance(function, Local):
                title = f"{function.frame.title}.{getattr(function.node, 'name', '<lambda>')}"
                inner = self._call(function.node, function.frame.scope, title, given, named, function.frame)
                found |= self._returned(inner, given, named, frame, node)
            else:
                self._escape(frozenset([function]), frame, node, "called")
        is_tracked = any(given) or any(named.values())
        return found if functions or not is_tracked else self._of_project(node, given, named, frame)

    def _builtin(self, node: ast.Call, given: Sequence[Values], frame: Frame) -> Values | None:
        """What a builtin that is known gives; None for another."""
        name = node.func.id if isinstance(node.func, ast.Name) and frame.imports(node.func.id) == "global" else ""
        if name not in _BUILTINS or self._resolver.resolve(frame.scope, Use(name, (), name)):
            return None  # or something else of that name
        if name == "super":
            for values in frame.names.values():
                self._escape(values, frame, node, "asked for what its class is derived from")
            return NOTHING
        if name in ("isinstance", "type", "id", "callable"):
            return NOTHING
        if len(given) < 2:
            return None
        asked = node.args[1]
        if isinstance(asked, ast.Constant) and isinstance(asked.value, str):
            return self._attribute(given[0], asked.value, frame, node)
        self._escape(given[0], frame, node, f"{name} by a computed name")
        return NOTHING

    def _method(
        self, method: Method, given: Sequence[Values], named: Mapping[str, Values], frame: Frame, node: ast.AST
    ) -> Values:
        place = find(method.function, self._resolver)
        code = method.function.__code__
        parts = [] if place is None else [n for n in ast.walk(place.statement.node) if isinstance(n, Function)]
        nodes = [n for n in parts if n.name == code.co_name and has_line(n, code.co_firstlineno)]
        if place is None or not nodes:
            self._escape(frozenset([method.of]), frame, node, f"asked for {code.co_name}")
            return NOTHING
        inner = self._call(
            nodes[0], place.key[0], f"{place.title}.{code.co_name}", (frozenset([method.of]), *given), named, None
        )
        return self._returned(inner, (frozenset([method.of]), *given), named, frame, node)

    def _returned(
        self, inner: Frame | None, given: Sequence[Values], named: Mapping[str, Values], frame: Frame, node: ast.AST
    ) -> Values:
        if inner is not None:
            return inner.returned
        for values in (*given, *named.values()):
            self._escape(values, frame, node, "passed on in a way that is not followed")
        return NOTHING

    def _of_project(self, node: ast.Call, given: Sequence[Values], named: Mapping[str, Values], frame: Frame) -> Values:
        """A call of a function that a name leads to; it is followed where it is a plain function of the project."""
        functions = list(definitions(node.func, frame, self._resolver))
        if not functions or None in functions:
            for values in (*given, *named.values()):
                self._escape(values, frame, node, f"passed to {ast.unparse(node.func)[:60]}")
            return NOTHING
        found: Values = NOTHING
        for function in functions:
            if function is not None:
                scope, definition = function
                inner = self._call(definition, scope, f"{scope.title}{definition.name}", given, named, None)
                found |= self._returned(inner, given, named, frame, node)
        return found

    # --- what is lost ------------------------------------------------------------------------------------------------
    def _escape(self, values: Values, frame: Frame, node: ast.AST, how: str) -> None:
        """Count as read, all of it, what goes where it is not followed."""
        for value in values:
            if isinstance(value, Method):
                self._method(value, (), {}, frame, node)
            elif isinstance(value, Params) and value.path:
                self._read.add(value.path)
            elif isinstance(value, Record | Params):
                what = "the record is " if isinstance(value, Record) else ""
                line = f" (line {node.lineno})" if hasattr(node, "lineno") else ""
                self._whole[f"{what}{how} in {frame.title}{line}"] = None


_BUILTINS = frozenset(("isinstance", "type", "id", "callable", "getattr", "hasattr", "super"))
_STATEMENTS: dict[type, Any] = {
    ast.FunctionDef: _Reader._nested,
    ast.AsyncFunctionDef: _Reader._nested,
    ast.Return: _Reader._return,
    ast.Assign: _Reader._assignment,
    ast.AnnAssign: _Reader._assignment,
    ast.Expr: _Reader._expression,
    ast.If: _Reader._condition,
    ast.While: _Reader._condition,
}
_EXPRESSIONS: dict[type, Any] = {
    ast.Name: _Reader._name,
    ast.Attribute: _Reader._asked,
    ast.Call: _Reader._called,
    ast.IfExp: _Reader._choice,
    ast.BoolOp: _Reader._either,
    ast.NamedExpr: _Reader._named,
    ast.Lambda: _Reader._function,
    ast.UnaryOp: _Reader._unary,
    ast.Compare: _Reader._comparison,
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp), _Reader._comprehension),
}
