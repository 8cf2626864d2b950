"""How long do people wait at a counter? Simulated queues of several loads, and which load is still bearable."""

import random
import time
from dataclasses import dataclass

import curidask as cf
from curidask.caching import JsonCacher, PickleCacher

SECONDS = 0.25
"""What a simulation takes at least, so that two machines have something to share."""


@dataclass
class Params(cf.ExperimentParameters):
    """What varies between the parameter sets."""

    load: float = 0.5
    """Arrivals for each person that the counter could serve."""
    n_people: int = 2000
    seed: int = 0


@cf.stage(inputs=None, outputs=["waits"], cachers=[PickleCacher])
def simulate(record):
    """Let people arrive at random and be served one after the other; how long each waits."""
    time.sleep(SECONDS)
    chance = random.Random(record.params.seed)
    waits, wait = [], 0.0
    for _ in range(record.params.n_people):
        waits.append(wait)
        wait = max(0.0, wait + chance.expovariate(1.0) - chance.expovariate(record.params.load))
    return waits


@cf.stage(inputs=["waits"], outputs=["mean_wait"], cachers=[JsonCacher])
def measure(record, waits):
    """The mean over all but the first ones, who find an empty shop."""
    settled = waits[len(waits) // 10 :]
    return sum(settled) / len(settled)


@cf.aggregate(inputs=["mean_wait"], outputs=["table"], cachers=[JsonCacher])
def compare(record, records, mean_wait):
    """Mean wait by load, as measured and as theory has it for an endless queue."""
    return {r.params.name: [value, r.params.load / (1 - r.params.load)] for r, value in mean_wait.items()}


def get_params():
    return [Params(f"load {load:.0%}", load=load) for load in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)]


def run(param_sets, manager):
    for params in param_sets:
        measure(simulate(cf.Record(manager, params)))
    table = compare(cf.Record(manager, None)).state["table"]
    for name, (measured, theory) in table.items():
        print(f"{name:<10} {measured:6.2f} measured {theory:6.2f} in theory")
    return table
