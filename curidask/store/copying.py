"""Copying artifacts from one store to another: every file checked on the way, the manifest last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from curidask.errors import ArtifactDamagedError, ArtifactMissingError, ObjectMissingError
from curidask.store.artifacts import READ_ATTEMPTS, ArtifactStore
from curidask.store.manifests import UNTRACKED, FileEntry, Manifest, manifest_name, stem_of
from curidask.store.payload import check_file

RUN = "copy"
"""Names the working folders."""


def copy_artifacts(
    source: ArtifactStore,
    target: ArtifactStore,
    stems: Iterable[str],
    *,
    notice: Callable[[str], None] = lambda text: None,
) -> list[Manifest]:
    """Copy those of the artifacts that the source holds whole.

    Parameters
    ----------
    source, target : ArtifactStore
    stems : iterable of str
        Store names; they are the same in the copy.
    notice : callable
        Is told of each artifact that is left out since it is damaged.

    Returns
    -------
    list of Manifest
        Of what is in the target now.

    Raises
    ------
    CacheError
        When the target cannot be written.
    """
    wanted = list(dict.fromkeys(stems))
    present = source.present(wanted)
    copied = []
    try:
        for stem in wanted:
            if stem in present:
                try:
                    copied.append(copy_artifact(source, target, stem))
                except ArtifactMissingError as error:
                    notice(error.notice)
    finally:
        target.clean(RUN)
    return copied


def copy_artifact(source: ArtifactStore, target: ArtifactStore, stem: str) -> Manifest:
    """Copy an artifact with the files its stage wrote beside it, but for those the stage does not want tracked.

    Raises
    ------
    ArtifactMissingError, ArtifactDamagedError
        When the source does not hold it whole.
    CacheError
        When the target cannot be written; it then holds the artifact whole or not at all.
    """
    for attempt in range(READ_ATTEMPTS):
        manifest = source.manifest(stem)
        if manifest is None:
            break
        try:
            return _copy(source, target, manifest)
        except ArtifactDamagedError:
            # Race: it is replaced between the look at its manifest and the copy. A second look sees the new one.
            if attempt + 1 == READ_ATTEMPTS or source.manifest(stem) == manifest:
                raise
    raise ArtifactMissingError(f"There is no artifact {stem!r}.", where=source.url)


def _copy(source: ArtifactStore, target: ArtifactStore, manifest: Manifest) -> Manifest:
    manifest = replace(manifest, tracked=tuple(entry for entry in manifest.tracked if _is_tracked(entry)))
    if _holds(target, manifest):
        return manifest
    target.discard(manifest.stem)
    entries = {manifest.stem + entry.name: entry for entry in manifest.files}
    entries |= {entry.name: entry for entry in manifest.tracked}
    with target.workspace(manifest.stem, run=RUN) as workspace:
        for number, (name, entry) in enumerate(entries.items()):
            path = str(workspace.folder / str(number))
            _fetch(source, name, path)
            check_file(path, name, entry, "digest")
            target.objects.adopt(path, name)
    target.objects.write(manifest_name(manifest.stem), manifest.to_bytes())
    return manifest


def _is_tracked(entry: FileEntry) -> bool:
    return not entry.name[len(stem_of(entry.name) or "") :].startswith(UNTRACKED)


def _holds(target: ArtifactStore, manifest: Manifest) -> bool:
    try:
        return target.verify_artifact(manifest.stem) == manifest
    except ArtifactMissingError:
        return False


def _fetch(source: ArtifactStore, name: str, path: str) -> None:
    try:
        source.objects.fetch(name, path)
    except ObjectMissingError as error:
        raise ArtifactDamagedError(
            f"An artifact is damaged: {name!r} is gone.", where=source.url, fix="it is made again by the next run"
        ) from error
