"""Configuration: where it is looked for, what wins, and what a mistake in it gets."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from curidask.errors import ConfigurationError
from curidask.session.config import SETTINGS, TABLES, Config, find_root, load_config


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def read(folder: Path, **env: str) -> Config:
    return load_config(folder, {f"CURIDASK_{key.upper()}": value for key, value in env.items()})


# --- where it is -----------------------------------------------------------------------------------------------------
def test_without_a_file_the_defaults_hold_where_one_stands(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert config == Config(tmp_path.resolve())
    assert config.path("x/y") == tmp_path.resolve() / "x" / "y"


def test_the_nearest_folder_upwards_that_has_one_is_the_root(tmp_path: Path) -> None:
    write(tmp_path, "curidask.toml", 'cache = "outer"')
    write(tmp_path / "a", "curidask.toml", 'cache = "inner"')
    below = tmp_path / "a" / "b" / "c"
    below.mkdir(parents=True)
    assert read(below).cache_url() == str(tmp_path.resolve() / "a" / "inner")
    assert find_root(tmp_path / "a") == tmp_path / "a"


def test_a_pyproject_counts_only_with_our_table(tmp_path: Path) -> None:
    write(tmp_path, "curidask.toml", 'logs = "outer"')
    inner = tmp_path / "inner"
    for text in (
        '[project]\nname = "x"\ndependencies = ["curidask"]',
        '# [tool.curidask]\n[tool.other]\nx = "[tool.curidask]"',
        '[tool.curidask-plugin]\ncache = "x"',
    ):
        write(inner, "pyproject.toml", text)
        assert read(inner).logs == "outer", text
    for text in (
        '[tool.curidask]\nlogs = "mine"',
        '[tool]\ncuridask.logs = "mine"',
        '[ tool . curidask ]\nlogs="mine"',
    ):
        write(inner, "pyproject.toml", text)
        assert read(inner).logs == "mine", text
        assert read(inner).source == str(inner.resolve() / "pyproject.toml")


def test_which_file_holds_when_there_are_several(tmp_path: Path) -> None:
    write(tmp_path, "curifactory_config.json", '{"cache_path": "older"}')
    assert read(tmp_path).cache == "older"
    write(tmp_path, "curidask_config.json", '{"cache_path": "json"}')
    assert read(tmp_path).cache == "json"
    write(tmp_path, "pyproject.toml", '[tool.curidask]\ncache = "pyproject"')
    assert read(tmp_path).cache == "pyproject"
    write(tmp_path, "curidask.toml", 'cache = "own"')
    assert read(tmp_path).cache == "own"


# --- files of older projects -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["curifactory_config.json", "curidask_config.json"])
def test_all_keys_of_an_older_project(tmp_path: Path, name: str) -> None:
    content = {
        "experiments_module_name": "project.experiments",
        "params_module_name": "project.params",
        "manager_cache_path": "d",
        "cache_path": "d/cache",
        "runs_path": "d/runs",
        "logs_path": "d/logs",
        "notebooks_path": "d/notebooks",
        "reports_path": "d/reports",
        "report_css_path": "d/style.css",
        "something_of_another_tool": [1, 2],
    }
    write(tmp_path, name, json.dumps(content))
    config = read(tmp_path)
    assert (config.experiments, config.params) == ("project/experiments", "project/params")
    assert (config.cache, config.runs, config.logs) == ("d/cache", "d/runs", "d/logs")
    assert (config.notebooks, config.reports, config.report_css) == (
        "d/notebooks/experiments",
        "d/reports",
        "d/style.css",
    )


def test_the_old_place_of_registries_is_not_the_artifact_cache(tmp_path: Path) -> None:
    write(tmp_path, "curifactory_config.json", '{"manager_cache_path": "elsewhere"}')
    assert read(tmp_path).cache == "data/cache"


def test_json_takes_the_settings_own_names_too(tmp_path: Path) -> None:
    write(tmp_path, "curidask_config.json", '{"parallel": 3, "verify": "size"}')
    assert (read(tmp_path).parallel, read(tmp_path).verify) == (3, "size")


# --- the environment -------------------------------------------------------------------------------------------------
def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    write(tmp_path, "curidask.toml", 'cache = "file"\nparallel = 3\nlogs = "l"')
    config = read(tmp_path, cache="s3://bucket/path", parallel=" 5 ")
    assert (config.cache_url(), config.parallel, config.logs) == ("s3://bucket/path", 5, "l")


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    write(tmp_path, "curidask.toml", 'cache = "file"\nparallel = 3')
    assert (read(tmp_path, cache="", parallel="").cache, read(tmp_path, parallel="").parallel) == ("file", 3)


@pytest.mark.parametrize("value", ["two", "-1", "1.5", "0x2", "٣"])
def test_a_variable_of_another_type_is_an_error_that_names_it(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, parallel=value)
    assert "CURIDASK_PARALLEL" in caught.value.where
    assert "whole number" in caught.value.fix


def test_a_misspelt_variable_is_warned_of_and_others_are_left_alone(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"CURIDASK_CAHCE is ignored; did you mean CURIDASK_CACHE"):
        assert read(tmp_path, cahce="x").cache == "data/cache"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path, cache_key="secret", test_number="3", home="/x")


def test_each_setting_has_its_variable(tmp_path: Path) -> None:
    numbers = {"parallel": "2", "lease_seconds": "20"}
    choices = {"verify": "off", "object_client": "fsspec", "shared": "group", "code": "warn"}
    plain = [name for name in SETTINGS if name not in TABLES | {"storage"}]
    values = {name: f"some/{name}" for name in plain} | numbers | choices
    config = read(tmp_path, **values)
    assert {name: str(getattr(config, name)) for name in values} == values


# --- mistakes --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ('cahce = "x"', "no setting 'cahce'", "did you mean 'cache'"),
        ('zzz = "x"', "no setting 'zzz'", "use one of: experiments"),
        ("cache = 3", "'cache' is 3", "text in quotes"),
        ('cache = ""', "'cache' is ''", "text in quotes"),
        ("parallel = true", "'parallel' is True", "whole number"),
        ("parallel = -2", "'parallel' is -2", "whole number"),
        ('parallel = "2"', "'parallel' is '2'", "whole number"),
        ('verify = "md5"', "'verify' is 'md5'", "digest, size, off"),
        ('experiments = "../other"', "'experiments' is '../other'", "within the project"),
        ('experiments = "/abs"', "'experiments' is '/abs'", "within the project"),
        ('params = "."', "'params' is '.'", "within the project"),
        ('params = "v1.2"', "'params' is 'v1.2'", "within the project"),
        ("[cache]\nurl = 3", "'cache' is {'url': 3}", "text in quotes"),
    ],
)
@pytest.mark.parametrize("name", ["curidask.toml", "pyproject.toml"])
def test_a_setting_that_cannot_be_used(tmp_path: Path, name: str, text: str, what: str, fix: str) -> None:
    if name == "pyproject.toml":
        text = "[tool.curidask]\n" + text.replace("[cache]", "[tool.curidask.cache]")
    path = write(tmp_path, name, text)
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path)
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert caught.value.where == str(path.resolve())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("curidask.toml", "cache = "),
        ("curidask.toml", b"\xff\xfe"),
        ("pyproject.toml", "[tool.curidask]\ncache = "),
        ("pyproject.toml", "[tool]\ncuridask = 3"),
        ("curidask_config.json", "{"),
        ("curidask_config.json", "[]"),
        ("curidask_config.json", '{"manager_cache_pth": "x"}'),
        ("curidask_config.json", '{"runs_path": 3}'),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str | bytes) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path)
    assert caught.value.where == str(path.resolve())
    assert caught.value.fix


# --- caches ----------------------------------------------------------------------------------------------------------
def test_a_cache_may_be_the_folder_of_a_run(tmp_path: Path) -> None:
    config = read(tmp_path)
    write(tmp_path / "runs" / "demo_1", "run.json", "{}")
    assert config.cache_url("runs/demo_1") == str(tmp_path.resolve() / "runs" / "demo_1")
    (tmp_path / "runs" / "demo_1" / "artifacts").mkdir()
    assert config.is_run_folder("runs/demo_1")
    assert config.cache_url("runs/demo_1") == str(tmp_path.resolve() / "runs" / "demo_1" / "artifacts")


def test_a_home_folder_in_a_path(tmp_path: Path) -> None:
    assert read(tmp_path, cache="~/cache").cache_url() == str(Path("~/cache").expanduser())
