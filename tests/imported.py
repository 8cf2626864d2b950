"""What commands in forked processes have imported, and the templates that their reports have compiled."""

from __future__ import annotations

import gc
import importlib

from curidask.reporting.templating import environment

for name in (
    "curidask.cli.commands",
    "curidask.cli.run",
    "curidask.clusters.local",
    "curidask.experiment",
    "curidask.session.explain.differences",
    "curidask.session.progress",
    "curidask.session.attachments",
    "curidask.execution.dask.executor",
    "curidask.reporting.notebook",
    "curidask.reporting.graph_layout",
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
