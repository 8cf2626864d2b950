"""A project whose configuration file says where things are.

$ experiment trial -p some_sets
$ python main.py
"""

import os

import curifactory as cf

import observe

manager = cf.ArtifactManager("live")
observe.value("paths", [os.path.relpath(path) for path in (manager.cache_path, manager.runs_path, manager.logs_path)])
observe.value("notebooks", os.path.relpath(manager.notebooks_path))
observe.value("reports", os.path.exists("out/reports/_latest/index.html"))
observe.value("cache", sorted({observe.plain(name) for name in os.listdir("out/cache") if "_load_data" in name}))
observe.value("logs", any(name.startswith("trial_1") for name in os.listdir("out/logs")))
observe.value("elsewhere", [name for name in ("data", "logs", "reports") if os.path.exists(name)])
observe.value("style", observe.reported("salmon", "out/reports/_latest"))
