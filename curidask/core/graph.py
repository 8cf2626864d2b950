"""The graph of an experiment: tasks (stage x record) and the artifacts that connect them.

Tasks are added in the order in which the experiment traces them, each after what it depends on, so the list of tasks
is a topological order and a cycle cannot be written down. Every walk is iterative and O(V + E).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from curidask.core.spec import OutputSpec, StageSpec
from curidask.errors import CuridaskError
from curidask.hashing import digest


class GraphError(CuridaskError, ValueError):
    """A task depends on one that is not in the graph before it (which a cycle would need)."""


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """One output of one task.

    Attributes
    ----------
    task : int
        The task that makes it.
    index : int
        Its place among the task's outputs.
    name : str
        Its name in the state.
    key : str
        Its artifact key, 64 hex digits.
    """

    task: int
    index: int
    name: str
    key: str


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A value that a stage was called with: a keyword argument, or what the experiment put into a state itself.

    Attributes
    ----------
    value : object
        A copy of what was given, or that itself; no stage gets it but as a copy of its own.
    key : str
        Made of its content.
    watch : Watch or None
        Tells when it is changed after the call; None for what nobody else can change.
    """

    value: Any
    key: str
    watch: Watch | None = None


def suppressed(default: Any) -> Literal:
    """What stands for an input that is missing, and suppressed."""
    return Literal(default, SUPPRESSED)


def is_suppressed(source: object) -> bool:
    """Whether an input is missing and suppressed."""
    return isinstance(source, Literal) and source.key == SUPPRESSED


SUPPRESSED = "suppressed"


@dataclass(slots=True, eq=False)
class Watch:
    """Looks after a value that is not copied when a stage is called with it, until the stage gets it.

    Attributes
    ----------
    identity : str
        Of the value as it was.
    identify : callable
        Gives the identity of the value as it is.
    what : str
        What it is, for messages.
    error : type
        What is raised when it was changed.
    fix : str
        Advice for that.
    is_over : bool
        Whether the stage got it.
    """

    value: Any
    identity: str
    identify: Callable[[Any], str]
    what: str
    error: type[CuridaskError]
    fix: str
    is_over: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # what has travelled is a copy, which needs none

    @property
    def place(self) -> tuple[int, Callable[[Any], str]]:
        """The same for all that watch the value."""
        return id(self.value), self.identify

    def check(self, label: str, known: dict[Any, str]) -> None:
        """Raise when the value was changed.

        Parameters
        ----------
        label : str
            Who is about to get it.
        known : dict
            The identities, by `place`, that were established since anything could be changed.

        Raises
        ------
        ValueChangedError, ParametersChangedError
        """
        if self.place not in known:
            try:
                known[self.place] = self.identify(self.value)
            except CuridaskError:
                known[self.place] = ""
        if known[self.place] != self.identity:
            raise self.changed(label)
        self.is_over = True

    def changed(self, where: str) -> CuridaskError:
        """The error for one that was changed."""
        return self.error(f"{self.what} was changed after the call, before the stage ran.", where=where, fix=self.fix)


class PastStage(NamedTuple):
    """A stage that a record went through, with what it takes to find the files that it wrote beside its outputs.

    It travels with each later job of the record, so names are made of it where they are needed: most never are.

    Attributes
    ----------
    key : str
        The task's key.
    needs : tuple of int
        The tasks that it depends on.
    params_hash : str
        Hash of the parameters that it used.
    holder : tuple of (str, str or None, str or None), or None
        The output that the files go with: its name, and prefix and subdir of its cacher. None when none is stored.
    """

    stage: str
    task: int
    key: str
    needs: tuple[int, ...]
    params_hash: str
    holder: tuple[str, str | None, str | None] | None


