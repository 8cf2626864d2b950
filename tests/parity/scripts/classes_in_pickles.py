"""Objects of a script's own classes and functions, pickled and loaded by a later process."""

from dataclasses import dataclass, field

import curifactory as cf
from curifactory.caching import PickleCacher

import observe


@dataclass
class Point:
    x: int
    y: int = 0


class Model:
    def __init__(self, points):
        self.points = points

    def predict(self):
        return sum(point.x for point in self.points)


@dataclass
class Params(cf.ExperimentParameters):
    points: list = field(default_factory=list)
    model: type = Model


@cf.stage(None, ["model", "points"], [PickleCacher] * 2)
def train(record):
    observe.ran("train")
    return record.params.model(record.params.points), {point.x: point for point in record.params.points}


@cf.stage(["model"], ["prediction"])
def predict(record, model):
    return model.predict()


manager = cf.ArtifactManager("classes_in_pickles")
record = predict(train(cf.Record(manager, Params("only", points=[Point(1), Point(2, 3)]))))
observe.value("prediction", record.output)
observe.value("model", [type(record.state["model"]).__name__, record.state["model"].points])
observe.value("points", record.state["points"])
