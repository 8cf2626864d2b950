"""Whether stored values can be loaded at all, of cachers that need no arguments and execute nothing for that."""

from __future__ import annotations

from threading import Lock

from curidask import caching
from curidask.errors import ArtifactMissingError, CuridaskError
from curidask.store.artifacts import ArtifactStore
from curidask.store.manifest import Manifest

LOADED = ("JsonCacher", "NumpyCacher", "ParquetCacher", "RawJupyterNotebookCacher")
"""Those that read what they wrote whatever arguments they are given."""

_one_at_a_time = Lock()


def problem_of(store: ArtifactStore, manifest: Manifest) -> str:
    """Why a whole artifact cannot be loaded; empty when it can, or when nobody knows without its stage.

    One at a time, since each is in memory as a whole.
    """
    kind = manifest.cacher.partition("(")[0]
    if kind not in LOADED:
        return ""
    cacher = getattr(caching, kind)()
    try:
        cacher.check_ready()
    except CuridaskError:
        return ""  # a package is missing here
    with _one_at_a_time:
        try:
            checkout = store.checkout(manifest.stem, manifest.key)
            bound = cacher.bound(checkout.folder, checkout.basename, name=manifest.output)
            bound.extension = _extension(manifest) or bound.extension
            bound.describe_by(checkout.manifest)
            bound.load()
        except ArtifactMissingError:
            return ""
        except Exception as error:
            return f"{manifest.stem}: {kind} cannot load it: {type(error).__name__}: {error}"
    return ""


def _extension(manifest: Manifest) -> str:
    """The extension that the stage's cacher had, where that was not the class's own."""
    return manifest.cacher.partition("('")[2].removesuffix("')")
