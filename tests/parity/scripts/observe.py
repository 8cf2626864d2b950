"""What a script tells of itself: the values it saw, and which stages ran."""

import html
import json
import os
import re

HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{30,33}(?![0-9a-f])|(?<=_)(0|None)(?=_)")
"""Of a parameter set; also of one without parameters, and of none."""

RUN = re.compile(r"_\d+_\d{4}-\d\d-\d\d-T\d{6}")
LONGER_HERE = re.compile(r"_files\.[0-9a-f]{12}([_-])|\.[0-9a-f]{12}(?=[._/]|$)")
"""What makes names in the cache of curidask longer: a key, and what files of a stage's own are together."""


def plain(words):
    """Text without what differs from run to run, or between the names that both give to one thing."""
    words = LONGER_HERE.sub(lambda found: "_" if found.group(1) else "", words)
    return RUN.sub("_RUN", HASH.sub("HASH", words))


def value(name, seen):
    """Tell a value, as text that differs where values or their types differ."""
    _append("PARITY_VALUES", [name, describe(seen)])


def ran(stage, which=""):
    """Tell that a stage's function runs."""
    _append("PARITY_EXECUTIONS", f"{stage} {which}".strip())


def error(name, expected, function, *args, **kwargs):
    """Tell whether a call raises what is documented, else what it raises."""
    try:
        function(*args, **kwargs)
    except expected:
        value(name, expected)
    except Exception as raised:
        value(name, type(raised))
    else:
        value(name, "nothing raised")


def reported(words, folder="reports/_latest"):
    """Whether a report says something, in its page or in a file of it."""
    paths = [os.path.join(at, name) for at, _, names in os.walk(os.path.realpath(folder)) for name in names]
    return any(words in html.unescape(text(path)) for path in paths)


def text(path):
    """What a file holds."""
    with open(path, errors="replace") as file:
        return file.read()


def describe(seen):
    """Text for a value: its `repr` where that is exact, else its parts."""
    kind = type(seen).__name__
    if kind == "DataFrame":
        columns = {str(name): str(kind) for name, kind in seen.dtypes.items()}
        return f"DataFrame {columns} {seen.to_dict('split')}"
    if kind == "ndarray":
        return f"array {seen.dtype} {seen.tolist()}"
    if isinstance(seen, type):
        return f"class {seen.__name__}"
    if isinstance(seen, dict):
        return "{" + ", ".join(f"{describe(key)}: {describe(each)}" for key, each in seen.items()) + "}"
    if type(seen) is list:
        return "[" + ", ".join(map(describe, seen)) + "]"
    if type(seen) is tuple:
        return "(" + "".join(f"{describe(each)}, " for each in seen).rstrip(" " if len(seen) == 1 else ", ") + ")"
    if isinstance(seen, (set, frozenset)):
        return f"{kind} {sorted(map(describe, seen))}"
    return repr(seen)


def _append(variable, line):
    with open(os.environ[variable], "a") as file:
        file.write(json.dumps(line) + "\n")