@dataclass(frozen=True, slots=True, eq=False)
class RecordInfo:
    """What a task needs to know of a record.

    Attributes
    ----------
    index : int
        The record's place on its manager, -1 for a hidden one.
    name : str
        The name of its parameter set.
    params : ExperimentParameters or None
        As for the value of a `Literal`.
    params_hash : str
        Hash of the parameter set, or the combined hash for a record that starts with an aggregate.
    is_aggregate : bool
        Whether it starts with an aggregate.
    experiment, prefix, run : str
        The session it belongs to: the experiment's name, the beginning of its artifacts' names, the run's reference.
    cache : str
        Where its cache is, when that is a folder.
    history : sequence of PastStage
        The stages that it went through, and later ones: all that is said of a record shares what grows with it.
    n_stages : int
        How many of them were before.
    inputs : tuple of RecordInfo, or None
        The records that went into it; None where that does not matter.
    watch : Watch or None
        As that of a `Literal`, of the parameter set.
    n_held : int
        How many artifacts its state holds.
    uses : tuple of (str, tuple of str), or None
        Of the record of a stage that says which parameters it uses: their hash, and their names. None for all.
    """

    index: int
    name: str
    params: Any
    params_hash: str
    is_aggregate: bool = False
    experiment: str = ""
    prefix: str = ""
    run: str = ""
    cache: str = ""
    history: Sequence[PastStage] = ()
    n_stages: int = 0
    inputs: tuple[RecordInfo, ...] | None = ()
    watch: Watch | None = None
    n_held: int = 0
    uses: tuple[str, tuple[str, ...]] | None = None

    @property
    def used_hash(self) -> str:
        """Hash of the parameters that the stage uses."""
        return self.params_hash if self.uses is None else self.uses[0]

    @property
    def used_names(self) -> tuple[str, ...] | None:
        """Their names; None for all."""
        return None if self.uses is None else self.uses[1]

    @property
    def past(self) -> Sequence[PastStage]:
        """The stages that it went through."""
        return self.history[: self.n_stages]

    @property
    def label(self) -> str:
        """The record as the user knows it, for messages and displays."""
        return f"Record {self.index} ({self.name})" if self.index >= 0 else f"hidden record ({self.name})"


def combined_hash(own: str, members: Iterable[tuple[str, str]]) -> str:
    """The hash of a record that starts with an aggregate.

    Parameters
    ----------
    own : str
        Hash of its own parameter set.
    members : iterable of (str, str)
        Hash and name of each record that goes in, in order. Names count too: an aggregate names what it compares.
    """
    return digest(("combined", own, tuple(members)))[:32]


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """A record that an aggregate gathers, with the artifacts the aggregate may read."""

    record: RecordInfo
    artifacts: Mapping[str, ArtifactRef | Literal]


