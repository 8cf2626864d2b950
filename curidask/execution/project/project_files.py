"""The project on the workers: which of its files travel, and what they become there.

A worker on this machine, or one that sees the project's folder on a shared disk, imports the project's modules under
the paths that they have here. Elsewhere a worker makes a folder of the run's own with the sources and with the files
that the project names to be shipped, imports from that and runs stages in it, so that a relative path means the same
everywhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from curidask.errors import ClusterError, ConfigurationError
from curidask.execution.project import importer
from curidask.execution.project.importer import ImportedProject
from curidask.execution.project.imports import FRAMEWORK, Imported, is_elsewhere, is_file_elsewhere, is_own_file, scan

# --- what of a script or a project its workers did not get, to be told to whom misses it -----------------------------
_names: dict[str, str] = {}
_modules: dict[str, str] = {}


def set_names(reasons: Mapping[str, str]) -> None:
    """Know why names of the script that is set up are not defined here."""
    _names.clear()
    for name, reason in reasons.items():
        _names[name] = (
            f"the script's {name} was left out when its code was sent to the worker ({reason}): make it inside of the "
            "stage or in a module that the script imports, or run in this process with --parallel 0"
        )


def set_modules(files: Mapping[str, str], root: str) -> None:
    """Know which modules the driver has that did not come with the project."""
    _modules.clear()
    for name, file in files.items():
        _modules[name] = (
            f"{file} lies outside of the project's folder {root}, which is all that travels to workers that do not see "
            "it: move it into the project, install it on the workers, or have curidask.toml in a folder around both"
        )


def what_to_do(error: BaseException) -> str:
    """What to do about a name or a module that did not come; empty for other errors."""
    if isinstance(error, NameError):
        return _names.get(error.name or "", "")
    return _modules.get(error.name or "", "") if isinstance(error, ModuleNotFoundError) else ""


# --- project files ---------------------------------------------------------------------------------------------------
SHIP_BYTES = 256 << 20
"""All files that travel together at most: they pass through the scheduler's memory."""

MADE_NAMES = (b"pkgutil", b"import_module")
"""Sources with one of these may import modules whose names they do not say: their packages travel as a whole."""

RUN_FOLDER = "curidask-run-"


@dataclass(frozen=True, slots=True)
class ProjectCode:
    """A project's code as it travels to workers.

    Attributes
    ----------
    root : str
        The project's folder, on the driver.
    folders : tuple of str
        Where it is imported from, on the driver.
    sources : mapping of str to bytes
        The Python files, by path below the root.
    packages : mapping of str to tuple of str
        Loaded packages without an ``__init__.py``, with their folders on the driver.
    files : mapping of str to (int, bytes)
        The other files that travel, by path below the root, with their modes.
    taken : mapping of str to str
        See `curidask.execution.project.importer.ImportedProject`.
    elsewhere : mapping of str to str
        Modules that do not travel, since they lie in another folder and are not installed, with their files.
    argv : tuple of str
        The arguments of the driver's command.
    """

    root: str
    folders: tuple[str, ...]
    sources: Mapping[str, bytes]
    packages: Mapping[str, tuple[str, ...]]
    files: Mapping[str, tuple[int, bytes]]
    taken: Mapping[str, str]
    elsewhere: Mapping[str, str]
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker is to have the project.

    Attributes
    ----------
    sees_project : bool
        Whether it has the project's folder at the same path.
    is_here : bool
        Whether it was started by the driver, in the driver's folder.
    cache_id : str
        By which it recognises the cache, see `curidask.clusters.preflight`; empty where there is nothing to doubt.
    """

    sees_project: bool
    is_here: bool = False
    cache_id: str = ""


HERE = Place(sees_project=True, is_here=True)


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

    def modules(self) -> list[ModuleType]:
        """The loaded modules that are the project's own, and ``__main__`` where it is a script or a notebook."""
        project = self.project()
        modules = [m for name, m in list(sys.modules.items()) if name != "__main__" and project.owns(m)]
        main = sys.modules.get("__main__")
        return modules if main is None or is_tool(main) else [*modules, main]

    def imported(self) -> Imported:
        """What the loaded modules of the project import; of a notebook, the packages that it holds."""
        modules = self.modules()
        project = self.project()
        starts = [Path(file) for file in map(source_file, modules) if file]

        def read(path: Path) -> bytes:
            return project.source(str(path))

        found = scan(starts, self.root, read, project.taken)
        if any(word in project.sources.get(str(path), b"") for path in found.files for word in MADE_NAMES):
            starts += [path for m in modules if _is_package(m) for path in Path(m.__file__ or "").parent.rglob("*.py")]
            found = scan(starts, self.root, read, project.taken)
        held = [value for module in modules if not source_file(module) for value in vars(module).values()]
        names = {value.__name__.partition(".")[0] for value in held if isinstance(value, ModuleType)}
        own = {module.__name__.partition(".")[0] for module in modules} | sys.stdlib_module_names | {FRAMEWORK}
        return replace(found, packages=dict.fromkeys(names - own, False) | dict(found.packages))

    @contextmanager
    def fixed(self) -> Iterator[None]:
        """Import in this process what modules import later on as it is now, for as long as the block runs."""
        project = self.project()
        self.imported()  # reads it
        project.is_fixed = True
        try:
            yield
        finally:
            project.is_fixed = False

    def code(self, *, with_files: bool) -> ProjectCode:
        """What workers need of the project.

        Parameters
        ----------
        with_files : bool
            For workers that do not see the project's folder.

        Raises
        ------
        ConfigurationError
            For a pattern that leaves the project or matches nothing, and for too many bytes.
        """
        project = self.project()
        modules = self.modules()
        imported = self.imported()  # reads what the modules may import later on
        own = sorted(path for path in project.sources if is_own_file(Path(path), self.root))
        sources = {os.path.relpath(path, self.root): project.sources[path] for path in own}
        files = {os.path.relpath(path, self.root): _with_mode(path) for path in self.shipped()} if with_files else {}
        size = sum(map(len, sources.values())) + sum(len(data) for _, data in files.values())
        if size > SHIP_BYTES:
            raise ConfigurationError(
                f"The files to ship are {size >> 20} MB together; {SHIP_BYTES >> 20} MB are allowed.",
                where="`ship` in the configuration",
                fix="put large data where the workers can read it themselves: an object store, or a shared disk",
            )
        packages = {m.__name__: tuple(m.__path__) for m in modules if not source_file(m) and hasattr(m, "__path__")}
        elsewhere = self._elsewhere(imported.packages) if with_files else {}
        folders, argv = tuple(project.folders), tuple(sys.argv)
        return ProjectCode(str(self.root), folders, sources, packages, files, project.taken, elsewhere, argv)

    def _elsewhere(self, names: Iterable[str]) -> dict[str, str]:
        """What lies in other folders: of the loaded modules, and of those that stages import."""
        loaded = [(name, module) for name, module in list(sys.modules.items()) if not name.startswith("__")]
        found = {name: str(module.__file__) for name, module in loaded if is_elsewhere(module, self.root)}
        for name in names:
            with contextlib.suppress(ImportError, ValueError):
                spec = None if name in sys.modules else find_spec(name)
                if spec is not None and spec.origin and is_file_elsewhere(spec.origin, self.root):
                    found[name] = spec.origin
        return found

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

    def advice(self, error: BaseException | None) -> str:
        """What to do about a file of the project that a worker without its folder misses; empty for other errors."""
        if not isinstance(error, FileNotFoundError) or not isinstance(error.filename, str | os.PathLike):
            return ""
        name = os.fspath(error.filename)
        if RUN_FOLDER in name:
            name = name.partition(RUN_FOLDER)[2].partition(os.sep)[2]
        name = os.path.normpath(name)
        if os.path.isabs(name) or name.startswith(os.pardir) or not (self.root / name).exists():
            return ""
        pattern = f"{name}/**/*" if (self.root / name).is_dir() else name
        return (
            f"workers that do not see the project's folder get what `ship` in the configuration names: add {pattern!r}"
        )

    def project(self) -> ImportedProject:
        """The project that this process imports; a script or a notebook enters it when it first needs workers."""
        found = importer.entered()
        if found is None or found.root != self.root:
            own = [os.path.abspath(entry) for entry in sys.path if is_own_file(Path(entry, "x").absolute(), self.root)]
            found = ImportedProject(self.root, list(dict.fromkeys(own)))
            importer.enter(found)
        return found


