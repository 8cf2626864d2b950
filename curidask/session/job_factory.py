"""Jobs out of tasks: where the inputs of each are by now, and what becomes of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from curidask.core.graph import ArtifactRef, Graph, Literal, Task
from curidask.core.planner import Policy
from curidask.core.scheduler import Status
from curidask.execution.artifact_io import own_prefix
from curidask.execution.base import Job, JobOutput, Keep, Passed, Source, Stored


def stored_source(task: Task, index: int, stem: str) -> Stored:
    """An output of a task as it lies in the store."""
    output, key = task.outputs[index], task.ref(index).key
    lazy = output.lazy and not output.resolve
    siblings = tuple(
        other
        for spec, other in zip(task.outputs, task.stems, strict=True)
        if other is not None and other != stem and own_prefix(spec.cacher) == own_prefix(output.cacher)
    )
    return Stored(task.id, output.name, stem, key, output.cacher, task.spec.name, task.record, lazy, siblings)


class JobFactory:
    """Makes tasks self-contained.

    Parameters
    ----------
    prefix : str
        For the manifests.
    status : mapping of int to Status
        How the tasks stand, kept up to date by its owner.
    forced : collection of int
        The tasks that must not be reused, likewise.
    suspects : collection of int
        The tasks of which a worker must see whether what is there stands on the contents of now, likewise.
    may_read : callable
        Tells of a task whether `run()` may still ask for its values.
    alike : callable
        Gives the store names of what a task's stage made under other keys, for each output.
    only_checked : collection of int
        The tasks of which nothing is stored, kept up to date by its owner.
    """

    def __init__(
        self,
        graph: Graph,
        policy: Policy,
        prefix: str,
        status: Mapping[int, Status],
        forced: Collection[int],
        suspects: Collection[int],
        may_read: Callable[[int], bool],
        alike: Callable[[Task], tuple[tuple[str, ...], ...]],
        only_checked: Collection[int] = (),
    ) -> None:
        self._graph = graph
        self._policy = policy
        self._prefix = prefix
        self._status = status
        self._forced = forced
        self._suspects = suspects
        self._alike = alike
        self._may_read = may_read
        self._only_checked = only_checked
        self._superseded: dict[int, int] = {}
        self._longest: dict[str, float] = {}

    def took(self, stage: str, seconds: float) -> None:
        """Remember how long a stage took."""
        self._longest[stage] = max(seconds, self._longest.get(stage, 0.0))

    def supersede(self, task: int, generation: int) -> None:
        """Let the next job of a task take over a claim on it whose lease has ended."""
        self._superseded[task] = generation

    def job(self, task: Task) -> Job:
        """The job of a task."""
        outputs = tuple(self._output(task, index) for index in range(len(task.outputs)))
        writable = self._policy.writable
        stored = writable and all(output.keep is Keep.COMMIT for output in outputs)
        return Job(
            id=task.id,
            key=task.key,
            spec=task.spec,
            record=task.record,
            inputs={name: self._input(ref) for name, ref in task.inputs.items()},
            gathered=tuple(
                (g.record, {name: self._input(ref) for name, ref in g.artifacts.items()}) for g in task.gathered
            ),
            kwargs=task.kwargs,
            outputs=outputs,
            marker=JobOutput("", task.marker_key, Keep.COMMIT if writable else Keep.PASS, stem=task.marker),
            prefix=self._prefix,
            stored=stored,
            reusable=stored and task.id not in self._forced,
            components=task.components,
            supersedes=self._superseded.pop(task.id, -1),
            expected_seconds=self._longest.get(task.spec.name, 0.0),
            given=task.given,
            is_suspect=task.id in self._suspects,
            alike=self._alike(task) if stored else (),
            accepts_code=self._policy.accepts_code(task.spec.name),
            checks=self._policy.check_determinism and not task.given,
            commits=task.id not in self._only_checked,
        )

    def _output(self, task: Task, index: int) -> JobOutput:
        spec, ref, stem = task.outputs[index], task.ref(index), task.stems[index]
        if stem is None:
            return JobOutput(spec.name, ref.key, Keep.PASS, shared=self._is_shared(ref))
        keep = Keep.COMMIT if self._policy.writable else Keep.ROUND_TRIP
        return JobOutput(spec.name, ref.key, keep, spec.cacher, stem, shared=self._is_shared(ref))

    def _is_shared(self, ref: ArtifactRef) -> bool:
        """Whether an artifact may be read more than once; only one stage that is called once is known to read once."""
        readers = self._graph.dependents[ref.task]
        if len(readers) != 1 or self._may_read(ref.task) or self._policy.check_determinism:
            return True
        reader = self._graph[readers[0]]
        once = list(reader.inputs.values()).count(ref) == 1
        return reader.spec.is_aggregate or reader.spec.options.retries > 0 or not once

    def _input(self, ref: ArtifactRef | Literal) -> Source:
        return ref if isinstance(ref, Literal) else self.source(ref)

    def source(self, ref: ArtifactRef) -> Stored | Passed:
        """Where an artifact is."""
        task = self._graph[ref.task]
        stem = task.stems[ref.index]
        in_store = self._policy.writable or self._status.get(task.id) is Status.REUSED
        if stem is None or not in_store:
            return Passed(task.id, ref.index, ref.key, self._is_shared(ref))
        return stored_source(task, ref.index, stem)
