"""A small project whose values tell which call of which stage made them, and what must hold of what it was served."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SETS = (1, 2)
SHAPES = ("chain", "fan", "files", "lazy")
FOREIGN = 666
"""The value of what somebody forges."""

EXPERIMENT = '''
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import curidask as cf
from curidask.caching import FileReferenceCacher, JsonCacher, Lazy, PathRef, PickleCacher


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


def note(**facts):
    file = os.open(os.environ["FAULTS_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(file, json.dumps(facts).encode() + b"\\n")
    os.close(file)


def made(record, stage, used, **values):
    """The outputs of a call: each has the call's number, and the numbers of the calls that made what it is made of."""
    call = uuid.uuid4().hex
    note(event="called", stage=stage, set=record.name, call=call)
    print("made", stage)
    for name, value in used.items():
        note(event="used", name=name, by=call, **value)
    used = {name: value["call"] for name, value in used.items()}
    about = {"stage": stage, "set": record.name, "call": call, "used": used}
    found = tuple({"output": name, "value": value, **about} for name, value in values.items())
    return found if len(found) > 1 else found[0]


@cf.stage(None, ["data", "more"], [PickleCacher, JsonCacher])
def load(record):
    x = record.params.x
    return made(record, "load", {}, data=x, more=x + 100)


@cf.stage(["data"], ["middle"])
def change(record, data):
    return made(record, "change", {"data": data}, middle=10 * data["value"])


@cf.stage(["middle", "data", "more"], ["score"], [JsonCacher])
def chained(record, middle, data, more):
    score = middle["value"] + more["value"]
    return made(record, "chained", {"middle": middle, "data": data, "more": more}, score=score)


@cf.stage(["data"], ["left"], [JsonCacher(subdir="below/it")])
def left(record, data):
    return made(record, "left", {"data": data}, left=data["value"] + 1)


@cf.stage(["data"], ["right"])
def right(record, data):
    return made(record, "right", {"data": data}, right=data["value"] + 2)


@cf.stage(["left", "right", "data", "more"], ["score"], [PickleCacher])
def fanned(record, left, right, data, more):
    value = left["value"] + right["value"] + more["value"]
    return made(record, "fanned", {"left": left, "right": right, "data": data, "more": more}, score=value)


@cf.stage(None, ["folder", "path", "about"], [FileReferenceCacher, PathRef, JsonCacher])
def write(record):
    about = made(record, "write", {}, about=record.params.x + 50)
    folder = Path(record.get_dir("parts"))
    (folder / "inner").mkdir()
    (folder / "inner" / "part.json").write_text(json.dumps({**about, "output": "folder"}))
    path = Path(record.get_path("one.json"))
    path.write_text(json.dumps({**about, "output": "path"}))
    return str(folder), str(path), about


@cf.stage(["folder", "path", "about"], ["score"], [JsonCacher])
def used(record, folder, path, about):
    parts = {"folder": json.loads((Path(folder) / "inner" / "part.json").read_text()), "about": about}
    parts["path"] = json.loads(Path(path).read_text())
    return made(record, "used", parts, score=sum(part["value"] for part in parts.values()))


@cf.stage(None, [Lazy("film"), "left"], [PickleCacher, JsonCacher])
def film(record):
    return made(record, "film", {}, film=record.params.x + 7, left=record.params.x + 1)


@cf.stage(["film", "left"], ["score"], [JsonCacher])
def looked(record, film, left):
    film = film.load() if hasattr(film, "load") else film
    return made(record, "looked", {"film": film, "left": left}, score=film["value"] + left["value"])


@cf.aggregate(["score"], ["table"], [JsonCacher])
def gather(record, records, score):
    parts = {each.params.name: value for each, value in score.items()}
    return made(record, "gather", parts, table=sum(part["value"] for part in parts.values()))


SHAPES = {
    "chain": (load, change, chained),
    "fan": (load, left, right, fanned),
    "files": (write, used),
    "lazy": (film, looked),
}


def get_params():
    return [Params(f"p{x}", x=x) for x in (1, 2)]


