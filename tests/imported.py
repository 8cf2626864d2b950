"""What commands in forked processes have imported, and the templates that their reports have compiled."""

from __future__ import annotations

import gc
import importlib

from curidask.reporting.render import environment

for name in (
    "curidask.cli.curidask",
    "curidask.progress",
    "curidask.cli.experiment",
    "curidask.keeping",
    "curidask.executors.dask",
    "curidask.notebook",
    "curidask.reporting.layout",
    "distributed",
    "igraph",
    "numpy",
    "s3fs",
):
    importlib.import_module(name)
for name in environment().list_templates(extensions=["html"]):
    environment().get_template(name)
gc.freeze()  # or each fork would copy all of it when it collects garbage
