"""What an artifact manager can be told."""

import os

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, ["data"], [JsonCacher])
def load(record):
    observe.ran("load", record.params.name)
    return record.params.name


def output(manager, name):
    return load(cf.Record(manager, cf.ExperimentParameters(name))).output


os.makedirs("data", exist_ok=True)
placed = cf.ArtifactManager(
    "manager_arguments",
    cache_path="elsewhere/cache",
    runs_path="elsewhere/runs",
    logs_path="elsewhere/logs",
    reports_path="elsewhere/reports",
    notes="a note",
    suppress_live_log=True,
)
observe.value("placed", output(placed, "placed"))
observe.value(
    "its cache",
    [os.path.relpath(placed.cache_path), any("load_data" in name for name in os.listdir("elsewhere/cache"))],
)
placed.generate_report()
observe.value("its report", os.path.exists("elsewhere/reports/_latest/index.html"))

dry = cf.ArtifactManager("dry", dry=True, cache_path="dry/cache")
observe.value("dry", output(dry, "dry"))
observe.value("dry wrote", os.path.exists("dry/cache") and os.listdir("dry/cache") != [])
cached_dry = cf.ArtifactManager("dry_cache", dry_cache=True, cache_path="dry_cache/cache")
observe.value("dry cache", output(cached_dry, "dry cache"))
named = cf.ArtifactManager("named", prefix="another", cache_path="named/cache")
observe.value("prefix", output(named, "prefix"))
observe.value("prefixed", sorted({observe.plain(name) for name in os.listdir("named/cache") if "_load_data" in name}))
