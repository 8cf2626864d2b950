"""Flags of logs, reports and displays.

$ experiment spoken --no-log --no-report
$ python main.py
$ experiment spoken --no-report --quiet
$ python main.py
$ experiment spoken --verbose --plain
$ python main.py
$ experiment spoken --no-color --progress --log-errors --all-loggers
$ python main.py
$ experiment spoken --notebook
$ python main.py
"""

import glob
import os
import re

import observe


def newest(pattern):
    found = glob.glob(pattern)
    return max(found, key=lambda path: int(re.search(r"spoken_(\d+)_", path).group(1))) if found else None


observe.value("logs", len(glob.glob("logs/spoken_*.log")))
observe.value("reports", len(glob.glob("reports/spoken_*/index.html")))
observe.value("notebooks", len(glob.glob("notebooks/experiments/spoken_*.ipynb")))
if newest("logs/spoken_*.log"):
    with open(newest("logs/spoken_*.log")) as file:
        text = file.read()
    observe.value("logged", [part in text for part in ("told by the stage", "warned by the stage", "detail")])
if os.path.exists("reports/_latest"):
    observe.value("latest", os.path.exists("reports/_latest/index.html"))
