"""Copies of values, so that nobody sees what others do to them; and what can be read only once and not be copied."""

from __future__ import annotations

import contextlib
import copy
import copyreg
import io
import math
import pickle
import types
from collections.abc import Iterator, MutableSet, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from curidask.core.code.identity import attributes_of
from curidask.errors import ReadOnceError

MAX_SMALL_BYTES = 1 << 20
"""What takes more than that is not copied for each call that it is given to."""

_PLAIN = frozenset(
    {type(None), bool, int, float, complex, str, bytes, type, types.FunctionType, types.BuiltinFunctionType}
)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of a value, out of which its readers in this process get theirs.

    Attributes
    ----------
    data : bytes
        A pickle.
    buffers : sequence of bytes or bytearray
        Large contents, such as those of arrays, which the pickle leaves out.
    """

    data: bytes
    buffers: Sequence[bytes | bytearray]

    @classmethod
    def of(cls, value: Any) -> Copy:
        """Copy a value; what is large is copied once.

        Raises
        ------
        Exception
            Whatever pickling raises.
        """
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
        return cls(data, [_copied(buffer.raw()) for buffer in buffers])

    @property
    def blocks(self) -> list[bytes | bytearray]:
        """All the bytes."""
        return [self.data, *self.buffers]

    @property
    def size_bytes(self) -> int:
        """How many they are."""
        return sum(map(len, self.blocks))

    def value(self, *, shared: bool) -> Any:
        """What a reader gets; unless the copy is `shared`, there must be no other reader, since it is used up."""
        buffers = [_copied(memoryview(buffer)) for buffer in self.buffers] if shared else self.buffers
        return pickle.loads(self.data, buffers=buffers)


def _copied(view: memoryview) -> bytes | bytearray:
    return bytes(view) if view.readonly else bytearray(view)


def _reduced_method(method: types.MethodType) -> Any:
    """How a bound method is pickled: by its name as usual only where its class has it under that."""
    owner, name = method.__self__, method.__func__.__name__
    own = owner.__mro__ if isinstance(owner, type) else ()
    kinds: tuple[type, ...] = (*own, *type(owner).__mro__)
    found = next((vars(kind)[name] for kind in kinds if name in vars(kind)), None)
    is_usual = found is not None and getattr(found, "__func__", found) is method.__func__
    return method.__reduce__() if is_usual else (types.MethodType, (method.__func__, owner))


copyreg.pickle(types.MethodType, _reduced_method)


def is_plain(value: Any) -> bool:
    """Whether a value, without a look into it, is known to be one that cannot be changed."""
    kind = type(value)
    if kind is types.FunctionType:
        return not holds_values(value)
    return kind in _PLAIN or (kind is tuple and all(map(is_plain, value)))


def is_container(value: Any) -> bool:
    """Whether a value holds others that can be exchanged."""
    return isinstance(value, MutableSet) or hasattr(type(value), "__setitem__")


def private_copy(value: Any) -> Any:
    """A copy that its reader can change without anybody noticing; what cannot be copied (a connection) as it is."""
    if is_plain(value):
        return value
    try:
        return Copy.of(value).value(shared=False)
    except Exception:
        return other_copy(value)


def small_pickle(value: Any) -> bytes | None:
    """The pickle of a value; None when it is large.

    Raises
    ------
    Exception
        Whatever pickling raises.
    """
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    if len(data) + sum(buffer.raw().nbytes for buffer in buffers) > MAX_SMALL_BYTES:
        return None
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL) if buffers else data


# --- what cannot be pickled ------------------------------------------------------------------------------------------
def other_copy(value: Any, most_bytes: float = math.inf) -> Any:
    """A copy of what pickle cannot copy; the value itself where that cannot be, or would be large.

    Functions keep their code and the module that they are in, and get what they hold of the variables and defaults
    around them as that is now.
    """
    with contextlib.suppress(Exception):
        return _Copier.copied(value, most_bytes)
    with contextlib.suppress(Exception):  # there is what only deepcopy can
        return copy.deepcopy(value) if _Survey(value).size_bytes <= most_bytes else value
    return value


def holds_values(function: types.FunctionType) -> bool:
    """Whether a function is one of its own, with variables or defaults that are not those of a module."""
    if "<" not in function.__qualname__:  # found by its name
        return bool(attributes_of(function))
    return bool(function.__closure__ or function.__defaults__ or function.__kwdefaults__ or attributes_of(function))


class _Copier(pickle.Pickler):
    """Writes a pickle for this process only: what has no name is left out of it, and put back as it is."""

    def __init__(self, file: io.BytesIO) -> None:
        self.kept: list[Any] = []
        self.size_bytes = 0
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=self._count)
        self.buffers: list[pickle.PickleBuffer] = []

    @classmethod
    def copied(cls, value: Any, most_bytes: float) -> Any:
        """A copy; the value itself when it is larger."""
        file = io.BytesIO()
        copier = cls(file)
        copier.dump(value)
        if copier.size_bytes + len(file.getbuffer()) > most_bytes:
            return value
        buffers = [_copied(buffer.raw()) for buffer in copier.buffers]
        token = _kept.set(copier.kept)
        try:
            return pickle.loads(file.getbuffer(), buffers=buffers)
        finally:
            _kept.reset(token)

    def _count(self, buffer: pickle.PickleBuffer) -> None:
        self.size_bytes += buffer.raw().nbytes
        self.buffers.append(buffer)

    def reducer_override(self, obj: Any) -> Any:
        """Write a function with what it holds, and a number for what has no name and is not to be copied."""
        if isinstance(obj, types.FunctionType):
            if obj.__globals__ is globals():  # what this pickle itself is read with
                return NotImplemented
            if not holds_values(obj):
                return self._left_out(obj)
            index = self._left_out(obj)[1]
            held = (obj.__defaults__, obj.__kwdefaults__, obj.__dict__)
            return _function_like, (*index, obj.__closure__), held, None, None, _fill_function
        if isinstance(obj, types.CellType):
            return types.CellType, (), _contents(obj), None, None, _fill_cell  # several functions may share one
        if isinstance(obj, type | types.ModuleType):
            return self._left_out(obj)
        return NotImplemented

    def _left_out(self, obj: Any) -> tuple[Any, ...]:
        self.kept.append(obj)
        return _take, (len(self.kept) - 1,)


_kept: ContextVar[list[Any]] = ContextVar("kept")


def _take(index: int) -> Any:
    return _kept.get()[index]


def _function_like(index: int, cells: tuple[types.CellType, ...] | None) -> types.FunctionType:
    function = _take(index)
    made = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    for name in ("__qualname__", "__module__", "__doc__", "__annotations__"):
        setattr(made, name, getattr(function, name))
    return made


def _fill_function(function: types.FunctionType, held: tuple[Any, Any, dict[str, Any]]) -> None:
    function.__defaults__, function.__kwdefaults__, attributes = held
    function.__dict__.update(attributes)


def _contents(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # not filled yet
        return []


def _fill_cell(cell: types.CellType, contents: list[Any]) -> None:
    if contents:
        cell.cell_contents = contents[0]


# --- what is known without a copy -------------------------------------------------------------------------------------
def read_once_part(value: Any) -> str | None:
    """What in a value that cannot be pickled can be read only once, by its class; None when nothing is found."""
    return _Survey(value).read_once


def read_once_error(what: str, value: Any, part: str, *, where: str, fix: str) -> ReadOnceError:
    """The error for a value that is, or holds, a `part` which can be read only once."""
    kind = type(value).__name__
    how = f"is of type {part}" if part == kind else f"({kind}) holds something of type {part}"
    return ReadOnceError(f"{what} {how}, which can be read only once.", where=where, fix=fix)


def is_open_file(value: Any) -> bool:
    """Whether a value is a file that was opened, and lies not just in memory."""
    return isinstance(value, io.IOBase) and not isinstance(value, io.BytesIO | io.StringIO)


def _is_read_once(value: Any) -> bool:
    if isinstance(value, io.BytesIO | io.StringIO):
        return False
    # What `tempfile` gives wraps a file.
    return isinstance(value, Iterator | io.IOBase) or isinstance(getattr(value, "file", None), io.IOBase)


class _Survey(pickle.Pickler):
    """Goes through a value as pickle does, past what is in its way.

    Attributes
    ----------
    size_bytes : float
        What pickle would write, about; infinite when it came to no end.
    read_once : str or None
        The class of the first thing that can be read only once.
    """

    def __init__(self, value: Any) -> None:
        self.size_bytes = 0.0
        self.read_once: str | None = None
        super().__init__(_Counter(self), protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=self._count_buffer)
        try:
            self.dump(value)
        except Exception:  # of the value
            self.size_bytes = math.inf

    def reducer_override(self, obj: Any) -> Any:
        """Write a number in place of what pickle could not write."""
        if _is_read_once(obj):
            self.read_once = self.read_once or type(obj).__name__
        elif obj is int or not isinstance(obj, type | types.FunctionType):
            return NotImplemented
        return int, ()

    def _count_buffer(self, buffer: pickle.PickleBuffer) -> None:
        self.size_bytes += buffer.raw().nbytes


class _Counter:
    """A file that counts what is written to it."""

    def __init__(self, survey: _Survey) -> None:
        self._survey = survey

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._survey.size_bytes += size
        return size
