"""The project's configuration: where its folders are, and its defaults."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from curidask.errors import ConfigurationError

VERIFY = ("digest", "size", "off")
FILES = ("curidask.toml", "pyproject.toml", "curidask_config.json", "curifactory_config.json")
ENVIRONMENT_PREFIX = "CURIDASK_"

OLD_NAMES = {
    "experiments_module_name": "experiments",
    "params_module_name": "params",
    "manager_cache_path": "cache",
    "cache_path": "cache",
    "runs_path": "runs",
    "logs_path": "logs",
    "reports_path": "reports",
    "notebooks_path": "notebooks",
}
"""Keys of the JSON configuration of older projects."""


@dataclass(frozen=True, slots=True)
class Config:
    """What holds for a project.

    Attributes
    ----------
    root : Path
        The project's folder; relative paths start here.
    experiments, params : str
        Folders of the experiment and parameter modules.
    cache : str
        Folder or URL of the artifact store.
    runs, logs, reports, notebooks : str
        Folders for run records, logs, reports and notebooks.
    parallel : int or None
        Worker processes (0: in this process); None for as many as cores.
    verify : str
        What is checked before an artifact is loaded: ``digest``, ``size`` or ``off``.
    cluster : mapping
        Tables of named clusters, see `curidask.clusters.ClusterSettings`.
    default_cluster : str
        The cluster, by name or address, to use when none is chosen; empty for processes on this machine.
    ship : tuple of str
        Patterns of data files that go to workers which do not have the project's folder.
    source : str
        The file it was read from, empty for the defaults.
    """

    root: Path
    experiments: str = "experiments"
    params: str = "params"
    cache: str = "data/cache"
    runs: str = "data/runs"
    logs: str = "logs"
    reports: str = "reports"
    notebooks: str = "notebooks/experiments"
    parallel: int | None = None
    verify: str = "digest"
    cluster: Mapping[str, Any] = field(default_factory=dict)
    default_cluster: str = ""
    ship: tuple[str, ...] = ()
    source: str = ""

    def path(self, relative: str) -> Path:
        """A path of the project."""
        return self.root / Path(relative).expanduser()

    def cache_url(self, chosen: str | None = None) -> str:
        """The cache as an absolute folder or a URL."""
        cache = chosen or self.cache
        return cache if "://" in cache else str(self.path(cache))


SETTINGS = {f.name: f for f in dataclasses.fields(Config) if f.name not in ("root", "source")}


def find_root(start: Path) -> Path:
    """The nearest folder upwards that has a configuration, else the start itself."""
    for folder in (start, *start.parents):
        if any(_configures(folder / name) for name in FILES):
            return folder
    return start


def load_config(start: Path | None = None, env: Mapping[str, str] | None = None) -> Config:
    """Read the configuration that holds for a folder.

    Parameters
    ----------
    start : Path, optional
        Where to look from, upwards; the current folder by default.
    env : mapping, optional
        Variables ``CURIDASK_CACHE`` and so on, which win over the file; ``os.environ`` by default.

    Raises
    ------
    ConfigurationError
        Naming file and key.
    """
    root = find_root((start or Path.cwd()).resolve())
    config = Config(root)
    for name in FILES:
        path = root / name
        if _configures(path):
            config = replace(config, **_checked(_read(path), str(path)), source=str(path))
            break
    variables = {
        key.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for key, value in (os.environ if env is None else env).items()
        if key.startswith(ENVIRONMENT_PREFIX)
    }
    known = {key: _parsed(key, value) for key, value in variables.items() if key in SETTINGS and key != "ship"}
    return replace(config, **_checked(known, "the environment (CURIDASK_…)"))


def _configures(path: Path) -> bool:
    if not path.is_file():
        return False
    return path.name != "pyproject.toml" or "[tool.curidask" in path.read_text(encoding="utf-8", errors="replace")


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            import json

            content = json.loads(text)
            return {OLD_NAMES[key]: value for key, value in content.items() if key in OLD_NAMES}
        import tomllib

        content = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The configuration cannot be read: {error}", where=str(path)) from error
    if path.name == "pyproject.toml":
        content = content.get("tool", {}).get("curidask", {})
    return dict(content)


def _checked(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    for key, value in values.items():
        if key not in SETTINGS:
            near = difflib.get_close_matches(key, SETTINGS, n=1)
            raise ConfigurationError(
                f"There is no setting {key!r}.",
                where=source,
                fix=f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(SETTINGS)}",
            )
        if key == "verify":
            fits, fix = value in VERIFY, f"use one of {', '.join(VERIFY)}"
        elif key == "parallel":
            fits, fix = type(value) is int and value >= 0, "give a whole number from 0 on"
        elif key == "cluster":
            fits, fix = isinstance(value, Mapping), "write tables [cluster.NAME]; `default_cluster` chooses one of them"
        elif key == "ship":
            fits = isinstance(value, list) and all(isinstance(pattern, str) and pattern for pattern in value)
            fix = 'give a list of patterns, such as ["project/*.json"]'
        else:
            fits, fix = isinstance(value, str) and value != "", "give a text in quotes"
        if not fits:
            raise ConfigurationError(f"The setting {key!r} is {value!r}.", where=source, fix=fix)
    return {key: tuple(value) if key == "ship" else value for key, value in values.items()}


def _parsed(key: str, value: str) -> Any:
    return int(value) if key == "parallel" and value.lstrip("-").isdigit() else value
