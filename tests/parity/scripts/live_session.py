"""The parts a session is made of: a manager, parameter sets, records and stages."""

from dataclasses import dataclass

import curifactory as cf

import observe


@dataclass
class Params(cf.ExperimentParameters):
    factor: float = 1.0


@cf.stage(inputs=None, outputs=["number"])
def make_number(record):
    observe.ran("make_number", record.params.name)
    return 5 * record.params.factor


@cf.stage(inputs=["number"], outputs=["squared"])
def square(record, number):
    observe.ran("square", record.params.name)
    return number**2


manager = cf.ArtifactManager("live_session")
plain = cf.Record(manager, Params(name="plain"))
doubled = cf.Record(manager, Params(name="doubled", factor=2.0))
observe.value("state at first", dict(plain.state))
observe.value("output at first", plain.output)

returned = square(make_number(plain))
square(make_number(doubled))
observe.value("the record comes back", returned is plain)
observe.value("plain", dict(plain.state))
observe.value("doubled", dict(doubled.state))
observe.value("output", plain.output)
observe.value("stages", plain.stages)
observe.value("records", [record.params.name for record in manager.records])
observe.value("has", ["number" in plain.state, "other" in plain.state])
observe.value("get", [plain.state.get("number"), plain.state.get("other"), plain.state.get("other", 3)])
observe.value("length", len(plain.state))
