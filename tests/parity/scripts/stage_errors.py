"""What is wrong with a stage has an error of its own."""

import curifactory as cf
from curifactory.caching import JsonCacher

import observe


@cf.stage(None, ["a", "b"], [JsonCacher])
def too_few_cachers(record):
    return 1, 2


@cf.stage(None, ["a"], [JsonCacher, JsonCacher])
def too_many_cachers(record):
    return 1


@cf.stage(None, ["a"], [])
def empty_cachers(record):
    return 1


@cf.stage(None, None, [])
def empty_cachers_no_outputs(record):
    return None


@cf.stage(["wanted"], ["a"])
def no_argument(record):
    return 1


@cf.stage(["wanted"], ["a"], suppress_missing_inputs=True)
def no_default(record, wanted):
    return 1


@cf.stage(None, ["a", "b"])
def too_few_values(record):
    return 1


@cf.stage(None, ["a", "b"])
def too_many_values(record):
    return 1, 2, 3


@cf.stage(None, [cf.Lazy("a")])
def lazy_without_cacher(record):
    return 1


@cf.stage(["never made"], ["a"])
def needs(record, **inputs):
    return 1


@cf.stage(None, ["a"])
def raises(record):
    raise ZeroDivisionError("by the stage")


@cf.aggregate(["a"], ["b"])
def aggregate_without_argument(record, records):
    return 1


@cf.aggregate(["a"], ["b", "c"], [JsonCacher])
def aggregate_with_too_few_cachers(record, records, a):
    return 1


manager = cf.ArtifactManager("stage_errors")


def on_a_record(stage, given=None):
    record = cf.Record(manager, cf.ExperimentParameters("only"))
    if given:
        record.state[given] = 1
    stage(record)
    return record.output


observe.error("too few cachers", cf.staging.CachersMismatchError, on_a_record, too_few_cachers)
observe.error("too many cachers", cf.staging.CachersMismatchError, on_a_record, too_many_cachers)
observe.error("empty cachers", cf.staging.EmptyCachersError, on_a_record, empty_cachers)
observe.error("empty cachers without outputs", cf.staging.EmptyCachersError, on_a_record, empty_cachers_no_outputs)
observe.error("no argument", cf.staging.InputSignatureError, on_a_record, no_argument, "wanted")
observe.error("no default", cf.staging.InputSignatureError, on_a_record, no_default)
observe.error("too few values", cf.staging.OutputSignatureError, on_a_record, too_few_values)
observe.error("too many values", cf.staging.OutputSignatureError, on_a_record, too_many_values)
observe.error("missing input", KeyError, on_a_record, needs)
observe.error("the stage's own", ZeroDivisionError, on_a_record, raises)
observe.error("aggregate without argument", cf.staging.InputSignatureError, on_a_record, aggregate_without_argument)
observe.error(
    "aggregate with too few cachers", cf.staging.CachersMismatchError, on_a_record, aggregate_with_too_few_cachers
)
observe.error("lazy without cacher", cf.staging.OutputSignatureError, on_a_record, lazy_without_cacher)

for name in ("InputSignatureError", "OutputSignatureError", "EmptyCachersError", "CachersMismatchError"):
    observe.value(name, getattr(cf.staging, name) is getattr(cf, name, None))
observe.value("skipped", issubclass(cf.staging.ExecutingWithSkippedInputError, Exception))
