"""A cacher's own `check` says whether what is cached is good."""

import os

import curifactory as cf
from curifactory.caching import JsonCacher

import observe

calls = []


class Fresh(JsonCacher):
    def check(self):
        return super().check() and not os.path.exists("outdated")


@cf.stage(None, ["data"], [Fresh])
def load(record):
    observe.ran("load")
    calls.append("load")
    return {"a": 1}


def once(name):
    manager = cf.ArtifactManager("custom_cacher_check")
    observe.value(name, load(cf.Record(manager, cf.ExperimentParameters("only"))).output)
    observe.value(f"ran {name}", len(calls))


once("first")
once("reused")
with open("outdated", "w"):
    pass
once("outdated")
os.remove("outdated")
once("fresh again")
