"""Which parameter sets are the same, and how each field counts."""

from dataclasses import dataclass, field

import curifactory as cf

import observe


@dataclass
class Inner:
    path: str = ""
    threads: int = 1

    hash_representations: dict = cf.set_hash_functions(threads=None)


@dataclass
class Params(cf.ExperimentParameters):
    size: int = 9000
    gpus: int = 1
    extra: str = None
    kind: type = int
    inner: Inner = field(default_factory=Inner)
    sizes: list = field(default_factory=lambda: [1, 2])

    hash_representations: dict = cf.set_hash_functions(gpus=None, size=lambda self, value: str(value / self.gpus))


@dataclass
class Plain(cf.ExperimentParameters):
    size: int = 9000
    gpus: int = 1


def same(*sets):
    return len({each.params_hash() for each in sets}) == 1


observe.value("name", same(Plain("a"), Plain("b")))
observe.value("value", same(Plain(size=1), Plain(size=2)))
observe.value("swapped", same(Plain(size=1, gpus=2), Plain(size=2, gpus=1)))
observe.value("overwrite", same(Plain(), Plain(overwrite=True)))
observe.value("left out", same(Params(size=10, gpus=1), Params(size=20, gpus=2)))
observe.value("function", same(Params(size=10), Params(size=20)))
observe.value("kind", same(Params(kind=int), Params(kind=float)))
observe.value("nested", same(Params(inner=Inner("a")), Params(inner=Inner("b"))))
observe.value("nested left out", same(Params(inner=Inner(threads=1)), Params(inner=Inner(threads=2))))
observe.value("list", same(Params(sizes=[1]), Params(sizes=[2])))
observe.value("order", same(Params(sizes=[1, 2]), Params(sizes=[2, 1])))
observe.value("text", [type(Plain().params_hash()), len(Plain().params_hash()) >= 30])
observe.value("given", Plain(hash="by_hand").params_hash())

dry = Params("dry").params_hash(dry=True)
observe.value("dry fields", sorted(dry))
observe.value("dry pairs", {len(each) for each in dry.values()})
for name in ("name", "hash", "overwrite", "gpus", "extra", "size"):
    observe.value(f"dry {name}", dry[name][1])
observe.value("dry nested", type(dry["inner"][1]))
