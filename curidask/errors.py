"""The errors that curidask raises.

Each error says *what* is wrong, *where* (stage, set, field, file) and how to *fix* it. They survive pickling, since
they travel from worker processes, and they keep a builtin base where a caller would naturally catch one.
"""

from __future__ import annotations

from typing import Any

from curidask.core.redaction import hide_secrets


class CuridaskError(Exception):
    """Base of every error that curidask raises on purpose.

    Parameters
    ----------
    what : str
        What is wrong, in one sentence.
    where : str, optional
        The stage, set, field or file it happened at.
    fix : str, optional
        What the user can do about it.

    Attributes
    ----------
    ran_nothing : bool
        Whether an experiment could not begin because of it.
    """

    ran_nothing: bool = False

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(hide_secrets(what))
        self.what = hide_secrets(what)
        self.where = hide_secrets(where)
        self.fix = hide_secrets(fix)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception.__reduce__ would call the class with positional args only; the attributes go through the state.
        return (_rebuild, (type(self), self.what), self.__dict__)


def _rebuild(cls: type[CuridaskError], what: str) -> CuridaskError:
    error = cls.__new__(cls, what)
    Exception.__init__(error, what)
    return error


class UnknownKeywordError(CuridaskError, TypeError):
    """A call has a keyword that is not there."""


class WrongTypeError(CuridaskError, TypeError):
    """An argument of a call is of another type than the call takes."""


# --- parameters ------------------------------------------------------------------------------------------------------
class ParameterError(CuridaskError, ValueError):
    """A parameter set, or what ``get_params()`` returned, cannot be used."""


class UnstableHashError(ParameterError, TypeError):
    """A value has no identity that holds across processes, so no key can be made of it."""


class ParametersChangedError(ParameterError):
    """A parameter set was changed after a record was made of it."""


class ValueChangedError(CuridaskError, ValueError):
    """A value that a stage was called with was changed before the stage ran."""


class SelectionError(ParameterError, LookupError):
    """Names or indices select nothing, or something that is not there."""


# --- stages ----------------------------------------------------------------------------------------------------------
class StageDefinitionError(CuridaskError, TypeError):
    """A stage is declared in a way that cannot work."""


class CachersMismatchError(StageDefinitionError):
    """A stage has another number of cachers than of outputs."""


class EmptyCachersError(StageDefinitionError):
    """A stage with outputs was given an empty list of cachers."""


class InputSignatureError(StageDefinitionError):
    """The inputs a stage declares and the parameters of its function do not match."""


class OutputSignatureError(StageDefinitionError):
    """A stage returned another number of values than it declares outputs."""


class UnsafeNameError(CuridaskError, ValueError):
    """A name that becomes part of a path has separators or leads out of its folder."""


class MissingInputError(CuridaskError, KeyError):
    """A stage needs an artifact that its record's state does not hold."""

    __str__ = CuridaskError.__str__  # KeyError would show the repr of its argument


class UndeclaredInputError(MissingInputError):
    """A stage read something from ``record.state`` that it does not declare as an input."""


class UndeclaredParameterError(ParameterError):
    """A stage read a parameter that its ``params`` does not name."""


class StageAccessError(CuridaskError, AttributeError):
    """A stage asked its record for something that only the session has, which may be on another machine."""

    __str__ = CuridaskError.__str__


class ExecutingWithSkippedInputError(CuridaskError, RuntimeError):
    """A stage was about to run on the placeholder of an output whose stage was skipped."""


# --- execution -------------------------------------------------------------------------------------------------------
class UnpicklableError(CuridaskError, TypeError):
    """A value cannot travel between processes."""


class BoundToSessionError(CuridaskError, TypeError):
    """A manager, a record or its state was to be copied as an object, or sent to another process."""


class ReadOnceError(UnpicklableError):
    """A value that can be read only once (a generator, an open file) could be read by more than one."""


