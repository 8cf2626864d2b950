"""A project whose configuration file says where things are.

$ experiment trial -p some_sets
$ python main.py
"""

import os

import curifactory as cf

import observe

manager = cf.ArtifactManager("live")
observe.value("paths", [path.rstrip("/") for path in (manager.cache_path, manager.runs_path, manager.logs_path)])
observe.value("reports", os.path.exists("out/reports/_latest/index.html"))
observe.value("cache", sorted(name.split("_")[0] for name in os.listdir("out/cache") if name.endswith("data.json")))
observe.value("logs", any(name.startswith("trial_1") for name in os.listdir("out/logs")))
observe.value("elsewhere", [name for name in ("data", "logs", "reports") if os.path.exists(name)])
with open("out/reports/_latest/style.css") as file:
    observe.value("style", "salmon" in file.read())
