"""A run with all it used in a folder of its own, from which it is run again.

$ experiment stored --store-full
$ python main.py
$ experiment stored --cache data/runs/stored_1_*/artifacts --dry-cache
$ experiment stored --cache data/runs/stored_1_* --dry-cache
$ experiment stored --store-full --names one
$ python main.py
"""

import glob
import os

import observe

folder = max(glob.glob("data/runs/stored_*"), key=lambda path: int(path.split("_")[1]))
names = [os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names]
observe.value("artifacts", sorted(observe.plain(name) for name in names if name.startswith("artifacts")))
observe.value("report", any(name.startswith("report") and name.endswith("index.html") for name in names))
observe.value("log", any(name.endswith(".log") for name in names))
observe.value("environment", "requirements.txt" in names)
