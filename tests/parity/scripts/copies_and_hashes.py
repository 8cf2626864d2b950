"""Copies of records and of their states, and sets that were given one hash."""

import copy
from dataclasses import dataclass

import curifactory as cf

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["a"])
def make(record):
    return record.params.x


def copied(how, what):
    try:
        how(what)
    except Exception as raised:
        return type(raised)
    return "copied"


manager = cf.ArtifactManager("copies")
record = make(cf.Record(manager, Params("one")))
for how in (copy.copy, copy.deepcopy):
    observe.value(f"{how.__name__} of a record", copied(how, record))
    observe.value(f"{how.__name__} of a state", copied(how, record.state))
observe.value("as a dict", dict(record.state))
observe.value("as a record", dict(record.make_copy().state))

given = [Params("first", x=1, hash="mine"), Params("second", x=2, hash="mine")]
try:
    observe.value("one hash", [make(cf.Record(manager, params)).output for params in given])
except Exception as raised:
    observe.value("one hash", type(raised))
again = [Params("again", x=1, hash="other"), Params("again", x=1, hash="other")]
observe.value("one hash of equal sets", [make(cf.Record(manager, params)).output for params in again])
