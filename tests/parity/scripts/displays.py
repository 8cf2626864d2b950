"""What a notebook shows of a manager, in a script."""

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


def tell(name, shown):
    observe.value(f"{name} kind", type(shown).__name__)
    observe.value(name, [text in shown.data for text in ("of one", "of two", "more of one", "more of two")])


observe.value("info kind", type(manager.display_info()).__name__)
observe.value("info", "displays" in manager.display_info().data)
tell("all", manager.display_all_reportables())
tell("record", manager.display_record_reportables(records[0]))
tell("group", manager.display_group_reportables("mine"))
tell("stage", manager.display_stage_reportables("show_more"))
tell("single", manager.display_reportable(manager.reportables[0]))
observe.value("graph kind", type(manager.display_stage_graph()).__name__)
observe.value("groups", sorted(map(str, manager.get_reportable_groups())))
