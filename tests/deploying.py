"""What the tests of deploy/ share: tools, the real command lines as parsers, the names that dask and curidask know."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import distributed
import yaml

from curidask.cli.commands import cli
from curidask.cli.run import run_command
from curidask.session.config import load_config

TOOLS = Path(sys.executable).parent


def tool(name: str, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of the tests' environment."""
    command = [TOOLS / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=cwd, check=False)


def parse(words: list[str]) -> None:
    """Let the real command line parse a command, without running it."""
    from distributed.cli import dask_scheduler, dask_worker

    program, *rest = words
    command: click.Command = {
        "dask": click.Group("dask", {"scheduler": dask_scheduler.main, "worker": dask_worker.main}),
        "experiment": run_command,
        "curidask": cli,
    }[program]
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, rest[0])
        assert found is not None, f"{program} has no command {rest[0]}"
        command, rest = found, rest[1:]
    if rest in (["ls"], ["--help"]):
        return
    context = command.make_context(program, rest)
    assert not context.params.get("preload_argv"), "dask takes what it does not know for arguments of a preload"


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths of a nested mapping's values, with dots."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def known_to_dask() -> set[str]:
    """The names of distributed's settings, with dots."""
    return set(leaves(yaml.safe_load(Path(distributed.__file__).with_name("distributed.yaml").read_text())))


def check_environment(variables: dict[str, Any], where: str) -> None:
    """What is set for dask and curidask exists there."""
    names = {name.replace("-", "_").upper() for name in known_to_dask()} | {"SCHEDULER_ADDRESS"}
    for variable in variables:
        if variable.startswith("DASK_") and variable != "DASK_WORKER_NAME":
            assert variable.removeprefix("DASK_").replace("__", ".") in names, f"{where}: {variable}"
    load_config(env={k: v for k, v in variables.items() if k.startswith("CURIDASK_")})
    known = {"CURIDASK_CACHE", "CURIDASK_RUNS", "CURIDASK_LOGS", "CURIDASK_REPORTS"}
    assert {v for v in variables if v.startswith("CURIDASK_")} <= known, where
