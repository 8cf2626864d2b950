"""Reportables of one's own: files that `render` writes, and markup as text or lines."""

import os

import curifactory as cf
from curifactory.reporting import Reportable

import observe


class Listed(Reportable):
    def __init__(self, items, name=None, group=None):
        self.items = items
        super().__init__(name=name, group=group)

    def html(self):
        return ["<ul>", *(f"<li>item {item}</li>" for item in self.items), "</ul>"]


class Written(Reportable):
    def __init__(self, text, **kwargs):
        self.text = text
        super().__init__(**kwargs)

    def render(self):
        with open(os.path.join(self.path, f"{self.qualified_name}.txt"), "w") as file:
            file.write(self.text)

    def html(self):
        return f"<a href='{self.path}/{self.qualified_name}.txt'>{self.stage} of {self.record.params.name}</a>"


@cf.stage(None, ["done"])
def show(record):
    record.report(Listed([1, 2], name="listed", group="mine"))
    record.report(Written("the text", name="written"))
    return 1


manager = cf.ArtifactManager("custom_reportable")
show(cf.Record(manager, cf.ExperimentParameters("only")))
manager.generate_report()
observe.value("lines", observe.reported("<li>item 2</li>"))
observe.value("attributes", observe.reported("show of only"))
observe.value("linked", observe.reported("only_show_written.txt"))
found = [os.path.join(at, name) for at, _, names in os.walk("reports/_latest/") for name in names]
written = [path for path in found if path.endswith("only_show_written.txt")]
observe.value("written", [observe.text(path) for path in written])
