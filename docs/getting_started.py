# %% [markdown]
# # Getting started
#
# This page is a program. Run it as a script (`python docs/getting_started.py`), step through its cells in an editor, or
# open it as a notebook (`jupytext --to ipynb docs/getting_started.py`). Lines that begin with `# =>` are what the
# code above them prints; a test runs the page and compares.
#
# The question of the day: at which angle should a ball be thrown so that it flies farthest, when the air slows it down?
#
# An experiment is made of four things: a **manager** for the session, **parameter sets** that say what varies,
# **records** that carry the results of one parameter set, and **stages**, the functions that compute them.

# %% [markdown]
# ## The manager
#
# An `ArtifactManager` is one session of work. It knows where results are stored (`data/cache` in the project's folder
# unless told otherwise) and which records there are. In a notebook or a script you make one yourself, and each stage
# runs as soon as you call it.

# %%
import curidask as cf

manager = cf.ArtifactManager("throws")
print(manager.experiment_name, len(manager.records))
# => throws 0

# %% [markdown]
# ## Parameters
#
# What can be varied goes into a dataclass that extends `ExperimentParameters`. A parameter set is an instance of it;
# besides your own fields it has a `name`, for people.

# %%
from dataclasses import dataclass


@dataclass
class Throw(cf.ExperimentParameters):
    angle: float = 45.0  # degrees above the ground
    speed: float = 20.0  # metres a second
    drag: float = 0.0  # how strongly the air brakes, per metre


flat = Throw("flat", angle=20.0)
steep = Throw("steep", angle=70.0)
print(flat)
# => Throw(name='flat', hash=None, overwrite=False, angle=20.0, speed=20.0, drag=0.0)

# %% [markdown]
# Sets are recognised by a hash of their values. The name is not part of it, so the same values under another name
# find the same results.

# %%
print(len(flat.params_hash()))
print(flat.params_hash() == Throw("another name", angle=20.0).params_hash())
print(flat.params_hash() == steep.params_hash())
# => 32
# => True
# => False

# %% [markdown]
# ## Records
#
# A `Record` stands for one parameter set on its way through the experiment. What the stages compute gathers in its
# `state`, which works like a dictionary and is empty at first.

# %%
flat_record = cf.Record(manager, flat)
steep_record = cf.Record(manager, steep)
print(flat_record.state, flat_record.params.angle)
print(len(manager.records))
# => {} 20.0
# => 2

# %% [markdown]
# ## Stages
#
# A stage is a function under `@stage`. It takes the record first, reads its parameters from `record.params`, and
# returns one value for each name in `outputs`. You call it with the record alone; the values appear in the state.

# %%
import math


@cf.stage(inputs=None, outputs=["velocity"])
def throw(record):
    angle = math.radians(record.params.angle)
    return [record.params.speed * math.cos(angle), record.params.speed * math.sin(angle)]


throw(flat_record)
print([round(part, 2) for part in flat_record.state["velocity"]])
# => [18.79, 6.84]

# %% [markdown]
# Names in `inputs` are taken from the state and passed to the parameters of the same names. A stage with several
# outputs returns them in order.

# %%
GRAVITY = 9.81
STEP = 0.001  # seconds


def fly(velocity, drag):
    """The points (x, y) of a flight, one every millisecond, until the ball is back on the ground."""
    (vx, vy), x, y = velocity, 0.0, 0.0
    points = []
    while y >= 0.0:
        points.append([x, y])
        braking = drag * math.hypot(vx, vy)
        vx -= braking * vx * STEP
        vy -= (braking * vy + GRAVITY) * STEP
        x += vx * STEP
        y += vy * STEP
    return points


@cf.stage(inputs=["velocity"], outputs=["distance", "height"])
def measure(record, velocity):
    points = fly(velocity, record.params.drag)
    return points[-1][0], max(y for _, y in points)


measure(flat_record)
print(round(flat_record.state["distance"], 1), round(flat_record.state["height"], 1))
print(flat_record.stages)
# => 26.2 2.4
# => ['throw', 'measure']

# %% [markdown]
# A stage returns the record it was given, so stages chain. `record.output` is what the last one returned.

# %%
steep_record = measure(throw(steep_record))
print([round(value, 1) for value in steep_record.output])
# => [26.2, 18.0]

# %% [markdown]
# `Procedure` keeps such a chain for repeated use, and makes the records as well.

# %%
flight = cf.Procedure([throw, measure], manager)
middle_record = flight.run(Throw("middle", angle=45.0))
print(middle_record.params.name, round(middle_record.state["distance"], 1))
# => middle 40.8

# %% [markdown]
# ## Aggregates
#
# Comparing needs several records at once. A function under `@aggregate` takes its own record, the list of records it
# gathers, and for each input a mapping from record to that record's value. Its own record rarely needs parameters, so
# it is made with `None`.


# %%
@cf.aggregate(inputs=["distance"], outputs=["ranking"])
def rank(record, records, distance):
    pairs = [(value, r.params.name) for r, value in distance.items()]
    return [f"{name}: {value:.1f} m" for value, name in sorted(pairs, reverse=True)]


comparison = rank(cf.Record(manager, None), [flat_record, steep_record, middle_record])
print(comparison.state["ranking"])
# => ['middle: 40.8 m', 'steep: 26.2 m', 'flat: 26.2 m']

