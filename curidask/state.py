"""A record's state: artifacts by name, resolved to their values when they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex

from curidask.core.graph import ArtifactRef
from curidask.core.keywords import CheckedCalls
from curidask.core.representation import represent
from curidask.errors import BoundToSessionError, MissingInputError
from curidask.execution.copies import private_copy
from curidask.session.changes import Given
from curidask.staging import SkippedOutput

if TYPE_CHECKING:
    from curidask.manager import ArtifactManager
    from curidask.record import Record

_NO_DEFAULT = object()


class CacheAwareDict(CheckedCalls, dict[str, Any]):
    """A record's state: artifacts by name, each resolved to its value when it is accessed.

    Resolving an artifact that is not there yet executes what it needs. Values stay in memory once resolved, those of
    lazy outputs do not.

    Attributes
    ----------
    resolve : bool
        False gives what is held itself: a `Lazy` for a stored artifact, an `ArtifactRef` for one in memory, a
        `SkippedOutput` for one whose stage nobody needed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resolve = True
        self._manager: ArtifactManager | None = None
        self._record: Record | None = None
        self._given: dict[ArtifactRef, Given] = {}

    def raw(self, name: str) -> Any:
        """What is held under a name: an `ArtifactRef`, or a value that the experiment put there itself."""
        try:
            return super().__getitem__(name)
        except KeyError:
            known = ", ".join(map(repr, self)) or "nothing yet"
            raise MissingInputError(
                f"There is no artifact {name!r} in the state.",
                where=f"the state holds {known}",
                fix="run the stage that makes it first, or correct the name",
            ) from None

    def is_loaded(self, name: str) -> bool:
        """Whether the value under a name is in this process's memory."""
        held = self.raw(name)
        return not isinstance(held, ArtifactRef) or held in self._given

    def held_now(self, name: str) -> Any:
        """As `raw`; an artifact that the experiment was given and changed in place counts as put there by hand."""
        held = self.raw(name)
        given = self._given.get(held) if self._given and isinstance(held, ArtifactRef) else None
        if given is None or not given.is_changed(lambda: self._read(held)[0], self._label(name)):
            return held
        super().__setitem__(name, given.value)
        return given.value

    def made(self, ref: ArtifactRef) -> None:
        """Take in what a stage makes, as it makes it."""
        self._given.pop(ref, None)
        super().__setitem__(ref.name, ref)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        if self._manager is not None:
            raise BoundToSessionError(
                "The state of a record belongs to its session, and can be neither copied as a whole nor sent away.",
                fix="`dict(record.state)` gives its values, `record.make_copy()` a record that starts with them",
            )
        return super().__reduce_ex__(protocol)

    def __getitem__(self, name: str) -> Any:
        return self._resolved(self.raw(name))

    def get(self, name: str, default: Any = None) -> Any:
        """The value under a name, or the default."""
        try:
            held = self.raw(name)
        except MissingInputError:
            return default
        return self._resolved(held)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value under a name, which is the default from now on when there is none."""
        if name not in self:
            self[name] = default
        return self[name]

    def values(self) -> Any:
        """All values, resolved."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """All names with their values, resolved."""
        return [(name, self[name]) for name in self]

    def pop(self, name: str, default: Any = _NO_DEFAULT) -> Any:
        """Take a value out of the state."""
        if name not in self and default is not _NO_DEFAULT:
            return default
        value = self[name]
        super().__delitem__(name)
        return value

    def copy(self) -> CacheAwareDict:
        """A state of its own that holds the same artifacts; values the experiment put there are copied deeply."""
        other = CacheAwareDict()
        other._manager = self._manager
        for name in self:
            held = self.held_now(name)
            dict.__setitem__(other, name, held if isinstance(held, ArtifactRef) else private_copy(held))
        return other

    def __iter__(self) -> Iterator[str]:
        # Overridden although it does the same: dict(state) and {**state} then go through __getitem__.
        return super().__iter__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self) == dict(other)

    __hash__ = None

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {self._shown(self.raw(name))}" for name in self) + "}"

    def _resolved(self, held: Any) -> Any:
        if not isinstance(held, ArtifactRef) or self._manager is None:
            return held
        if not self.resolve:
            reference = self._manager.reader.reference_to(held)
            return self._skipped(held) if reference is None else reference
        if held in self._given:
            return self._given[held].value
        value, keep = self._read(held)
        if keep:
            self._given[held] = Given(value)
        return value

    def _read(self, ref: ArtifactRef) -> tuple[Any, bool]:
        assert self._manager is not None
        return self._manager.reader.value(ref)

    def _label(self, name: str) -> str:
        of = "" if self._record is None else f" of {self._record.get_reference_name()}"
        return f"{name!r} in the state{of}"

    def _skipped(self, held: ArtifactRef) -> Any:
        if self._record is None:
            return held
        stage = self._record.manager.graph[held.task].spec.name
        return SkippedOutput(self._record, stage, represent(self._record, held.name))

    def _shown(self, held: Any) -> str:
        if isinstance(held, ArtifactRef) and self._manager is not None and not self._manager.reader.is_available(held):
            return "<not computed yet>"
        return repr(self._resolved(held))