def run(param_sets, manager):
    records = [cf.Record(manager, params) for params in param_sets]
    for record in records:
        for stage in SHAPES[os.environ["FAULTS_SHAPE"]]:
            stage(record)
    wanted = os.environ["FAULTS_READS"].split()
    if "table" in wanted:
        records.append(gather(cf.Record(manager, None)))
    for record in records:
        for name in wanted:
            if (name == "table") == (record.params is None):
                value = record.state[name]
                note(event="served", **(value.load() if hasattr(value, "load") else value))
'''

STORED = {
    "chain": ("data", "more", "score"),
    "fan": ("data", "more", "left", "score"),
    "files": ("about", "score"),
    "lazy": ("film", "left", "score"),
}
"""The outputs of a set that are stored, and whose values `run()` can read as they are."""

PASSED = ("middle", "right")
"""The outputs that are not stored, and made again by each run that needs them."""


def right_value(shape: str, output: str, x: int) -> int:
    """What an output of a set must be."""
    simple = {"data": x, "more": x + 100, "middle": 10 * x, "left": x + 1, "right": x + 2, "film": x + 7}
    simple |= dict.fromkeys(("folder", "path", "about"), x + 50)
    score = {"chain": 11 * x + 100, "fan": 3 * x + 103, "files": 3 * (x + 50), "lazy": 2 * x + 8}[shape]
    return {**simple, "score": score}[output]


@dataclass
class Journal:
    """What the stages and ``run()`` of one run saw.

    Attributes
    ----------
    shape : str
    events : list of dict
    """

    shape: str
    events: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, shape: str, path: Path) -> Journal:
        text = path.read_text() if path.exists() else ""
        return cls(shape, [json.loads(line) for line in text.splitlines()])

    def calls(self) -> dict[tuple[str, str], int]:
        """How often each stage was called for each set."""
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for event in self._of("called"):
            counts[event["stage"], event["set"]] += 1
        return dict(counts)

    def served(self) -> dict[tuple[str, str], str]:
        """Which call made each value that ``run()`` read."""
        return {(event["output"], event["set"]): event["call"] for event in self._of("served")}

    def made(self) -> set[str]:
        """The numbers of all calls."""
        return {event["call"] for event in self._of("called")}

    def problems(self, known: Collection[str], *, stays: bool = True) -> Iterator[str]:
        """What is wrong with what was served: another value, or a mix of calls.

        Parameters
        ----------
        known : collection of str
            The numbers of all calls there were.
        stays : bool
            Whether nothing is made again, or replaced by somebody else, while the run goes on.
        """
        calls: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        for event in self.events:
            if event["event"] == "called":
                continue
            for reader in [*(["run"] if stays else []), *([event["by"]] if "by" in event else [])]:
                calls[reader, event["stage"], event["set"]].add(event["call"])
            if event["call"] not in known:
                yield f"{event['event']} {event['output']} of {event['set']} is of a call that nobody made"
            right = self._right(event)
            if event["value"] != right:
                yield f"{event['event']} {event['output']} of {event['set']}: {event['value']!r} instead of {right}"
        for (reader, stage, name), found in calls.items():
            if len(found) > 1:
                yield f"values of {len(found)} calls of {stage} of {name} in one {'run' if reader == 'run' else 'call'}"

    def parts(self) -> list[Journal]:
        """Of each of several runs that were one after the other in one process."""
        parts = [Journal(self.shape)]
        for event in self.events:
            if event["event"] == "again":
                parts.append(Journal(self.shape))
            else:
                parts[-1].events.append(event)
        return parts

    def _right(self, event: Mapping[str, Any]) -> int:
        if event["output"] == "table":
            return sum(right_value(self.shape, "score", x) for x in SETS)
        return right_value(self.shape, event["output"], int(event["set"].removeprefix("p")))

    def other_inputs(self) -> Iterator[str]:
        """What was made of other inputs than those that are there.

        When only a part is made again, keys do not tell that; see what runs do when nothing is made again.
        """
        served = self.served()
        for event in self._of("served"):
            for name, call in event["used"].items():
                key = ("score", name) if event["output"] == "table" else (name, event["set"])
                if name not in PASSED and served.get(key, call) != call:
                    made = f"{event['output']} of {event['set']}"
                    yield f"{made} was made of another {key[0]} of {key[1]} than was served"

    def _of(self, kind: str) -> Iterable[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]
