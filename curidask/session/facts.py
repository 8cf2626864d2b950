"""What a session is and where its things lie, as plain attributes of the manager."""

from __future__ import annotations

import ast
import difflib
import importlib.metadata
import importlib.util
import linecache
import os
import platform
import re
import shlex
import socket
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from curidask.core.keywords import CheckedCalls, keywords
from curidask.core.planner import Force
from curidask.errors import ConfigurationError, SelectionError
from curidask.execution.project.imports import FRAMEWORK, is_own_file
from curidask.execution.tracebacks import levels_to_user
from curidask.runs import record as run_records
from curidask.runs.layout import plain_path
from curidask.session import export as run_export
from curidask.session.config import Config
from curidask.staging import DEFINED

if TYPE_CHECKING:
    from curidask.core.graph import Graph
    from curidask.params import ExperimentParameters
    from curidask.record import Record
    from curidask.runs.record import RunRecord
    from curidask.runs.reportables import ReportCollector
    from curidask.session.resolver import ArtifactResolver
    from curidask.session.runner import Runner
    from curidask.session.tracer import Tracer
    from curidask.store.base import Store


STATUSES = {"running": "incomplete", "interrupted": "incomplete", "done": "complete", "failed": "error"}
"""How a run stands, in the words of the documented API."""


def no_such_stage(
    name: str,
    there: Sequence[str],
    are: str = "called so far",
    where: str = "--overwrite-stage, or `overwrite_stages`",
) -> SelectionError:
    """The error for a stage that is named, by default to be overwritten, and not among those that there are."""
    near = difflib.get_close_matches(name, there, n=1)
    return SelectionError(
        f"The experiment has no stage {name!r}.",
        where=where,
        fix=f"did you mean {near[0]!r}?" if near else f"{are}: {', '.join(there) or 'none'}",
    )


def check_loaded_stages(names: Sequence[str], root: Path) -> None:
    """Refuse names of stages to overwrite that no loaded module defines, where none can be defined any more.

    Raises
    ------
    SelectionError
    """
    unknown = [name for name in names if name not in DEFINED]
    if unknown and not may_come_later(root):
        raise no_such_stage(unknown[0], sorted(DEFINED), "there are")


T = TypeVar("T")


