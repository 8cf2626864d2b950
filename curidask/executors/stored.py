"""Stored values: from the manifest and the cacher that a stage declares to the value, and to what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curidask.caching import Lazy
from curidask.caching.base import Cacheable
from curidask.caching.references import StageFiles
from curidask.errors import CacheError, CuridaskError
from curidask.executors.base import ArtifactInfo, Stored
from curidask.executors.stage_record import StageRecord
from curidask.graph import RecordInfo
from curidask.store.base import Store
from curidask.store.manifests import Manifest


def cacher_name(template: Any) -> str:
    """What manifests call the writer of a payload; what another one wrote is another's, and counts as missing.

    That is the class's name, with an extension that is not the class's own: a reader would look for other files. It is
    empty where there is no cacher.
    """
    if template is None:
        return ""
    cacher = template() if isinstance(template, type) else template
    kind, extension = type(cacher), getattr(cacher, "extension", "")
    return kind.__name__ if extension == getattr(kind, "extension", "") else f"{kind.__name__}({extension!r})"


def bind(
    template: Any, folder: Path, basename: str, output: str, stage: str, record: StageRecord | RecordInfo | None
) -> Cacheable:
    """A cacher of its own for one artifact, out of the class or the instance that the stage declares."""
    cacher: Cacheable = template() if isinstance(template, type) else template
    return cacher.bound(folder, basename, record=record, stage=stage, name=output)


def load_stored(store: Store, source: Stored) -> tuple[Any, Manifest]:
    """Load a stored value after checking it against its manifest.

    Raises
    ------
    ArtifactMissingError
        When it is gone or damaged.
    CacheError
        When the bytes are right but the cacher cannot load them.
    """
    cacher, manifest = find_stored(store, source)
    if source.lazy:
        cacher.check_references()
        return Lazy(source.name, resolve=False, cacher=cacher), manifest
    try:
        return cacher.load(), manifest
    except CuridaskError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            # Race: verified, then removed by another process before it was opened. Gone is gone, and raises here.
            store.checkout(source.stem, source.key)
        raise CacheError(
            f"{type(cacher).__name__} could not load the artifact {source.name!r}: {type(error).__name__}: {error}",
            where=source.stem,
            fix=f"its bytes are what was stored, so look at the cacher's load(), or recompute with "
            f"--overwrite-stage {source.stage}",
        ) from error


def find_stored(store: Store, source: Stored) -> tuple[Cacheable, Manifest]:
    """Check a stored value against its manifest; gives what can load it.

    Raises
    ------
    ArtifactMissingError
        When it is gone or damaged.
    """
    checkout = store.checkout(source.stem, source.key, cacher=cacher_name(source.cacher))
    if source.cacher is None:  # files of a stage without outputs
        return Cacheable(), checkout.manifest
    cacher = bind(source.cacher, checkout.folder, checkout.basename, source.name, source.stage, source.record)
    cacher.describe_by(checkout.manifest)
    cacher.pin = checkout.pin
    if cacher.refers:
        cacher.stage_files = StageFiles(tracked=checkout.tracked)
    return cacher, checkout.manifest


def artifact_info(manifest: Manifest) -> ArtifactInfo:
    """What is said of an artifact."""
    return ArtifactInfo(
        manifest.output,
        manifest.stem,
        manifest.size_bytes,
        manifest.digest,
        manifest.preview,
        manifest.run,
        tuple(manifest.stem + file.name for file in manifest.files),
    )
