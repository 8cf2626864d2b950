"""`set_hash_functions` takes a dictionary, keywords, or both; `hash_representations` may also be set by hand."""

from dataclasses import dataclass, field

import curifactory as cf

import observe


@dataclass
class ByKeyword(cf.ExperimentParameters):
    a: int = 0
    b: int = 0
    hash_representations: dict = cf.set_hash_functions(b=None)


@dataclass
class ByDictionary(cf.ExperimentParameters):
    a: int = 0
    b: int = 0
    hash_representations: dict = cf.set_hash_functions({"b": None})


@dataclass
class ByBoth(cf.ExperimentParameters):
    a: int = 0
    b: int = 0
    hash_representations: dict = cf.hashing.set_hash_functions({"b": None}, a=lambda self, value: value % 2)


@dataclass
class ByHand(cf.ExperimentParameters):
    a: int = 0
    b: int = 0
    hash_representations: dict = field(default_factory=lambda: {"b": None})


for kind in (ByKeyword, ByDictionary, ByBoth, ByHand):
    hashes = [kind(a=a, b=b).params_hash() for a, b in ((0, 0), (0, 1), (1, 0), (2, 0))]
    observe.value(kind.__name__, [hashes.index(each) for each in hashes])
one = ByKeyword()
one.hash_representations["a"] = None
observe.value(
    "of one set", one.params_hash() == ByKeyword(a=5, hash_representations={"a": None, "b": None}).params_hash()
)
observe.error("not a dictionary", ValueError, cf.set_hash_functions, ["a"])
observe.value("shown", "hash_representations" in repr(ByKeyword()))