class Decided(Generic[T]):
    """An attribute that is decided when the manager is made, since to set it later would be without effect."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, manager: SessionFacts | None, owner: type | None = None) -> T:
        if manager is None:
            raise AttributeError(self._name)
        value: T = vars(manager)[self._name]
        return value

    def __set__(self, manager: SessionFacts, value: T) -> None:
        if self._name in vars(manager):
            raise ConfigurationError(
                f"{self._name!r} cannot be changed: it is decided when the manager is made.",
                where=f"the manager of {manager.experiment_name!r}",
                fix=f"make the manager with it, as in ArtifactManager(..., {self._name}={value!r})",
            )
        vars(manager)[self._name] = value


class SessionFacts(CheckedCalls):
    """The manager's documented attributes that follow from its parts."""

    experiment_name = Decided[str]()
    prefix = Decided[str]()
    dry = Decided[bool]()
    dry_cache = Decided[bool]()

    config: Config
    store: Store
    graph: Graph
    run_record: RunRecord
    records: list[Record]
    runner: Runner
    reader: ArtifactResolver
    reference: str
    full_store: Path | None
    reported: ReportCollector
    live: bool
    _tracer: Tracer

    # --- places ------------------------------------------------------------------------------------------------------
    @property
    def run_folder(self) -> Path:
        """Where the run record and what was reported lie."""
        return self.config.path(self.config.runs) / self.reference

    @property
    def cache_path(self) -> str:
        """Folder or URL of the artifact store."""
        return self.store.url

    @property
    def writable(self) -> bool:
        """Whether anything is stored."""
        return self.store.writable

    @property
    def runs_path(self) -> str:
        """Folder of the run records, and of all that store-full runs keep."""
        return str(self.config.path(self.config.runs))

    @property
    def logs_path(self) -> str:
        """Folder of the logs."""
        return str(self.config.path(self.config.logs))

    @property
    def reports_path(self) -> str:
        """Folder of the reports."""
        return str(self.config.path(self.config.reports))

    @property
    def notebooks_path(self) -> str:
        """Folder of the notebooks that reload runs."""
        return str(self.config.path(self.config.notebooks))

    @property
    def report_css_path(self) -> str:
        """The style sheet of the project's own for reports; empty for none."""
        return str(self.config.path(self.config.report_css)) if self.config.report_css else ""

    @keywords()
    def get_run_output_path(self, obj_name: str | None = None) -> str:
        """The folder of this run, made by now, or a path in it.

        Parameters
        ----------
        obj_name : str, optional
            A file in it; its folder is there then.
        """
        path = self.run_folder / (obj_name or "")
        (path.parent if obj_name else path).mkdir(parents=True, exist_ok=True)
        return str(path)

    @keywords()
    def get_artifact_path(
        self,
        obj_name: str,
        record: Record,
        subdir: str | None = None,
        prefix: str | None = None,
        stage_name: str | None = None,
        store: bool = False,
    ) -> str:
        """The path of a file that belongs to a record, as `Record.get_path` gives it; no folder is made.

        Parameters
        ----------
        obj_name, subdir, prefix, stage_name : str
            See `Record.get_path`.
        store : bool
            The path in the folder of a store-full run.
        """
        stage = stage_name or record.last_stage
        for track in () if store else (True, False):
            if written := record.find_written(obj_name, subdir, prefix, stage, track):
                return written
        return self.plain_path(obj_name, record, subdir, prefix, stage, store)

    def plain_path(
        self,
        obj_name: str,
        record: Record,
        subdir: str | None = None,
        prefix: str | None = None,
        stage_name: str | None = None,
        store: bool = False,
    ) -> str:
        """The path of a file that belongs to a record and is no artifact, arguments as for `get_artifact_path`."""
        if store and self.full_store is not None:
            folder = self.full_store / "files"
        elif self.writable and self.store.local_root is not None:
            folder = self.store.local_root
        else:
            folder = self.reported.folder / "files"
        return plain_path(folder, prefix or self.prefix, record.get_hash(), stage_name, obj_name, subdir)

    @keywords()
    def get_artifact_filename(
        self, obj_name: str, record: Record, prefix: str | None = None, stage_name: str | None = None
    ) -> str:
        """How the name of a file begins that belongs to a record: ``prefix_hash_stage_name``.

        Parameters
        ----------
        obj_name, prefix, stage_name : str
            See `Record.get_path`.
        """
        stage = stage_name or record.last_stage
        return os.path.basename(record.manager.plain_path(obj_name, record, None, prefix, stage))

    # --- the run -----------------------------------------------------------------------------------------------------
    def get_reference_name(self) -> str:
        """The name of this run: experiment, number and time."""
        return self.reference

    @property
    def experiment_run_number(self) -> int:
        """Counts the runs of the experiment."""
        return self.run_record.number

    @property
    def run_timestamp(self) -> datetime:
        """When the run began."""
        return datetime.fromtimestamp(self.run_record.started)

    def get_str_timestamp(self) -> str:
        """When the run began, as in its reference."""
        return self.run_timestamp.strftime(run_records.TIMESTAMP_FORMAT)

    @property
    def hostname(self) -> str:
        """The machine that drives the run."""
        return socket.gethostname()

    @property
    def git_commit_hash(self) -> str:
        """The commit of the project's repository; empty outside of one."""
        return str(self._git.get("commit", ""))

    @property
    def git_workdir_dirty(self) -> bool:
        """Whether the project's repository has changes that are not committed."""
        return bool(self._git.get("changed", False))

    @property
    def _git(self) -> dict[str, Any]:
        if self.run_record.git is None:
            self.run_record.git = run_records.git_state(self.config.root)
        return self.run_record.git

    @property
    def os(self) -> str:
        """Name and version of the operating system."""
        return platform.platform()

    @property
    def pip_freeze(self) -> str:
        """The installed packages, as lines that pip reads."""
        return "\n".join(run_export.requirements())

    @property
    def run_line(self) -> str:
        """The command of the run."""
        return shlex.join(self.run_record.command)

    @property
    def reproduction_line(self) -> str:
        """The command that gives the results again out of the folder of a store-full run; empty for another."""
        return shlex.join(self.run_record.reproduce)

    @property
    def status(self) -> str:
        """How the run stands: ``LIVE`` for a session made by hand; of an experiment incomplete, complete or error."""
        return "LIVE" if self.live else STATUSES[self.run_record.status]

    @property
    def map_mode(self) -> bool:
        """Whether nothing is executed, since only the plan is wanted: values that are not cached cannot be read."""
        return self.reader.map_only

    @property
    def error_thrown(self) -> bool:
        """Whether a stage has failed."""
        return bool(self.runner.failures)

    @property
    def notes(self) -> str:
        """What is kept with the run as its notes; can be set until the session ends."""
        return self.run_record.notes

    @notes.setter
    @keywords()
    def notes(self, text: str | None) -> None:
        self.run_record.notes = (text or "").strip()

    @property
    def store_full(self) -> bool:
        """Whether all that the run uses is kept in its folder."""
        return self.full_store is not None

    @property
    def overwrite(self) -> bool:
        """Whether everything is recomputed; can be set, for the stages that are called from then on.

        In a live session each call of a stage is computed anew then.
        """
        return self.runner.policy.force.everything

    @overwrite.setter
    @keywords()
    def overwrite(self, wanted: bool) -> None:
        self.runner.policy.force = Force(bool(wanted), self.runner.policy.force.stages)

    @property
    def overwrite_stages(self) -> list[str]:
        """The stages that are recomputed; can be set, for those that are called from then on.

        In a live session each call of them is computed anew, and so is what depends on it. Names of which no stage was
        called are warned of: at once where one that was called is nearly named so, all when the session is closed.
        """
        return sorted(self.runner.policy.force.stages)

    @overwrite_stages.setter
    @keywords()
    def overwrite_stages(self, names: Sequence[str] | None) -> None:
        self.runner.policy.force = Force(self.overwrite, frozenset(names or ()))
        for name, there in self._not_called():
            if near := difflib.get_close_matches(name, there, n=1):
                text = f"no stage {name!r} was called so far, so none is overwritten; did you mean {near[0]!r}?"
                warnings.warn(text, stacklevel=levels_to_user())

    def _not_called(self) -> Iterator[tuple[str, list[str]]]:
        """The names of stages to overwrite of which none was called, and those that were."""
        there = list(dict.fromkeys(task.spec.name for task in self.graph)) if self.overwrite_stages else []
        return ((name, there) for name in self.overwrite_stages if name not in there)

    def check_stages_to_overwrite(self) -> None:
        """Refuse names of stages that were neither called nor defined so far, before anything is computed."""
        for name, there in self._not_called():
            if name not in DEFINED:
                raise no_such_stage(name, there)

    def _warn_of_uncalled_stages(self) -> None:
        for name, there in self._not_called():
            near = difflib.get_close_matches(name, there, n=1)
            fix = f"did you mean {near[0]!r}?" if near else f"called were: {', '.join(there) or 'none'}"
            text = f"no stage {name!r} was called, which was to be overwritten; {fix}"
            warnings.warn(text, stacklevel=levels_to_user())

    @property
    def lazy(self) -> bool:
        """Whether every output is lazy; can be set, for the stages that are called from then on."""
        return self._tracer.lazy is True

    @lazy.setter
    @keywords()
    def lazy(self, wanted: bool) -> None:
        self._tracer.lazy = True if wanted else None

    @property
    def ignore_lazy(self) -> bool:
        """Whether no output is lazy; can be set, for the stages that are called from then on."""
        return self._tracer.lazy is False

    @ignore_lazy.setter
    @keywords()
    def ignore_lazy(self, wanted: bool) -> None:
        self._tracer.lazy = False if wanted else None

    def get_all_param_sets(self) -> list[ExperimentParameters]:
        """The parameter sets of the session's records, those of one hash once."""
        found: dict[str, ExperimentParameters] = {}
        for record in self.records:
            if record.params is not None:
                found.setdefault(record.params.params_hash(), record.params)
        return list(found.values())


