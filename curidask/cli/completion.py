"""Completion in bash, zsh and fish: names of experiments, parameter modules, sets, stages, and flags.

Nothing of the project is imported, since that may take seconds. Experiments and parameter modules are known from their
files; stages from the decorators in the experiment's file and the project's modules that it imports; sets from the runs
so far, and from names written out in ``get_params()``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from curidask.session.config import Config

SHELLS = ("bash", "zsh", "fish")
COMMANDS = ("experiment", "curidask")
VARIABLE = "_EXPERIMENT_COMPLETE"


# --- the scripts -----------------------------------------------------------------------------------------------------
def script(shell: str) -> str:
    """What a shell has to evaluate so that it completes both commands."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.BadParameter(f"{shell!r} is no shell that is known here")
    parts = []
    for name in COMMANDS:
        made = kind(click.Command(name), {}, name, f"_{name.upper()}_COMPLETE")
        parts.append(made.source_template % made.source_vars())
    return "\n".join(parts)


def answer(run_command: click.Command, subcommands: Mapping[str, click.Command]) -> int:
    """Answer the shell for ``experiment``; the exit code.

    The first word may be an experiment or a subcommand, so which command completes the rest depends on it.
    """
    from click.shell_completion import get_completion_class, shell_complete

    mend_bash()
    instruction = os.environ[VARIABLE]
    kind = get_completion_class(instruction.partition("_")[0])
    command = run_command
    if kind is not None and instruction.endswith("_complete"):
        before, _ = kind(run_command, {}, "experiment", VARIABLE).get_completion_args()
        if before and before[0] in subcommands:
            command = click.Group("experiment", commands=dict(subcommands))
    return shell_complete(command, {"obj": subcommands}, "experiment", VARIABLE, instruction)


def mend_bash() -> None:
    """Let bash insert names with spaces and the like as one word."""
    from click.shell_completion import BashComplete, add_completion_class

    class QuotingBash(BashComplete):
        def format_completion(self, item: CompletionItem) -> str:
            import re

            escaped = re.sub(r"([^\w.,:=/@%+-])", r"\\\1", str(item.value))
            doubled = escaped.replace("\\", "\\\\")  # click's script takes one level away when it reads them
            return f"{item.type},{doubled}"

    add_completion_class(QuotingBash)


# --- what there is ---------------------------------------------------------------------------------------------------
def _items(names: Mapping[str, str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(n, help=text or None) for n, text in names.items() if n.startswith(incomplete)]


def _config() -> Config:
    import warnings

    from curidask.session.config import load_config

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a shell's completion is no place for them
        return load_config()


def experiments(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The project's experiments, and in the first place the subcommands."""
    from curidask.cli import project_names

    names = _silently(lambda: project_names.experiments(_config()), {})
    names |= {name: command.get_short_help_str() for name, command in (ctx.obj or {}).items()}
    return _items(names, incomplete)


def param_modules(_ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The modules that have parameter sets."""
    from curidask.cli import project_names

    return _items(_silently(lambda: project_names.param_modules(_config()), {}), incomplete)


def set_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the experiment's parameter sets."""
    from curidask.cli import project_names

    experiment, modules = ctx.params.get("name"), ctx.params.get("params") or ()
    return _items(_silently(lambda: project_names.sets(_config(), experiment, modules), {}), incomplete)


def stage_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The experiment's stages."""
    from curidask.cli import project_names

    return _items(_silently(lambda: project_names.stages(_config(), ctx.params.get("name")), {}), incomplete)


def folders(_ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete a folder."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def _silently(function: Any, otherwise: dict[str, str]) -> dict[str, str]:
    """Complete nothing rather than print an error into the line that is being typed."""
    from curidask.errors import CuridaskError

    try:
        found: dict[str, str] = function()
    except (CuridaskError, OSError):
        return otherwise
    return found
