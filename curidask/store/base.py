"""What a store of artifacts can do, one place or several tiers: see `ArtifactStore` for what each method promises."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from curidask.store.manifests import FileEntry, Manifest
from curidask.store.objects import ObjectStore
from curidask.store.payload import Checkout, Workspace

if TYPE_CHECKING:
    from curidask.store.artifacts import ArtifactStore


class Store(Protocol):
    """Artifacts, committed in one step and verified when read."""

    @property
    def writable(self) -> bool:
        """Whether it takes artifacts."""
        ...

    @property
    def objects(self) -> ObjectStore:
        """What artifacts are made of, in the place where those who share them meet."""
        ...

    @property
    def sources(self) -> list[ArtifactStore]:
        """The stores that are read, in this order."""
        ...

    @property
    def local_root(self) -> Path | None:
        """The folder that holds the artifacts as files of their names, if there is one."""
        ...

    @property
    def places(self) -> list[ObjectStore]:
        """What is written to: the objects of each writable tier."""
        ...

    @property
    def url(self) -> str:
        """Where it is; several tiers with commas between them."""
        ...

    @property
    def reads_are_cheap(self) -> bool:
        """Whether a check of an artifact costs no request."""
        ...

    def check_writable(self) -> None:
        """Raise a `CacheError` that says how to fix it, when artifacts cannot be stored.

        A place in the network without the permission to write is only read from then on: `writable` and `notices` say
        so.
        """
        ...

    def notices(self) -> list[str]:
        """What the user should know that came up since the last call."""
        ...

    def present(self, stems: Collection[str]) -> set[str]:
        """Those that have a manifest and payload."""
        ...

    def having(self, names: Collection[str]) -> set[str]:
        """Those of the object names that are there."""
        ...

    def manifest(self, stem: str) -> Manifest | None:
        """The manifest of an artifact, None where there is none that counts."""
        ...

    def manifests(self, stems: Iterable[str]) -> dict[str, Manifest]:
        """The manifests of those that have one that counts."""
        ...

    def workspace(self, stem: str, *, run: str) -> Workspace:
        """A private folder for what will be committed."""
        ...

    def tidy(self) -> None:
        """Remove the empty working folders that this process keeps."""
        ...

    def clean(self, run: str) -> None:
        """Remove the working folders that killed workers of a run left on this machine."""
        ...

    def commit(
        self,
        workspace: Workspace,
        manifest: Manifest,
        *,
        tracked: Workspace | tuple[FileEntry, ...] | None = None,
        replace_whole: bool = False,
    ) -> Manifest:
        """Store what lies in a workspace as the artifact that a manifest describes; the one that is there now."""
        ...

    def discard(self, stem: str) -> None:
        """Remove an artifact."""
        ...

    def using(self) -> AbstractContextManager[None]:
        """What is checked out within the block stays where it is at least until the block ends."""
        ...

    def checkout(self, stem: str, key: str, *, cacher: str = "") -> Checkout:
        """Bring an artifact's files into a local folder and verify them."""
        ...

    def verify_artifact(self, stem: str) -> Manifest:
        """Check an artifact in full."""
        ...

    def restore_tracked(self, manifest: Manifest) -> dict[str, Path]:
        """Bring the files that a stage wrote beside its outputs, verified, by their names in the store."""
        ...
