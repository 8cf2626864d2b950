"""What becomes of what a stage returned and wrote: each output goes into the store, or is packed to travel."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curidask.caching.base import Cacheable
from curidask.caching.references import StageFiles
from curidask.errors import CacheError, CuridaskError, OutputSignatureError, UnpicklableError
from curidask.executors import kept_reports
from curidask.executors.base import ArtifactInfo, Job, JobOutput, Keep, Reported
from curidask.executors.describe import loaded_packages, user_name
from curidask.executors.environment import Environment
from curidask.executors.stage_record import StageRecord
from curidask.executors.stored import artifact_info, bind, cacher_name
from curidask.executors.values import StageFile, pack
from curidask.preview import describe_params, preview
from curidask.store.manifests import FileEntry, Manifest
from curidask.store.workspaces import Workspace


@dataclass(slots=True)
class OutputKeeper:
    """Keeps the outputs of one call of a stage.

    Attributes
    ----------
    job : Job
    env : Environment
    files : Workspace
        What the stage wrote beside its outputs.
    reported : list of Reported
    input_digests : mapping of str to str
        The digests of the inputs that were loaded, by key.
    replace_whole : bool
        Whether what is whole in the store gives way.
    values : dict of int to object
        The outputs that are not stored, packed, by place.
    """

    job: Job
    env: Environment
    files: Workspace
    reported: Sequence[Reported]
    input_digests: Mapping[str, str]
    replace_whole: bool
    values: dict[int, Any] = field(default_factory=dict)

    def keep(self, returned: Any, record: StageRecord, seconds: float) -> tuple[ArtifactInfo, ...]:
        """Keep what the function returned after so many seconds; what is said of the stored ones."""
        values = split_outputs(self.job, returned)
        saved: list[tuple[JobOutput, Cacheable, Any, Workspace]] = []
        with ExitStack() as workspaces:
            # All are written before one is committed: an output may refer to the stage's files, which move then.
            for index, (output, value) in enumerate(zip(self.job.outputs, values, strict=True)):
                if output.keep is Keep.PASS:
                    self.values[index] = self._pack(output, self._without_folder(value))
                    continue
                workspace = workspaces.enter_context(self.env.store.workspace(output.stem, run=self.env.work))
                cacher = self._save(output, value, record, workspace)
                if output.keep is Keep.ROUND_TRIP:
                    self.values[index] = self._pack(output, cacher.load())
                    self.files.stays |= cacher.refers
                else:
                    saved.append((output, cacher, value, workspace))
            if saved:
                return self._commit(saved, seconds)
        if not self.files.is_empty and self.job.marker.keep is Keep.COMMIT:
            self._commit_files(seconds)
        return ()

    def _without_folder(self, value: Any) -> Any:
        """Let a path into the working folder, which the files leave, stand for the file."""
        if not isinstance(value, str | Path) or not self.files.made:
            return value
        name = StageFiles.being_made(self.files).name_of(os.fspath(value))
        if name is None:
            return value
        marker = self.job.marker
        if marker.keep is not Keep.COMMIT:  # a dry run: they stay where they are until it ends
            self.files.stays = True
            return value
        holder = next((output for output in self.job.outputs if output.keep is Keep.COMMIT), marker)
        return StageFile(holder.stem, holder.key, name, isinstance(value, Path))

    def _commit(
        self, saved: Sequence[tuple[JobOutput, Cacheable, Any, Workspace]], seconds: float
    ) -> tuple[ArtifactInfo, ...]:
        kept_reports.write(self.reported, self.files)
        artifacts = []
        tracked: Workspace | tuple[FileEntry, ...] | None = self.files
        for output, cacher, value, workspace in saved:
            whole = self.env.store.commit(
                workspace,
                self._manifest(output, cacher, preview(value), seconds),
                tracked=tracked if tracked is self.files or cacher.refers else None,
                replace_whole=self.replace_whole,
            )
            artifacts.append(artifact_info(whole))
            if tracked is self.files:  # the first one took them into the store
                tracked = whole.tracked
        return tuple(artifacts)

    def _commit_files(self, seconds: float) -> None:
        """Store what a stage without stored outputs wrote, so that it is there later and, without outputs, reusable."""
        kept_reports.write(self.reported, self.files)
        marker = self.job.marker
        with self.env.store.workspace(marker.stem, run=self.env.work) as nothing:
            manifest = self._manifest(marker, None, "", seconds)
            self.env.store.commit(nothing, manifest, tracked=self.files, replace_whole=True)

    def _save(self, output: JobOutput, value: Any, record: StageRecord, workspace: Workspace) -> Cacheable:
        cacher = bind(output.cacher, workspace.folder, workspace.basename, output.name, self.job.spec.name, record)
        if cacher.refers:
            cacher.stage_files = StageFiles.being_made(self.files)
        try:
            cacher.save(value)
        except CuridaskError as error:
            error.where = error.where or f"output {output.name!r} of {self.job.label}"
            raise
        except OSError as error:
            raise CacheError(
                f"The output {output.name!r} could not be written: {error.strerror or error}.",
                where=f"{type(cacher).__name__} of {self.job.label}",
                fix="free space on the disk of the cache or choose another with --cache; what is committed stays",
            ) from error
        return cacher

    def _pack(self, output: JobOutput, value: Any) -> Any:
        try:
            return pack(value, portable=self.env.portable)
        except Exception as error:
            raise UnpicklableError(
                f"The output {output.name!r} ({type(value).__name__}) cannot travel between processes: {error}",
                where=self.job.label,
                fix="return plain data, give the output a cacher that can store it, make it inside the stage that "
                "uses it, or run in this process with --parallel 0",
            ) from error

    def _manifest(self, output: JobOutput, cacher: Cacheable | None, text: str, seconds: float) -> Manifest:
        job = self.job
        return Manifest(
            key=output.key,
            stem=output.stem,
            prefix=job.prefix,
            stage=job.spec.name,
            output=output.name,
            params_hash=job.record.params_hash,
            set_name=job.record.name,
            components=dict(job.components),
            cacher=cacher_name(cacher),
            preview=text,
            params=describe_params(job.record.params),
            inputs=tuple(self._describe_inputs()),
            run=self.env.run,
            user=user_name(),
            host=socket.gethostname(),
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(seconds, 6),
            packages=loaded_packages(),
            extra_metadata=dict(cacher.extra_metadata) if cacher is not None else {},
        )

    def _describe_inputs(self) -> list[dict[str, Any]]:
        rows = [(name, source) for name, source in self.job.inputs.items()]
        rows += [(name, source) for _, sources in self.job.gathered for name, source in sources.items()]
        return [{"name": n, "key": s.key, "digest": self.input_digests.get(s.key, "")} for n, s in rows]


def split_outputs(job: Job, returned: Any) -> Sequence[Any]:
    """What the function returned as one value an output.

    Raises
    ------
    OutputSignatureError
        When the numbers differ.
    """
    names = [output.name for output in job.outputs]
    if not names:
        return ()
    if len(names) == 1:
        return (returned,)
    if isinstance(returned, Sequence) and not isinstance(returned, str | bytes) and len(returned) == len(names):
        return returned
    got = f"{len(returned)} values" if isinstance(returned, tuple | list) else f"one {type(returned).__name__}"
    raise OutputSignatureError(
        f"The stage declares {len(names)} outputs ({', '.join(names)}) but returned {got}.",
        where=job.label,
        fix=f"end the function with `return {', '.join(names)}`",
    )
