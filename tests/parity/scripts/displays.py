"""What a notebook shows of a manager, in a script."""

import base64
import re

import curifactory as cf
from curifactory.reporting import HTMLReporter

import observe


@cf.stage(None, ["done"])
def show(record):
    record.report(HTMLReporter(f"<b>of {record.params.name}</b>", name="html", group="mine"))
    return 1


@cf.stage(None, ["other"])
def show_more(record):
    record.report(HTMLReporter(f"<b>more of {record.params.name}</b>", name="more"))
    return 1


manager = cf.ArtifactManager("displays")
records = [show_more(show(cf.Record(manager, cf.ExperimentParameters(name)))) for name in ("one", "two")]


def page(shown):
    """The markup, with that of pages inside of it in plain."""
    inside = re.findall(r"data:text/html;base64,([A-Za-z0-9+/=]+)", shown.data)
    return shown.data + "".join(base64.b64decode(text).decode() for text in inside)


def tell(name, shown):
    observe.value(f"{name} is shown", shown._repr_html_() == shown.data)
    observe.value(name, [text in page(shown) for text in ("of one", "of two", "more of one", "more of two")])


observe.value("info", "displays" in manager.display_info().data)
tell("all", manager.display_all_reportables())
tell("record", manager.display_record_reportables(records[0]))
tell("group", manager.display_group_reportables("mine"))
tell("stage", manager.display_stage_reportables("show_more"))
tell("single", manager.display_reportable(manager.reportables[0]))
observe.value("graph", "<" in manager.display_stage_graph().data)
observe.value("groups", sorted(map(str, manager.get_reportable_groups())))