def _with_mode(path: Path) -> tuple[int, bytes]:
    return path.stat().st_mode & 0o777, path.read_bytes()


def source_file(module: ModuleType) -> str | None:
    """The file that a module comes from; None for a notebook, and for a package without one."""
    return getattr(module, "__file__", None)


def _is_package(module: ModuleType) -> bool:
    return hasattr(module, "__path__") and source_file(module) is not None


def is_tool(main: ModuleType) -> bool:
    """Whether ``__main__`` is a command rather than a script of the user's."""
    file = source_file(main)
    if file is None:
        return False
    project = importer.entered()
    if project is not None and project.owns(main):
        return False
    return Path(file).parent == Path(sys.executable).parent or Path(file).name == "__main__.py"


# --- on the worker ---------------------------------------------------------------------------------------------------
def enter(code: ProjectCode, place: Place, run: str, scratch: str) -> None:
    """Import from the project as it was when the run began, and stand in its folder.

    Parameters
    ----------
    run : str
        The run's reference.
    scratch : str
        The worker's own folder.

    Raises
    ------
    ClusterError
        When the worker does not have the project's folder as the others do.
    """
    importer.leave()
    set_modules(code.elsewhere, code.root)
    home = code.root if place.sees_project else _run_folder(code, run, scratch)
    if not place.is_here:
        _stand_in(home)
        sys.argv[:] = code.argv
    sources = {os.path.join(home, name): source for name, source in code.sources.items()}
    folders = [moved(folder, code.root, home) for folder in code.folders]
    packages = {name: [moved(place, code.root, home) for place in places] for name, places in code.packages.items()}
    importer.enter(ImportedProject(Path(home), folders, sources, packages, code.root, taken=code.taken))


def _stand_in(home: str) -> None:
    try:
        os.chdir(home)
    except OSError as error:
        raise ClusterError(
            f"The project's folder is not on this worker, as it was on those that were there at the start: {error}",
            fix="give all workers the shared disk, or none",
        ) from error


def _run_folder(code: ProjectCode, run: str, scratch: str) -> str:
    folder = Path(scratch, RUN_FOLDER + run)
    for other in Path(scratch).glob(RUN_FOLDER + "*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, (mode, data) in {**code.files, **{name: (0o644, data) for name, data in code.sources.items()}}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
    return str(folder)


def moved(path: str, old: str, new: str) -> str:
    """A path in the folder `old` as one in `new`."""
    return new + path[len(old) :] if path == old or path.startswith(old + os.sep) else path


def moved_code(code: types.CodeType, old: str, new: str) -> types.CodeType:
    """Code that says it comes from a file in `new` rather than in `old`, with the functions in it."""
    inner = tuple(moved_code(c, old, new) if isinstance(c, types.CodeType) else c for c in code.co_consts)
    return code.replace(co_filename=moved(code.co_filename, old, new), co_consts=inner)