# --- whether a project could define further stages after its modules were loaded -------------------------------------
# In a function, or by another import.

_MAKERS = ("stage", "aggregate")
_LOADERS = ("import_module", "run_path", "run_module", "exec_module", "reload", "__import__")
_EVALUATORS = ("exec", "eval")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def may_come_later(root: Path) -> bool:
    """Whether a stage may be defined that is not defined yet, as far as the loaded modules tell.

    Those are read that are the project's, in `root`, and others that use curidask. In doubt it is so.
    """
    return any(_may_define(module) for module in list(sys.modules.values()) if _is_read(module, root))


def _is_read(module: ModuleType, root: Path) -> bool:
    name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None)
    if not isinstance(file, str) or name.partition(".")[0] == FRAMEWORK:
        return False
    return is_own_file(file, root) or any(_is_ours(value) for value in list(vars(module).values()))


def _is_ours(value: object) -> bool:
    """Whether it is a module of curidask or one of its decorators; to look into other things may load something."""
    if isinstance(value, ModuleType):
        name = vars(value).get("__name__")
    elif isinstance(value, FunctionType) and value.__name__ in _MAKERS:
        name = value.__module__
    else:
        return False
    return isinstance(name, str) and name.partition(".")[0] == FRAMEWORK


def _may_define(module: ModuleType) -> bool:
    try:
        tree = ast.parse("".join(linecache.getlines(str(module.__file__))))
    except (SyntaxError, ValueError):
        return True
    if not tree.body and not str(module.__file__).endswith("__init__.py"):
        return True  # there is no source
    makers = {*_MAKERS, *_renamed(tree)}
    inside = list(_in_functions(tree))
    imports = [node for node in inside if isinstance(node, ast.Import | ast.ImportFrom)]
    named = (_name(node) for node in inside)
    if any(name in makers or name in _LOADERS for name in named):
        return True
    if any(isinstance(node, ast.Name) and node.id in _EVALUATORS for node in inside):
        return True
    # A decorator that is kept under a name, or handed on, may be used anywhere.
    return any(_name(node) in makers for node in _outside(tree)) or any(
        _brings_stages(module, node) for node in imports
    )


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _renamed(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.asname for alias in node.names if alias.name in _MAKERS and alias.asname)