@dataclass(frozen=True, slots=True)
class GivenFile:
    """A file of the user's own that serves as an output, in place of what the stage would compute.

    Attributes
    ----------
    path : str
        Absolute.
    digest : str
        SHA-256 of what lies there, a file or a folder.
    """

    path: str
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One stage on one record.

    Attributes
    ----------
    id : int
        Its place in the graph.
    key : str
        Digest over all that decides the result: stage, code, parameters, keyword arguments, keys of the inputs.
    inputs : mapping of str to ArtifactRef or Literal
        Of a stage: input name to artifact. Empty for an aggregate, whose inputs lie in `gathered`.
    gathered : tuple of Gathered
        The records of an aggregate, in the given order.
    outputs : tuple of OutputSpec
        The outputs as this call wants them (lazy or not, with which cacher).
    stems : tuple of str or None
        Store name of each output, None for one that is not stored.
    marker : str
        Store name under which a stage without stored outputs keeps the files it wrote.
    components : mapping
        The parts of the key by name, for the manifest.
    force : bool
        Recompute whatever the cache holds (the parameter set says ``overwrite``).
    given : tuple of GivenFile
        One for each output, or none: loading them takes the place of the function.
    """

    id: int
    key: str
    spec: StageSpec
    record: RecordInfo
    inputs: Mapping[str, ArtifactRef | Literal]
    gathered: tuple[Gathered, ...]
    kwargs: Mapping[str, Literal]
    outputs: tuple[OutputSpec, ...]
    stems: tuple[str | None, ...]
    marker: str
    components: Mapping[str, Any]
    force: bool = False
    given: tuple[GivenFile, ...] = ()

    @property
    def dependencies(self) -> list[int]:
        """The tasks whose outputs it reads, each once, in order of first use."""
        return list({ref.task: None for ref in self.reads})

    @property
    def reads(self) -> list[ArtifactRef]:
        """The artifacts that it reads."""
        named = [self.inputs, *(gathered.artifacts for gathered in self.gathered)]
        return [ref for inputs in named for ref in inputs.values() if isinstance(ref, ArtifactRef)]

    @property
    def stored(self) -> bool:
        """Whether all it makes is stored, so that it can be reused; without outputs, its marker decides."""
        return all(stem is not None for stem in self.stems)

    @property
    def store_stems(self) -> list[str]:
        """The store names that must all be there for the task to be reused."""
        return [stem for stem in self.stems if stem is not None] if self.stems else [self.marker]

    @property
    def stored_as(self) -> list[tuple[str, str]]:
        """The store names that must all be there for the task to be reused, with their keys."""
        if not self.stems:
            return [(self.marker, self.marker_key)]
        return [(stem, self.ref(index).key) for index, stem in enumerate(self.stems) if stem is not None]

    @property
    def files_stored_as(self) -> tuple[str, str]:
        """Store name and key of the artifact that the files it writes beside its outputs go with."""
        stored = (i for i, stem in enumerate(self.stems) if stem is not None)
        first = next(stored, None)
        if first is None:
            return self.marker, self.marker_key
        return self.stems[first] or "", self.ref(first).key

    @property
    def as_past(self) -> PastStage:
        """What later stages of the record know of it."""
        stored = next((output for output, stem in zip(self.outputs, self.stems, strict=True) if stem is not None), None)
        holder = None if stored is None else (stored.name, *stored.place)
        return PastStage(self.spec.name, self.id, self.key, tuple(self.dependencies), self.record.used_hash, holder)

    @property
    def marker_key(self) -> str:
        """The artifact key of the files it writes beside its outputs."""
        return artifact_key(self.key, "")

    @property
    def label(self) -> str:
        """Stage and record, for messages."""
        return f"stage {self.spec.name!r} of {self.record.label}"

    def ref(self, index: int) -> ArtifactRef:
        """The artifact at a place among the outputs."""
        name = self.outputs[index].name
        return ArtifactRef(self.id, index, name, artifact_key(self.key, name))


def artifact_key(task_key: str, output: str) -> str:
    """The key of one output: its task's key extended by the output's name."""
    return digest(("artifact", task_key, output))


class Graph:
    """Tasks with their dependencies, in traced order."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.dependencies: list[list[int]] = []
        self.dependents: list[list[int]] = []
        self._sharing: dict[int, set[int]] = {}

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, task_id: int) -> Task:
        return self.tasks[task_id]

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def add(self, task: Task) -> Task:
        """Append a task.

        Raises
        ------
        GraphError
            When it is out of order or depends on a task that is not there yet.
        """
        dependencies = task.dependencies
        if task.id != len(self.tasks) or any(not 0 <= other < task.id for other in dependencies):
            raise GraphError(
                "A task depends on one that does not come before it, so the graph would have a cycle.", where=task.label
            )
        self.tasks.append(task)
        self.dependencies.append(dependencies)
        self.dependents.append([])
        for other in dependencies:
            self.dependents[other].append(task.id)
        return task

    def share(self, task: Task, record: int) -> None:
        """Note that a record, by its place, needs what a task makes, which may be there for another one."""
        if record != task.record.index:
            self._sharing.setdefault(task.id, {task.record.index}).add(record)

    def n_sharing(self, task: int) -> int:
        """How many records share a task."""
        return len(self._sharing.get(task, (0,)))

    def targets(self) -> list[int]:
        """The tasks that nothing depends on: the ends of a run."""
        return [task.id for task in self.tasks if not self.dependents[task.id]]

    def order(self, targets: Iterable[int], stop: Collection[int] = ()) -> list[int]:
        """The targets and all they depend on, dependencies first, depth first.

        Depth first keeps the tasks of a record together, so that few intermediates are alive at a time. A task in
        `stop` is left out, and what only it needs too.
        """
        order: list[int] = []
        seen: set[int] = set()
        for target in targets:
            if target in seen or target in stop:
                continue
            seen.add(target)
            stack = [(target, iter(self.dependencies[target]))]
            while stack:
                current, remaining = stack[-1]
                following = next((t for t in remaining if t not in seen and t not in stop), None)
                if following is None:
                    order.append(current)
                    stack.pop()
                else:
                    seen.add(following)
                    stack.append((following, iter(self.dependencies[following])))
        return order

    def descendants(self, sources: Iterable[int]) -> list[int]:
        """All tasks that depend on the sources, directly or through others (the sources themselves not)."""
        found: dict[int, None] = {}
        stack = [d for source in sources for d in self.dependents[source]]
        while stack:
            current = stack.pop()
            if current not in found:
                found[current] = None
                stack.extend(self.dependents[current])
        return list(found)
