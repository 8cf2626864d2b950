"""The project's configuration: where its folders are, and its defaults."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from curidask.core.spec import CODE_MODES, resources_problem
from curidask.errors import ConfigurationError
from curidask.store.backends.options import CLIENTS, check_storage_table, options_for

if TYPE_CHECKING:
    from curidask.store.factory import StoreSettings

VERIFY = ("digest", "size", "off")
SHARED = ("auto", "group")
FILES = ("curidask.toml", "pyproject.toml", "curidask_config.json", "curifactory_config.json")
ENVIRONMENT_PREFIX = "CURIDASK_"
WHOLE_NUMBERS = ("parallel", "lease_seconds")
MAY_BE_EMPTY = frozenset({"report_css", "cache_mode", "cache_key_file", "near_cache", "near_cache_size"})
NOT_SETTINGS = frozenset({"announce", "cache_key"})
"""Variables with our prefix that are no settings: a secret does not belong into a configuration file."""

RUN_ARTIFACTS = "artifacts"
"""Where the folder of a store-full run holds its artifacts."""

OLD_NAMES = {
    "experiments_module_name": "experiments",
    "params_module_name": "params",
    "cache_path": "cache",
    "runs_path": "runs",
    "logs_path": "logs",
    "reports_path": "reports",
    "report_css_path": "report_css",
    "notebooks_path": "notebooks",
}
"""Keys of the JSON configuration of older projects."""

WITHOUT_MEANING = ("manager_cache_path",)
"""Old keys of places for which there is no setting: what lay there is kept with the runs."""


@dataclass(frozen=True, slots=True)
class Config:
    """What holds for a project.

    Attributes
    ----------
    root : Path
        The project's folder; relative paths start here.
    experiments, params : str
        Folders of the experiment and parameter modules, within the project.
    cache : str
        Folder or URL of the artifact store; several, with commas between them, are tiers, the fastest first. In a file
        also a list.
    cache_mode : str
        What the tiers are used for, ``rw``, ``ro`` or ``off``: one for all, or one for each with commas between them.
    cache_key_file : str
        A file with the keys that sign artifacts, one a line, where ``CURIDASK_CACHE_KEY`` is not set.
    near_cache : str
        Folder on each worker's own disk for what is downloaded; by default one in the system's temporary folder.
    near_cache_size : str
        What it may hold, as in ``20GB``.
    runs, logs, reports, notebooks : str
        Folders for run records, logs, reports and the notebooks of runs.
    report_css : str
        A style sheet of the project's own that comes after the built-in one in reports; empty for a ``style.css``
        among the reports, where there is one.
    parallel : int or None
        Worker processes (0: in this process); None for as many as cores.
    shared : str
        Who may use what is made in a cache that is a folder: ``group`` for the folder's group as much as who made it,
        ``auto`` for that where the folder is one for its group to work in (writable for it, and set-group-id).
    lease_seconds : int
        How long the claim of a process that has died keeps others waiting; 0 for no claims.
    code : str
        Whether an edit of a stage's code makes other artifacts of what it computes: ``track``; ``warn`` to be told
        instead, ``ignore`` for neither.
    verify : str
        What is checked before an artifact is loaded: ``digest``, ``size`` or ``off``.
    object_client : str
        What reaches a cache in the network: ``fsspec``, ``obstore`` or ``auto``.
    storage : dict
        How it is reached; see `curidask.store.backends.options.StorageOptions`. Tables in it, named by the beginnings
        of addresses, hold for these.
    cluster : mapping
        Tables of named clusters, see `curidask.clusters.ClusterSettings`.
    default_cluster : str
        The cluster, by name or address, to use when none is chosen; empty for processes on this machine.
    resources : mapping of str to number
        What each local worker process has of what stages may ask for, such as GPUs.
    ship : tuple of str
        Patterns of data files that go to workers which do not have the project's folder.
    source : str
        The file it was read from, empty for the defaults.
    """

    root: Path
    experiments: str = "experiments"
    params: str = "params"
    cache: str = "data/cache"
    cache_mode: str = ""
    cache_key_file: str = ""
    near_cache: str = ""
    near_cache_size: str = ""
    runs: str = "data/runs"
    logs: str = "logs"
    reports: str = "reports"
    report_css: str = ""
    notebooks: str = "notebooks/experiments"
    parallel: int | None = None
    shared: str = "auto"
    lease_seconds: int = 60
    code: str = "track"
    verify: str = "digest"
    object_client: str = "auto"
    storage: Mapping[str, Any] = field(default_factory=dict, repr=False)
    cluster: Mapping[str, Any] = field(default_factory=dict)
    default_cluster: str = ""
    resources: Mapping[str, float] = field(default_factory=dict)
    ship: tuple[str, ...] = ()
    source: str = ""

    def path(self, relative: str) -> Path:
        """A path of the project."""
        return self.root / Path(relative).expanduser()

    def with_paths(self, **given: str | Path | None) -> Config:
        """The configuration with some folders instead of its own; None leaves one as it is."""
        paths = {name: os.fspath(path) for name, path in given.items() if path is not None}
        return replace(self, **_checked(paths, "the manager's arguments")) if paths else self

    def cache_url(self, chosen: str | None = None) -> str:
        """The cache as an absolute folder or a URL; of the folder of a store-full run, its artifacts."""
        cache = chosen or self.cache
        if "://" in cache:
            return cache
        return str(self.path(cache) / RUN_ARTIFACTS if self.is_run_folder(cache) else self.path(cache))

    def is_run_folder(self, cache: str) -> bool:
        """Whether a chosen cache is the folder of a store-full run: it has a run record and artifacts."""
        if "://" in cache:
            return False
        folder = self.path(cache)
        return os.path.isfile(folder / "run.json") and os.path.isdir(folder / RUN_ARTIFACTS)

    def storage_options(self, url: str) -> dict[str, Any]:
        """How `curidask.store.backends.base.open_objects` uses a place: a URL how it is reached, a folder by whom."""
        if url.partition("://")[0] in ("file", "local") or "://" not in url:
            return {"shared": self.shared} if self.shared != "auto" else {}
        return {"client": self.object_client, **options_for(url, self.storage)}

    def cache_urls(self, chosen: str | None = None) -> list[str]:
        """The tiers of the cache, each as an absolute folder or a URL; see `cache`."""
        from curidask.store.factory import split_tiers

        return [self.cache_url(place) for place in split_tiers(chosen or self.cache)]

    def store_settings(self, mode: str | None = None) -> StoreSettings:
        """What holds for the stores of the cache.

        Parameters
        ----------
        mode : str, optional
            Instead of `cache_mode`.
        """
        from curidask.core.units import parse_size
        from curidask.store.disk_cache.near import NearSettings
        from curidask.store.factory import StoreSettings

        size = parse_size(self.near_cache_size, "near_cache_size") if self.near_cache_size else None
        near = NearSettings(str(self.path(self.near_cache)) if self.near_cache else "", size)
        key_file = str(self.path(self.cache_key_file)) if self.cache_key_file else ""
        mode = self.cache_mode if mode is None else mode
        return StoreSettings(self.verify, mode, near, key_file, self.storage_options)


TABLES = frozenset({"cluster", "resources", "ship"})
"""Settings that only a file can have."""

SETTINGS = {f.name: f for f in dataclasses.fields(Config) if f.name not in ("root", "source")}


def find_root(start: Path) -> Path:
    """The nearest folder upwards that has a configuration, else the start itself."""
    for folder in (start, *start.parents):
        if any(configures(folder / name) for name in FILES):
            return folder
    return start


def load_config(start: Path | None = None, env: Mapping[str, str] | None = None) -> Config:
    """Read the configuration that holds for a folder.

    Parameters
    ----------
    start : Path, optional
        Where to look from, upwards; the current folder by default.
    env : mapping, optional
        Variables ``CURIDASK_CACHE`` and so on, which win over the file; ``os.environ`` by default. An empty one counts
        as not set.

    Raises
    ------
    ConfigurationError
        Naming the file or variable, and the setting.

    Warns
    -----
    UserWarning
        For a variable that looks like a misspelt setting. Others with our prefix are left alone.
    """
    root = find_root((start or Path.cwd()).resolve())
    config = Config(root)
    for name in FILES:
        path = root / name
        if configures(path):
            config = replace(config, **_checked(_with_tiers(_read(path), str(path)), str(path)), source=str(path))
            break
    for variable, key, value in _variables(os.environ if env is None else env):
        config = replace(config, **_checked({key: value}, f"the environment variable {variable}"))
    return config


# --- the environment -------------------------------------------------------------------------------------------------
def _variables(env: Mapping[str, str]) -> Iterator[tuple[str, str, Any]]:
    """Those that are settings, with the setting's name and the value as its type."""
    for variable, text in env.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or not text:
            continue
        key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if key in SETTINGS and key not in TABLES:
            yield variable, key, _parsed(key, text)
        elif key not in NOT_SETTINGS:
            near = difflib.get_close_matches(key, SETTINGS.keys() - TABLES, n=1, cutoff=0.75)
            if near:
                meant = ENVIRONMENT_PREFIX + near[0].upper()
                warnings.warn(f"the variable {variable} is ignored; did you mean {meant}?", stacklevel=3)


