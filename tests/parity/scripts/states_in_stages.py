"""What stages and aggregates read from states, and what an aggregate gets as its inputs."""

from dataclasses import dataclass

import curifactory as cf

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


@cf.stage(None, ["a", "b"])
def first(record):
    return record.params.x, 2


def tried(function, *arguments):
    try:
        return function(*arguments)
    except (KeyError, AttributeError):
        return "refused"


def seen(state):
    return {
        "declared": [state["a"], state.get("a"), "a" in state],
        "other": [tried(lambda: state["b"]), tried(state.get, "b"), tried(lambda: "b" in state)],
        "missing": [tried(lambda: state["zz"]), tried(state.get, "zz"), tried(lambda: "zz" in state)],
        "all": [tried(sorted, state), tried(len, state), tried(dict, state)],
        "changed": [tried(state.__setitem__, "new", 1), tried(state.update, {"n": 1})],
    }


@cf.stage(["a"], ["seen"])
def look(record, a):
    return seen(record.state)


@cf.aggregate(["a"], ["all"])
def gather(record, records, a):
    uses = {
        "is dict": isinstance(a, dict),
        "copy": sorted(a.copy().values()),
        "merged": sorted((a | {1: 7}).values()),
        "merged into": sorted(({1: 7} | a).values()),
        "reversed": [each.params.name for each in reversed(a)],
        "popped": [a.pop(records[0]), len(a), a == {records[1]: 5}],
    }
    return [uses, [seen(each.state) for each in records]]


@cf.aggregate(None, ["all"])
def gather_all(record, records):
    return [[sorted(each.state), "b" in each.state, "zz" in each.state, len(each.state)] for each in records]


manager = cf.ArtifactManager("states")
records = [first(cf.Record(manager, Params(name, x=x))) for name, x in (("one", 1), ("two", 5))]
observe.value("everything", gather_all(cf.Record(manager, None), records).output)
uses, states = gather(cf.Record(manager, None), records).output
for name, value in uses.items():
    observe.value(f"gathered: {name}", value)
for name, value in states[0].items():
    observe.value(f"of a record that went in: {name}", value)
for name, value in look(records[1]).output.items():
    observe.value(name, value)
