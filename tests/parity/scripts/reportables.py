"""The reportables that come with the package, and the report."""

import glob
import os

import curifactory as cf
import matplotlib.pyplot as plt
import pandas as pd
from curifactory.reporting import (
    DFReporter,
    FigureReporter,
    HTMLReporter,
    ImageReporter,
    JsonReporter,
    LinePlotReporter,
)

import observe


@cf.stage(None, ["done"])
def show(record):
    frame = pd.DataFrame({"a": [1, 2], "b": [0.123456, 2.0]})
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    figure.savefig("picture.png")
    record.report(HTMLReporter("<b>some markup 1</b>", name="html"))
    record.report(HTMLReporter(html_string=["<i>some", "markup 2</i>"], name="lines"))
    record.report(DFReporter(frame, name="frame", float_prec=2, group="tables"))
    record.report(JsonReporter({"key": "a value"}, name="json"))
    record.report(JsonReporter(dictionary=[1, 2], name="list", group="tables"))
    record.report(FigureReporter(figure, name="figure"))
    record.report(ImageReporter(image_path="picture.png", name="image"))
    record.report(LinePlotReporter([1, 2, 3], name="line"))
    record.report(LinePlotReporter(y={"a": [1, 2], "b": [2, 1]}, x={"a": [0, 1], "b": [0, 1]}, name="lines of two"))
    record.report(LinePlotReporter([3, 2], plot_kwargs={"linestyle": "--"}, savefig_kwargs={"dpi": 50}, name="styled"))
    record.report(HTMLReporter("no name"))
    plt.close("all")
    return True


@cf.aggregate(["done"], ["all"])
def join(record, records, done):
    record.report(JsonReporter({"count": len(done)}, name="joined"))
    return len(done)


manager = cf.ArtifactManager("reportables")
for name in ("one", "two"):
    show(cf.Record(manager, cf.ExperimentParameters(name)))
join(cf.Record(manager, None))
observe.value("reported", len(manager.reportables))
observe.value("kinds", [type(each).__name__ for each in manager.reportables[:11]])
names = [each.qualified_name for each in manager.reportables]
observe.value("qualified", [name for name in names if not name.rpartition("_")[2].isdigit()])
observe.value("groups", [each.group for each in manager.reportables[:5]])
observe.value("stages", {each.stage for each in manager.reportables})
manager.generate_report()
observe.value("latest", os.path.exists("reports/_latest/index.html"))
observe.value("index", os.path.exists("reports/index.html"))
observe.value("own folder", len(glob.glob("reports/reportables_*/index.html")) > 0)
for text in ("<b>some markup 1</b>", "markup 2</i>", "a value", "lines of two", "joined", "0.12"):
    observe.value(f"report has {text}", observe.reported(text))