def _parsed(key: str, text: str) -> Any:
    return int(text) if key in WHOLE_NUMBERS and re.fullmatch(r"\s*-?\d+\s*", text, re.ASCII) else text


# --- files -----------------------------------------------------------------------------------------------------------
def configures(path: Path) -> bool:
    """Whether a file of one of the names in `FILES` is there and meant for us."""
    if not path.is_file():
        return False
    if path.name != "pyproject.toml":
        return True
    text = path.read_text(encoding="utf-8", errors="replace")
    if "curidask" not in text:
        return False
    import tomllib

    try:
        return "curidask" in tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError:
        # Not passed over in silence when it is meant for us: reading it says what is wrong.
        return re.search(r"^\s*\[\s*tool\s*\.\s*curidask\s*[].]", text, re.MULTILINE) is not None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return _from_json(text, path)
        import tomllib

        content = tomllib.loads(text)
    except ConfigurationError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The configuration cannot be read: {error}", where=str(path), fix="correct the file, or remove it"
        ) from error
    if path.name == "pyproject.toml":
        content = content["tool"]["curidask"]
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"The configuration is {content!r}.", where=str(path), fix="write settings as `name = value` in a table"
        )
    return dict(content)


def _from_json(text: str, path: Path) -> dict[str, Any]:
    """Settings by their own or their old names; what else is in the file was meant for another tool."""
    import json

    content = json.loads(text)
    if not isinstance(content, dict):
        raise ConfigurationError(
            "The configuration is no JSON object.", where=str(path), fix='write {"cache_path": "data/cache"}'
        )
    values = {}
    for key, value in content.items():
        name = OLD_NAMES.get(key, key)
        if key in WITHOUT_MEANING:
            continue
        if name in SETTINGS:
            values[name] = _modern(key, value)
        elif near := difflib.get_close_matches(key, [*OLD_NAMES, *WITHOUT_MEANING, *SETTINGS], n=1, cutoff=0.85):
            raise ConfigurationError(f"There is no setting {key!r}.", where=str(path), fix=f"did you mean {near[0]!r}?")
    return values


