"""A record that lacks an input is absent from that dictionary."""

import curifactory as cf

import observe


@cf.aggregate(inputs=["model", "results"], outputs=["combined"])
def combine(record, records, model, results):
    return {each.params.name: [value, each in model] for each, value in results.items()}


@cf.aggregate(inputs=["nowhere"], outputs=["combined"])
def find(record, records, nowhere):
    return [len(records), len(nowhere)]


manager = cf.ArtifactManager("aggregate_missing")
records = [cf.Record(manager, cf.ExperimentParameters(f"r{number}")) for number in range(3)]
records[0].state["model"] = "model 0"
records[1].state["model"] = "model 1"
records[1].state["results"] = 5.0
records[2].state["results"] = 6.0
observe.value("combined", combine(cf.Record(manager, None), records).output)
observe.value("nowhere", find(cf.Record(manager, None), records).output)
