"""A cacher of one's own: several files, a folder, suffixes, and facts beside them."""

import os

import curifactory as cf
from curifactory.caching import Cacheable, JsonCacher

import observe


class Model:
    def __init__(self, name, weights, found=None):
        self.name = name
        self.weights = weights
        self.found = found


class ModelCacher(Cacheable):
    def __init__(self, *args, rounding=2, **kwargs):
        super().__init__(*args, extension=".model", **kwargs)
        self.rounding = rounding

    def save(self, obj):
        with open(self.get_path("_weights.txt"), "w") as file:
            file.write(" ".join(str(round(weight, self.rounding)) for weight in obj.weights))
        with open(self.get_path(), "w") as file:
            file.write(obj.name)
        folder = self.get_dir("_parts")
        for number, weight in enumerate(obj.weights):
            with open(os.path.join(folder, str(number)), "w") as file:
                file.write(str(weight))
        self.extra_metadata["count"] = len(obj.weights)
        self.extra_metadata["rounding"] = self.rounding

    def load(self):
        with open(self.get_path()) as file:
            name = file.read()
        with open(self.get_path("_weights.txt")) as file:
            weights = [float(weight) for weight in file.read().split()]
        found = {**self.extra_metadata, "parts": sorted(os.listdir(self.get_dir("_parts")))}
        return Model(name, weights, found)


@cf.stage(None, ["model"], [ModelCacher])
def train(record):
    observe.ran("train")
    return Model("m", [0.5, 0.25])


@cf.stage(None, ["model"], [ModelCacher(rounding=1, subdir="models", prefix="shared")])
def train_elsewhere(record):
    observe.ran("train_elsewhere")
    return Model("e", [0.5, 0.25])


@cf.stage(["model"], ["total"], [JsonCacher])
def add(record, model):
    observe.ran("add")
    return [model.name, len(model.weights)]


manager = cf.ArtifactManager("custom_cacher")
record = add(train(cf.Record(manager, cf.ExperimentParameters("one"))))
observe.value("added", record.output)
observe.value("found", record.state["model"].found)
record = train_elsewhere(cf.Record(manager, cf.ExperimentParameters("two")))
observe.value("elsewhere", [record.state["model"].name, record.state["model"].weights])
observe.value("found elsewhere", record.state["model"].found)
