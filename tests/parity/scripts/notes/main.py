"""Notes that are kept with a run.

$ experiment noted --notes "A first line."
$ EDITOR="python editor.py" experiment noted --notes
$ experiment noted
$ python main.py
"""

import glob
import os
import re

import observe


def number(path):
    return int(re.search(r"noted_(\d+)_", path).group(1))


for path in sorted(glob.glob("reports/noted_*/index.html"), key=number)[-3:]:
    told = [
        observe.reported(note, os.path.dirname(path)) for note in ("A first line.", "From the editor", "# not this")
    ]
    observe.value("notes", told)
