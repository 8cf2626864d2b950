"""Cells as a notebook."""

import json

import curifactory as cf
from curifactory.caching import RawJupyterNotebookCacher

import observe


@cf.stage(None, ["notebook"], [RawJupyterNotebookCacher])
def explore(record):
    observe.ran("explore")
    return [["# imports", "import json"], ["x = 1", "print(x)"]]


manager = cf.ArtifactManager("notebook_cacher")
record = explore(cf.Record(manager, cf.ExperimentParameters("only")))
observe.value("cells", record.state["notebook"])

RawJupyterNotebookCacher("by_hand.ipynb").save([["a = 1"], ["b = 2", "c = 3"]])
observe.value("loaded", RawJupyterNotebookCacher("by_hand.ipynb").load())
with open("by_hand.ipynb") as file:
    notebook = json.load(file)
observe.value("kinds", [cell["cell_type"] for cell in notebook["cells"]])
observe.value("sources", ["".join(cell["source"]).strip() for cell in notebook["cells"]])
