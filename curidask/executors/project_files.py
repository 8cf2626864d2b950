"""The project's files on workers that do not have its folder.

Stages run in the project's folder where they can: on this machine, and where the workers see the same folder on a
shared disk. Elsewhere a worker makes a folder of the run's own with the files that the project names to be shipped, and
stages run in that, so that a relative path means the same everywhere. Python files that are imported only inside of
functions travel in the same way; what is imported already goes by value.
"""

from __future__ import annotations

import io
import linecache
import os
import shutil
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from curidask.errors import ClusterError, ConfigurationError
from curidask.executors.imports import FRAMEWORK, Imported, scan

SHIP_BYTES = 256 << 20
"""All shipped files together at most: they pass through the scheduler's memory."""

RUN_FOLDER = "curidask-run-"


@dataclass(frozen=True, slots=True)
class Outfit:
    """What a worker on another machine needs to know of the run, beside its code.

    Attributes
    ----------
    root : str
        The project's folder, on the driver.
    sees_project : bool
        Whether the workers have the same folder.
    cache_id : str
        By which a worker recognises the cache, see `curidask.clusters.checks`.
    sources : mapping of str to str
        The text of the files that the project's modules come from, for tracebacks, where workers do not have them.
    """

    root: str
    sees_project: bool
    cache_id: str
    sources: Mapping[str, str]


# --- on the driver ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ProjectFiles:
    """The files of a project.

    Attributes
    ----------
    root : Path
        Its folder.
    ship : tuple of str
        Patterns, relative to the folder, of data files that stages open.
    """

    root: Path
    ship: tuple[str, ...] = ()

    def imported(self, modules: Sequence[ModuleType]) -> Imported:
        """What the loaded modules of the project import; of a notebook, the packages that it holds."""
        found = scan(map(Path, filter(None, map(source_file, modules))), self.root)
        held = [value for module in modules if not source_file(module) for value in vars(module).values()]
        names = {value.__name__.partition(".")[0] for value in held if isinstance(value, ModuleType)}
        own = {module.__name__.partition(".")[0] for module in modules} | sys.stdlib_module_names | {FRAMEWORK}
        return replace(found, packages=dict.fromkeys(names - own, False) | dict(found.packages))

    def sources(self, modules: Sequence[ModuleType]) -> dict[str, str]:
        """The source text of the loaded modules, by file."""
        return {file: "".join(linecache.getlines(file)) for file in filter(None, map(source_file, modules))}

    def pack(self, modules: Sequence[ModuleType]) -> bytes:
        """The files that travel, as a ZIP archive that is the same for the same files; empty without any.

        Raises
        ------
        ConfigurationError
            For a pattern that leaves the project or matches nothing, and for too many bytes.
        """
        loaded = {Path(file).resolve() for file in filter(None, map(source_file, modules))}
        code = (path for path in self.imported(modules).files if path not in loaded)
        paths = sorted({*self.shipped(), *code})
        size = sum(path.stat().st_size for path in paths)
        if size > SHIP_BYTES:
            raise ConfigurationError(
                f"The files to ship are {size >> 20} MB together; {SHIP_BYTES >> 20} MB are allowed.",
                where="`ship` in the configuration",
                fix="put large data where the workers can read it themselves: an object store, or a shared disk",
            )
        return _archive(self.root, paths) if paths else b""

    def shipped(self) -> Iterator[Path]:
        """The files that the patterns name.

        Raises
        ------
        ConfigurationError
        """
        for pattern in self.ship:
            if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
                raise ConfigurationError(
                    f"The pattern {pattern!r} leads out of the project.",
                    where="`ship` in the configuration",
                    fix=f"write it relative to {self.root}, without ..",
                )
            found = [path for path in self.root.glob(pattern) if path.is_file()]
            if not found:
                raise ConfigurationError(
                    f"No file matches {pattern!r}.",
                    where="`ship` in the configuration",
                    fix=f"correct the pattern (it starts at {self.root}; ** crosses folders), or leave it out",
                )
            yield from found


def source_file(module: ModuleType) -> str | None:
    """The file that a module comes from; None for a notebook."""
    return getattr(module, "__file__", None)


def _archive(root: Path, paths: Iterable[Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix())  # with a fixed time
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (path.stat().st_mode & 0o777) << 16
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


# --- on the worker ---------------------------------------------------------------------------------------------------
_entered: list[str] = []
_lines: list[str] = []


def enter(outfit: Outfit, run: str, files: bytes, scratch: str) -> str:
    """Make the project's folder, or the run's own with the files that travelled, the current one.

    Parameters
    ----------
    outfit : Outfit
    run : str
        The run's reference.
    files : bytes
        See `ProjectFiles.pack`.
    scratch : str
        The worker's own folder.

    Returns
    -------
    str
        The folder.

    Raises
    ------
    ClusterError
        When the worker does not have the project's folder as the others do.
    """
    home = outfit.root if outfit.sees_project else _run_folder(run, files, scratch)
    try:
        os.chdir(home)
    except OSError as error:
        raise ClusterError(
            f"The project's folder is not on this worker, as it was on those that were there at the start: {error}",
            fix="give all workers the shared disk, or none",
        ) from error
    sys.path[:] = [home, *(entry for entry in sys.path if entry not in (home, *_entered))]
    _entered[:] = [home]
    _show_sources({} if outfit.sees_project else outfit.sources)
    return home


def _run_folder(run: str, files: bytes, scratch: str) -> str:
    folder = Path(scratch, RUN_FOLDER + run)
    for other in Path(scratch).glob(RUN_FOLDER + "*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    if files:
        with zipfile.ZipFile(io.BytesIO(files)) as archive:
            archive.extractall(folder)
    return str(folder)


def _show_sources(sources: Mapping[str, str]) -> None:
    """Let tracebacks show lines of files that are not here."""
    for name in _lines:
        linecache.cache.pop(name, None)
    for name, text in sources.items():
        # Without a time, so that linecache does not look for the file and forget the text.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    _lines[:] = sources


def move_constants(objects: Iterable[Any], old: str, new: str) -> None:
    """Let constants of the project's modules that are paths in its folder mean the folder here.

    ``HERE = Path(__file__).parent`` was computed on the driver. The functions of a module share one namespace, so it is
    enough to look into that of each; paths within other objects stay as they are.
    """
    namespaces = {id(f.__globals__): f.__globals__ for value in objects for f in _functions(value)}
    for namespace in namespaces.values():
        for name, value in namespace.items():
            namespace[name] = moved(value, old, new)


def moved(value: Any, old: str, new: str) -> Any:
    """A path in the folder `old` as one in `new`; anything else as it is."""
    if not isinstance(value, str | Path):
        return value
    text = str(value)
    if text != old and not text.startswith(old + os.sep):
        return value
    return type(value)(new + text[len(old) :])


def _functions(value: Any) -> Iterator[FunctionType]:
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, type):
        yield from (member for member in vars(value).values() if isinstance(member, FunctionType))
    elif isinstance(getattr(value, "function", None), FunctionType):  # a StageSpec
        yield value.function