def _modern(key: str, value: Any) -> Any:
    """The value of an old key as the setting means it."""
    if not isinstance(value, str):
        return value
    if key in ("experiments_module_name", "params_module_name"):
        return value.replace(".", "/")
    return str(PurePosixPath(value) / "experiments") if key == "notebooks_path" else value


# --- checking --------------------------------------------------------------------------------------------------------
def _with_tiers(values: dict[str, Any], source: str) -> dict[str, Any]:
    """The settings with a list of tiers as one text."""
    places = values.get("cache")
    if not isinstance(places, list):
        return values
    if not places or not all(isinstance(place, str) and place and "," not in place for place in places):
        raise ConfigurationError(
            f"The setting 'cache' is {places!r}.",
            where=source,
            fix='list folders and URLs in quotes, the fastest first, as in ["data/cache", "s3://bucket/team"]',
        )
    return {**values, "cache": ",".join(places)}


def _checked(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    for key, value in values.items():
        if key not in SETTINGS:
            near = difflib.get_close_matches(key, SETTINGS, n=1)
            raise ConfigurationError(
                f"There is no setting {key!r}.",
                where=source,
                fix=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(SETTINGS)}",
            )
        if key == "storage":
            _check_storage(value, source)
            continue
        fix = problem(key, value)
        if fix:
            raise ConfigurationError(f"The setting {key!r} is {value!r}.", where=source, fix=fix)
    return {key: tuple(value) if key == "ship" else value for key, value in values.items()}


def problem(key: str, value: Any) -> str:
    """What to write instead of a value that cannot be used; empty for one that can."""
    choices = {"verify": VERIFY, "object_client": CLIENTS, "shared": SHARED, "code": CODE_MODES}.get(key)
    if choices is not None:
        return "" if value in choices else f"use one of {', '.join(choices)}"
    if key in WHOLE_NUMBERS:
        return "" if type(value) is int and value >= 0 else "give a whole number from 0 on"
    if key == "cluster":
        fix = "write tables [cluster.NAME]; `default_cluster` chooses one of them"
        return "" if isinstance(value, Mapping) else fix
    if key == "resources":
        return resources_problem(value)
    if key == "ship":
        fits = isinstance(value, list) and all(isinstance(pattern, str) and pattern for pattern in value)
        return "" if fits else 'give a list of patterns, such as ["project/*.json"]'
    if not isinstance(value, str) or (not value and key not in MAY_BE_EMPTY):
        return "give a text in quotes"
    if key in ("experiments", "params") and not _is_package(value):
        return "give a folder within the project, such as 'experiments' or 'src/experiments'"
    return ""


def _is_package(folder: str) -> bool:
    parts = PurePosixPath(folder).parts
    return bool(parts) and not any(part == "/" or "." in part for part in parts)


def _check_storage(value: Any, source: str) -> None:
    if not isinstance(value, Mapping):
        fix = "write a table of options: [tool.curidask.storage], or [storage] in curidask.toml"
        raise ConfigurationError(f"The setting 'storage' is {value!r}.", where=source, fix=fix)
    check_storage_table(value, f"{source}, [storage]")
