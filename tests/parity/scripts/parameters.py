"""Parameter sets are dataclasses like others."""

import copy
import dataclasses
from dataclasses import dataclass

import curifactory as cf

import observe


@dataclass
class Base(cf.ExperimentParameters):
    seed: int = 0
    model: str = "knn"


@dataclass
class More(Base):
    layers: tuple = (100,)


def seeds(params, count):
    made = []
    for seed in range(count):
        new = copy.deepcopy(params)
        new.name += f"_seed{seed}"
        new.seed = seed
        made.append(new)
    return made


observe.value("made", [(each.name, each.seed, each.model) for each in seeds(Base("knn"), 3)])
observe.value("defaults", [More().name, More().hash, More().overwrite, More().seed, More().layers])
observe.value("positional", [Base("first").name, Base("a", None, True).overwrite])
observe.value("fields", [each.name for each in dataclasses.fields(More)])
observe.value("text", repr(More("shown")))
observe.value("equal", [Base("a") == Base("a"), Base("a") == Base("b")])
observe.value("replaced", dataclasses.replace(Base("a", seed=1), seed=2).seed)
observe.value("hashes", len({each.params_hash() for each in seeds(Base("knn"), 3)}))
changed = Base("changed")
before = changed.params_hash()
changed.seed = 5
observe.value("follows", changed.params_hash() == Base("other", seed=5).params_hash())
observe.value("stays", before == changed.params_hash())
