"""What stages log in a session."""

import glob
import logging

import curifactory as cf

import observe


@cf.stage(None, ["data"])
def load(record):
    logging.info("told by the stage")
    logging.debug("a detail")
    return 1


def logs(name):
    found = [observe.text(path) for path in glob.glob(f"logs/{name}_*.log")]
    return [any(words in text for text in found) for words in ("told by the stage", "a detail")]


for name, keywords in (
    ("usual", {}),
    ("detailed", {"live_log_debug": True}),
    ("others", {"disable_non_cf_loggers": False}),
    ("silent", {"suppress_live_log": True}),
    ("dry", {"dry": True}),
):
    manager = cf.ArtifactManager(name, **keywords)
    observe.value(f"{name} output", load(cf.Record(manager, cf.ExperimentParameters("only"))).output)
    observe.value(name, logs(name))
