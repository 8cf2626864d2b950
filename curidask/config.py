"""The project's configuration: where its folders are, and its defaults."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curidask.errors import ConfigurationError

if TYPE_CHECKING:
    from curidask.store.opening import StoreSettings

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
        Folders for run records, logs, reports and notebooks.
    parallel : int or None
        Worker processes (0: in this process); None for as many as cores.
    verify : str
        What is checked before an artifact is loaded: ``digest``, ``size`` or ``off``.
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
    notebooks: str = "notebooks/experiments"
    parallel: int | None = None
    verify: str = "digest"
    source: str = ""

    def path(self, relative: str) -> Path:
        """A path of the project."""
        return self.root / Path(relative).expanduser()

    def cache_url(self, chosen: str | None = None) -> str:
        """The cache as an absolute folder or a URL."""
        cache = chosen or self.cache
        return cache if "://" in cache else str(self.path(cache))

    def cache_urls(self, chosen: str | None = None) -> list[str]:
        """The tiers of the cache, each as an absolute folder or a URL; see `cache`."""
        from curidask.store.opening import split_tiers

        return [self.cache_url(place) for place in split_tiers(chosen or self.cache)]

    def store_settings(self, mode: str | None = None) -> StoreSettings:
        """What holds for the stores of the cache.

        Parameters
        ----------
        mode : str, optional
            Instead of `cache_mode`.
        """
        from curidask.store.near import NearSettings
        from curidask.store.opening import StoreSettings
        from curidask.store.units import parse_size

        size = parse_size(self.near_cache_size, "near_cache_size") if self.near_cache_size else None
        near = NearSettings(str(self.path(self.near_cache)) if self.near_cache else "", size)
        key_file = str(self.path(self.cache_key_file)) if self.cache_key_file else ""
        return StoreSettings(self.verify, self.cache_mode if mode is None else mode, near, key_file)


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
            config = replace(config, **_checked(_with_tiers(_read(path), str(path)), str(path)), source=str(path))
            break
    variables = {
        key.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for key, value in (os.environ if env is None else env).items()
        if key.startswith(ENVIRONMENT_PREFIX)
    }
    known = {key: _parsed(key, value) for key, value in variables.items() if key in SETTINGS}
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
        if key == "verify":
            fits, fix = value in VERIFY, f"use one of {', '.join(VERIFY)}"
        elif key == "parallel":
            fits, fix = type(value) is int and value >= 0, "give a whole number from 0 on"
        else:
            fits, fix = isinstance(value, str) and value != "", "give a text in quotes"
        if not fits:
            raise ConfigurationError(f"The setting {key!r} is {value!r}.", where=source, fix=fix)
    return dict(values)


def _parsed(key: str, value: str) -> Any:
    return int(value) if key == "parallel" and value.lstrip("-").isdigit() else value
