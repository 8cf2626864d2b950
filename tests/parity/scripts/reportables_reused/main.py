"""Reportables of a stage that is reused are in the report again.

$ experiment reported
$ python main.py
"""

import observe

for name in ("first", "each"):
    observe.value(name, observe.reported(f"<b>{name} of them</b>"))
observe.value("line", observe.reported("a loss curve"))