def _in_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.Lambda):
            for part in node.body if isinstance(node, Function) else [node.body]:
                yield from ast.walk(part)


def _outside(tree: ast.Module) -> Iterator[ast.AST]:
    """What is run when a module is loaded, without decorators."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.ClassDef):
            pending += node.body
        elif not isinstance(node, Function | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def _brings_stages(module: ModuleType, node: ast.Import | ast.ImportFrom) -> bool:
    return any(_has_stages(name) for name in _imported(module, node) if name not in sys.modules)


def _imported(module: ModuleType, node: ast.Import | ast.ImportFrom) -> Iterable[str]:
    """The modules that an import may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    package = module.__package__ or ""
    base = importlib.util.resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
    there = vars(sys.modules[base]) if base in sys.modules else {}
    return [
        str(base),
        *(f"{base}.{alias.name}" for alias in node.names if base in sys.modules and alias.name not in there),
    ]


def _has_stages(name: str) -> bool:
    """Whether a module that is not loaded may define stages: any that is no package of others, or one that needs us."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top == FRAMEWORK:
        return False
    owners = importlib.metadata.packages_distributions().get(top)
    if owners is None:
        return True
    needed = [need for owner in owners for need in importlib.metadata.requires(owner) or ()]
    return any(re.match(rf"{FRAMEWORK}\b", need) for need in needed)
