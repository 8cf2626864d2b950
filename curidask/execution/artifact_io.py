"""Stored values: from the manifest and the cacher that a stage declares to the value, and to what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from curidask.caching import Lazy
from curidask.caching.base import Cacheable, StageFiles
from curidask.errors import (
    ArtifactMissingError,
    ArtifactMixedError,
    ArtifactRejectedError,
    CacheError,
    CacherCheckError,
    CuridaskError,
    UnsafeNameError,
)
from curidask.execution.base import ArtifactInfo, ManagerFacts, Stored
from curidask.execution.returned_paths import NOTE, holders_noted, local_paths, with_paths
from curidask.execution.stage_context import StoredRecord
from curidask.store.base import Store
from curidask.store.manifest import Manifest
from curidask.store.payload import Checkout

_PACKAGE = Cacheable.check.__module__.partition(".")[0]


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


def own_prefix(template: Any) -> str | None:
    """The prefix that a cacher gives its artifact in the place of the run's.

    Several experiments share such an artifact, and so not what else the stage makes in each of them.
    """
    prefix: str | None = getattr(template, "prefix", None)
    return prefix


def bind(template: Any, folder: Path, basename: str, output: str, stage: str, record: Any) -> Cacheable:
    """A cacher of its own for one artifact, out of the class or the instance that the stage declares."""
    cacher: Cacheable = template() if isinstance(template, type) else template
    return cacher.bound(folder, basename, record=record, stage=stage, name=output)


def load_stored(store: Store, source: Stored, facts: ManagerFacts) -> tuple[Any, Manifest]:
    """Load a stored value after checking it against its manifest.

    Parameters
    ----------
    facts : ManagerFacts
        What its cacher may know of the session.

    Raises
    ------
    ArtifactMissingError
        When it is gone or damaged.
    CacheError
        When the bytes are right but the cacher cannot load them.
    """
    cacher, manifest = find_stored(store, source, facts)
    if source.lazy:
        cacher.check_references()
        return Lazy(source.name, resolve=False, cacher=cacher), manifest
    try:
        return _loaded(store, source, cacher), manifest
    except CuridaskError:
        raise
    except Exception as error:
        raise CacheError(
            f"{type(cacher).__name__} could not load the artifact {source.name!r}: {type(error).__name__}: {error}",
            where=source.stem,
            fix=f"its bytes are what was stored, so look at the cacher's load(), or recompute with "
            f"--overwrite-stage {source.stage}",
        ) from error


def _loaded(store: Store, source: Stored, cacher: Cacheable) -> Any:
    """What a cacher loads; once more when it could not read what was verified a moment ago.

    Race: verified, then removed by another process, or not readable any more, before it was opened. That it is gone, or
    cannot be read, shows when it is verified again, and raises there.
    """
    try:
        return cacher.load()
    except OSError:
        store.checkout(source.stem, source.key)
        return cacher.load()


def find_stored(store: Store, source: Stored, facts: ManagerFacts) -> tuple[Cacheable, Manifest]:
    """Check a stored value against its manifest; gives what can load it. Parameters as for `load_stored`.

    Raises
    ------
    ArtifactMissingError
        When it is gone or damaged, or something that it refers to.
    """
    checkout = store.checkout(source.stem, source.key, cacher=cacher_name(source.cacher))
    if source.siblings:
        check_one_call([checkout.manifest, *store.manifests(source.siblings).values()])
    if source.cacher is None:  # files of a stage without outputs
        return Cacheable(), checkout.manifest
    record = StoredRecord(source, facts, checkout, store)
    cacher = bind(source.cacher, checkout.folder, checkout.basename, source.name, source.stage, record)
    cacher.describe_by(checkout.manifest)
    if NOTE in cacher.extra_metadata:
        _give_paths(cacher, cacher.extra_metadata.pop(NOTE), store, checkout)
    cacher.pin = checkout.pin
    if source.lazy and checkout.again is not None:
        # Nobody knows how much later it is loaded; on the cacher itself, for whoever asks a `Lazy` for its cacher.
        cacher.load = partial(_load_checked, cacher.load, checkout.again)  # type: ignore[method-assign]
    if cacher.refers:
        cacher.stage_files = StageFiles(tracked=checkout.tracked)
    return cacher, checkout.manifest


def check_one_call(manifests: Sequence[Manifest]) -> None:
    """Refuse outputs of a stage that different calls have made: what belongs to them is not all there.

    Raises
    ------
    ArtifactMixedError
    """
    if len({manifest.call for manifest in manifests}) > 1:
        first = manifests[0]
        outputs = " and ".join(repr(manifest.output) for manifest in manifests)
        raise ArtifactMixedError(f"{outputs} of stage {first.stage!r} are of different calls.", where=first.stem)


def _give_paths(cacher: Cacheable, noted: Any, store: Store, checkout: Checkout) -> None:
    """Let a cacher load its value with the paths of files in the place of their tokens."""
    try:
        paths = local_paths(holders_noted(noted), store, checkout)
    except (ArtifactMissingError, UnsafeNameError) as error:
        text = f"What it refers to is not there. {error.what}"
        raise ArtifactRejectedError(text, where=checkout.manifest.stem) from error
    # On the cacher itself, so that a `Lazy` and whoever asks it for its cacher get the paths too.
    cacher.load = partial(_load_with_paths, cacher.load, paths)  # type: ignore[method-assign]


def _load_checked(load: Callable[[], Any], check: Callable[[], object]) -> Any:
    check()
    return load()


def _load_with_paths(load: Callable[[], Any], paths: Mapping[str, str]) -> Any:
    return with_paths(load(), paths)


def has_users_check(template: Any) -> bool:
    """Whether a cacher's class has a `check` that is not one of ours."""
    check = getattr(template if isinstance(template, type) else type(template), "check", Cacheable.check)
    return not check.__module__.startswith(f"{_PACKAGE}.")


def check_stored(cacher: Cacheable, source: Stored) -> None:
    """Look whether what a cacher would load, which is whole, is good for use: by what it refers to and by its `check`.

    Raises
    ------
    ArtifactMissingError
        When it is not.
    CacherCheckError
        When the cacher's `check` raises something else.
    """
    if cacher.refers:
        cacher.check_references()
    if not has_users_check(cacher):
        return
    try:
        is_good = cacher.check()
    except CuridaskError:
        raise
    except Exception as error:
        raise CacherCheckError(
            f"check() of {type(cacher).__name__} raised {type(error).__name__}: {error}",
            where=f"output {source.name!r} of stage {source.stage!r}, {source.stem}",
            fix="return False from check() for what is to be made again",
        ) from error
    if not is_good:
        raise ArtifactRejectedError(f"check() of {type(cacher).__name__} says no.", where=source.stem)


def artifact_info(manifest: Manifest, tags: Mapping[str, str] = MappingProxyType({})) -> ArtifactInfo:
    """What is said of an artifact, that was stored now where there are tags."""
    return ArtifactInfo(
        manifest.output,
        manifest.stem,
        manifest.size_bytes,
        manifest.digest,
        manifest.preview,
        manifest.run,
        tuple(manifest.stem + file.name for file in manifest.files),
        manifest.content,
        manifest.made_from,
        dict(tags),
    )