class StageFailedError(CuridaskError, RuntimeError):
    """A stage raised; carries the stage, the set, the worker and the user's own traceback as text.

    Of a stage whose process was killed it carries, as `output`, what it printed last.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        fix: str = "",
        stage: str = "",
        set_name: str = "",
        worker: str = "",
        traceback_text: str = "",
        output: str = "",
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.stage = stage
        self.set_name = set_name
        self.worker = worker
        self.traceback_text = traceback_text
        self.output = output


class TimeIsUp(BaseException):
    """Raised inside a stage that runs longer than its ``timeout_seconds``, so that its ``finally`` blocks run.

    It is no `Exception`, so that ``except Exception`` lets it pass.
    """


class StageTimeoutError(CuridaskError, TimeoutError):
    """A stage ran longer than its ``timeout_seconds``; carries where it was then as text."""

    __str__ = CuridaskError.__str__  # TimeoutError would show errno forms

    def __init__(self, what: str, *, where: str = "", fix: str = "", traceback_text: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.traceback_text = traceback_text


class StageExitError(CuridaskError, RuntimeError):
    """A stage tried to end the process that it runs in."""


class RunFailedError(CuridaskError, RuntimeError):
    """A run ended with failed stages; what had finished is committed.

    Attributes
    ----------
    failures : tuple of StageFailedError
        One for each stage that failed itself (dependents that never ran are not in it).
    """

    def __init__(
        self, what: str, *, where: str = "", fix: str = "", failures: tuple[StageFailedError, ...] = ()
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.failures = failures


class NotDeterministicError(CuridaskError, RuntimeError):
    """Stages gave another output when they were called a second time on the same inputs, or changed those."""


class ClusterError(CuridaskError, RuntimeError):
    """Workers could not be started, reached or kept."""


class DemandError(ClusterError):
    """A stage asks for resources or memory that no worker has."""


class ReportableError(CuridaskError, TypeError):
    """Something that a stage reported cannot be shown."""


# --- storage ---------------------------------------------------------------------------------------------------------
class CacheError(CuridaskError, OSError):
    """The cache cannot be read or written.

    Attributes
    ----------
    kind : str
        For a place in the network, what kind of failure it was: a name in `curidask.store.backends.errors.KINDS`, such
        as ``denied``, ``credentials``, ``bucket`` or ``unreachable``. Empty otherwise.
    """

    kind: str = ""

    __str__ = CuridaskError.__str__  # OSError would show errno forms


class CacherPathError(CacheError, RuntimeError):
    """A cacher was used by itself without a path."""

    __str__ = CuridaskError.__str__


class IncompleteCacherError(CacheError, NotImplementedError):
    """A cacher's class does not define `save` or `load`."""

    __str__ = CuridaskError.__str__


class ObjectMissingError(CacheError, FileNotFoundError):
    """No object of that name is in the store."""

    __str__ = CuridaskError.__str__


class ObjectUnreadableError(ObjectMissingError):
    """An object is there and cannot be read: no permission for it, a fault of the disk."""


class ArtifactMissingError(CacheError):
    """An artifact is not in the store (no manifest, or a payload file is gone)."""

    @property
    def notice(self) -> str:
        """What to tell the user, since the artifact is made again without further ado."""
        return f"{self.trouble} artifact, to be made again: {self.what} ({self.where})"

    @property
    def trouble(self) -> str:
        """What is wrong with it, in one word."""
        return "lost"


class ArtifactDamagedError(ArtifactMissingError):
    """An artifact's manifest or payload is not what was committed; it counts as missing."""

    @property
    def trouble(self) -> str:
        """What is wrong with it, in one word."""
        return "damaged"


class ArtifactRejectedError(ArtifactMissingError):
    """An artifact's cacher says by its `check()` that it is not to be reused; it counts as missing."""

    @property
    def trouble(self) -> str:
        """What is wrong with it, in one word."""
        return "rejected"


class ArtifactMixedError(ArtifactMissingError):
    """Outputs of a stage are of different calls, as when the second one was killed while it stored them.

    Nothing is damaged, so there is nothing to tell; all of them count as missing.
    """

    @property
    def notice(self) -> str:
        """Empty."""
        return ""


class CacherCheckError(CacheError):
    """The `check()` of a cacher raised."""


class ArtifactUntrustedError(ArtifactMissingError):
    """An artifact's manifest is not signed with a key of ours, so nothing of it is loaded; it counts as missing."""

    @property
    def trouble(self) -> str:
        """What is wrong with it, in one word."""
        return "untrusted"


class ArtifactNewerError(CacheError):
    """A later version of curidask stored the artifact: it can be neither read nor replaced."""


# --- project ---------------------------------------------------------------------------------------------------------
class ProjectError(CuridaskError):
    """The project, its configuration or one of its files cannot be used."""


class ConfigurationError(ProjectError, ValueError):
    """A configuration file, variable or flag has a value that cannot be used."""


class ModuleNotThereError(ProjectError, LookupError):
    """No experiment or parameter module of that name."""


class ModuleImportError(ProjectError, ImportError):
    """An experiment or parameter module raised while it was imported; carries the user's traceback as text."""

    __str__ = CuridaskError.__str__

    def __init__(self, what: str, *, where: str = "", fix: str = "", traceback_text: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.traceback_text = traceback_text
