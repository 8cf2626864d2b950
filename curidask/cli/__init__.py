"""The commands ``experiment`` and ``curidask``."""

from __future__ import annotations

import importlib


def main() -> None:
    """Run ``experiment`` with the arguments of this process, for scripts that start experiments from an editor."""
    importlib.import_module("curidask.cli.experiment").main()