# %% [markdown]
# Without a list (`rank(record)`) an aggregate gathers all other records of the manager. A record that lacks an input is
# absent from that mapping, with a warning.

# %%
import warnings

unthrown_record = cf.Record(manager, Throw("not thrown yet"))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    partial = rank(cf.Record(manager, None), [middle_record, unthrown_record])
    print(partial.state["ranking"])
print(len(caught))
# => ['middle: 40.8 m']
# => 1

# %% [markdown]
# ## Caching
#
# So far nothing was stored. Give a stage a *cacher* for each output, and its results go to the cache; the next time the
# same stage is called for the same parameters, they are read and the function does not run. `JsonCacher` and
# `PickleCacher` come with curidask; a class of your own with `save` and `load` does for anything else.

# %%
from curidask.caching import JsonCacher


@cf.stage(inputs=["velocity"], outputs=["path"], cachers=[JsonCacher])
def simulate(record, velocity):
    print("simulating", record.params.name)
    return fly(velocity, record.params.drag)


windy = Throw("windy", angle=45.0, drag=0.02)
windy_record = simulate(throw(cf.Record(manager, windy)))
print(round(windy_record.state["path"][-1][0], 1))
# => simulating windy
# => 25.8

# %% [markdown]
# A second record with the same values does not simulate again:

# %%
again = simulate(throw(cf.Record(manager, Throw("windy as well", angle=45.0, drag=0.02))))
print(round(again.state["path"][-1][0], 1))
# => 25.8

# %% [markdown]
# The artifact lies in the cache under a name that says what it is: session, hash of the parameter set, stage, output,
# and a part of its key, which stands for everything the result depends on. A `_metadata.json` file beside it tells how,
# when and by whom it was made.

# %%
from pathlib import Path

for file in sorted(Path("data/cache").glob("*simulate*")):
    print(file.name.replace(windy.params_hash(), "HASH").replace(file.name.split(".")[1][:12], "KEY"))
# => throws_HASH_simulate_path.KEY.json
# => throws_HASH_simulate_path.KEY_metadata.json

# %% [markdown]
# Other parameters have other artifacts. So has other code: edit a stage, or a function of the project that it calls,
# and it is computed anew (comments and docstrings do not count). `overwrite=True` in a set computes anew whatever the
# cache holds.

# %%
strong_record = simulate(throw(cf.Record(manager, Throw("stronger wind", angle=45.0, drag=0.05))))
windy_record = simulate(throw(cf.Record(manager, Throw("windy", angle=45.0, drag=0.02, overwrite=True))))
# => simulating stronger wind
# => simulating windy

# %% [markdown]
# A cacher can also be used on its own, with a path:

# %%
JsonCacher("notes.json").save({"best angle": 45.0})
print(JsonCacher("notes.json").load())
# => {'best angle': 45.0}

# %% [markdown]
# ## Lazy outputs
#
# A value in the state stays in memory. For large ones wrap the output's name in `Lazy`: the state then holds only a
# reference, and the value is loaded whenever somebody looks at it.

# %%
from curidask.caching import Lazy


@cf.stage(inputs=["velocity"], outputs=[Lazy("film")], cachers=[JsonCacher])
def film(record, velocity):
    return [{"second": i * STEP, "x": x, "y": y} for i, (x, y) in enumerate(fly(velocity, record.params.drag))]


film_record = film(throw(cf.Record(manager, windy)))
print(type(film_record.state["film"]).__name__, len(film_record.state["film"]))
# => list 2515

# %% [markdown]
# Setting `state.resolve` to `False` shows what is really there: a `Lazy`, with a `load()` of its own and a cacher that
# knows the file.

# %%
film_record.state.resolve = False
held = film_record.state["film"]
print(type(held).__name__, Path(held.cacher.get_path()).suffix, len(held.load()))
film_record.state.resolve = True
# => Lazy .json 2515

# %% [markdown]
# Stages further on get the value, loaded for them; with `Lazy("film", resolve=False)` they get the `Lazy` itself, which
# is how a path is handed to a program that reads files.
#
# ## From a session to an experiment
#
# What you tried out here becomes an experiment when you move it to a file `experiments/throws.py` with two functions:
# `get_params()` returns the parameter sets, `run()` sends them through the stages.


# %%
@cf.aggregate(inputs=["distance"], outputs=["best"], cachers=[JsonCacher])
def find_best(record, records, distance):
    best = max(distance, key=distance.get)
    return {"angle": best.params.angle, "distance": round(distance[best], 1)}


def get_params():
    return [Throw(f"{angle} degrees", angle=float(angle), drag=0.02) for angle in range(20, 70, 5)]


def run(param_sets, manager):
    records = [measure(throw(cf.Record(manager, params))) for params in param_sets]
    final = find_best(cf.Record(manager, None), records)
    print(final.state["best"])


run(get_params(), manager)
# => {'angle': 40.0, 'distance': 25.9}

# %% [markdown]
# `experiment throws` then runs it. The code stays as it is, but the manager now only notes which stage depends on which
# until a value is read or `run()` ends; the parameter sets go to worker processes side by side, and what the cache has
# is not computed again. `experiment throws --map` shows beforehand what would run, and why.
#
# A session of your own ends with the program, or when you close it:

# %%
manager.close()

# %% [markdown]
# Next: `examples/iris` is an experiment in one file, `examples/digits` a project with modules of its own, and
# `experiment --help` lists what the command can do.
