"""The commands ``experiment`` and ``curidask``."""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Run ``experiment`` with the arguments of this process, for scripts that start experiments from an editor."""
    _run("run")


def curidask_main() -> None:
    """Run ``curidask`` with the arguments of this process."""
    _run("commands")


def _run(command: str) -> None:
    try:
        module = importlib.import_module(f"curidask.cli.{command}")
    except KeyboardInterrupt:  # nothing has begun that could say more
        sys.exit(130)
    module.main()
