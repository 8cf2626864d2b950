"""What commands in forked processes have imported, and the templates that their reports have compiled."""

from __future__ import annotations

import gc
import importlib

from curidask.reporting.render import environment

for name in (
    "curidask.cli.curidask",
    "curidask.cli.experiment",
    "curidask.clusters.local",
    "curidask.experiment",
    "curidask.explaining",
    "curidask.progress",
    "curidask.keeping",
    "curidask.executors.dask",
    "curidask.notebook",
    "curidask.reporting.layout",
    "cryptography.x509",
    "distributed",
    "distributed.http.scheduler.info",
    "distributed.http.scheduler.prometheus",
    "igraph",
    "numpy.random",
    "pandas",  # which dask imports when it starts workers, as all that it can work with
    "s3fs",
    "tomllib",
):
    importlib.import_module(name)
for name in environment().list_templates(extensions=["html"]):
    environment().get_template(name)
gc.freeze()  # or each fork would copy all of it when it collects garbage
