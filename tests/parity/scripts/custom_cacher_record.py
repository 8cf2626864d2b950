"""What a cacher of one's own does with its record when it loads."""

from dataclasses import dataclass

import curifactory as cf
from curifactory.caching import Cacheable, JsonCacher

import observe


@dataclass
class Params(cf.ExperimentParameters):
    x: int = 1


class Beside(Cacheable):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, extension=".txt", **kwargs)

    def side(self):
        return self.record.get_path("side.txt", stage_name="make")

    def save(self, obj):
        with open(self.side(), "w") as file:
            file.write(f"beside {obj}")
        with open(self.get_path(), "w") as file:
            file.write(obj)

    def load(self):
        record = self.record
        with open(self.get_path()) as file, open(self.side()) as side:
            known = [record.params.name, record.get_hash() == record.params.hash, record.manager.experiment_name]
            return [file.read(), side.read(), *known]


@cf.stage(None, ["text"], [Beside])
def make(record):
    return f"text of {record.params.name}"


@cf.stage(["text"], ["seen"], [JsonCacher])
def use(record, text):
    return text[0] if isinstance(text, list) else text


cf_record = use(make(cf.Record(cf.ArtifactManager("cacher_record"), Params("one", x=3))))
observe.value("seen", cf_record.output)
again = make(cf.Record(cf.ArtifactManager("cacher_record"), Params("one", x=3)))
observe.value("loaded", again.output)
