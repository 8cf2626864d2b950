"""What a store of artifacts can do and promises, in one place or in several tiers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from curidask.errors import CacheError
from curidask.store.backends.base import ObjectStore
from curidask.store.lineage import Lineage
from curidask.store.manifest import FileEntry, Manifest
from curidask.store.payload import Checkout
from curidask.store.workspace import Workspace

if TYPE_CHECKING:
    from curidask.store.artifacts import ArtifactStore

T = TypeVar("T")


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

        A place that may be read, but not written, is only read from then on: `writable` and `notices` say
        so.
        """
        ...

    def notices(self) -> list[str]:
        """What the user should know that came up since the last call."""
        ...

    def goes_on_without(self, error: CacheError) -> bool:
        """Whether what failed is a place that has served, and can be done without for a while.

        That takes another one to store to; the place is left alone then for a while, and `notices` says so.
        """
        ...

    def is_left_alone(self, place: ObjectStore) -> bool:
        """Whether a place is done without for the moment."""
        ...

    def reachable(self) -> Store:
        """The store without the places that are left alone for the moment."""
        ...

    def present(self, stems: Collection[str]) -> set[str]:
        """Those that have a manifest and payload."""
        ...

    def alike(self, readable: Collection[str], *, one_look: bool = False) -> list[str]:
        """The artifacts whose names begin so, up to the key; or all of a folder, where one look is to serve long."""
        ...

    def lineage(self, stems: Collection[str], prefix: str) -> dict[str, Lineage]:
        """What artifacts hold and were made from, of those that the last `present` found.

        Parameters
        ----------
        prefix : str
            How the names of the session's artifacts begin.
        """
        ...

    def keep_lineage(self, rows: Mapping[str, tuple[Lineage, Mapping[str, str]]], prefix: str) -> None:
        """Keep that of what was stored, by store name, with the tags of its manifests by the URLs of the places.

        What `lineage` had to read from manifests is kept too.
        """
        ...

    def take_tags(self, stem: str) -> dict[str, str]:
        """How the manifest looks in listings that this process has stored last under a name, by the URLs of places."""
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
        """Remove the working folders that killed workers of a run left on this machine.

        Call it when no worker of that run is alive.
        """
        ...

    def commit(
        self,
        workspace: Workspace,
        manifest: Manifest,
        *,
        tracked: Workspace | tuple[FileEntry, ...] | None = None,
        replace_whole: bool = False,
    ) -> Manifest:
        """Store what lies in a workspace as the artifact that a manifest describes.

        Parameters
        ----------
        manifest : Manifest
            Its `files` and `tracked` are filled in here.
        tracked : Workspace or tuple of FileEntry, optional
            What the stage wrote beside its outputs, to be kept, checked and removed together with this artifact. As
            entries: another artifact of the stage has taken it into the store already.
        replace_whole : bool
            Put it in the place of a whole artifact with the same key. Without, that one stays: same key, same result.

        Returns
        -------
        Manifest
            The one that is in the store now.

        Raises
        ------
        CacheError
            When it cannot be written; what was there before is then still there, or is a miss.
        NotJsonError
            When the cacher's `extra_metadata` is not JSON.
        """
        ...

    def discard(self, stem: str) -> None:
        """Remove an artifact."""
        ...

    def using(self) -> AbstractContextManager[None]:
        """What is checked out within the block stays where it is at least until the block ends."""
        ...

    def checkout(self, stem: str, key: str, *, cacher: str = "") -> Checkout:
        """Bring an artifact's files into a local folder and verify them.

        Parameters
        ----------
        stem, key : str
            Its store name, and the key it must have.
        cacher : str, optional
            The class that will load it; an artifact that another class wrote counts as missing.

        Raises
        ------
        ArtifactMissingError
            When it is not there.
        ArtifactUntrustedError
            When there are keys, and its manifest is not signed with one of them. No file of it was looked at.
        ArtifactDamagedError
            Naming the file that is not what was committed.

        Notes
        -----
        Files of a local store are used in place. When another process replaces the artifact between the check and the
        load, the load sees the new files: same key, so another result only where the stage gives another each time,
        and then still one that was committed under this key. Removed files raise FileNotFoundError when opened.
        """
        ...

    def verify_artifact(self, stem: str) -> Manifest:
        """Check an artifact in full, whatever `verify` is.

        Raises
        ------
        ArtifactMissingError, ArtifactUntrustedError, ArtifactDamagedError
        """
        ...

    def restore_tracked(self, manifest: Manifest) -> dict[str, Path]:
        """Bring the files that a stage wrote beside its outputs, verified, by their names in the store.

        Raises
        ------
        ArtifactDamagedError
            Naming the file that is gone or changed.
        """
        ...


def without_place(store: Store, place: ObjectStore, ask: Callable[[], T]) -> T | None:
    """Ask something of one of a store's places; None where that is left alone for a while, or is so from now on."""
    if store.is_left_alone(place):
        return None
    try:
        return ask()
    except CacheError as error:
        if not store.goes_on_without(error):
            raise
        return None


@contextmanager
def without_cache(tell: Callable[[str], None], what: str) -> Iterator[None]:
    """Go on though the cache cannot be reached, and tell what was left undone: a run is recorded all the same."""
    try:
        yield
    except CacheError as error:
        tell(f"{what}: {error.what}")
