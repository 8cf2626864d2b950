"""All that is documented is reached from one import."""

import curifactory as cf

import observe

NAMES = {
    "caching": "Cacheable FileReferenceCacher JsonCacher Lazy PandasCacher PandasCsvCacher PandasJsonCacher PathRef "
    "PickleCacher RawJupyterNotebookCacher",
    "experiment": "list_experiments list_params run_experiment",
    "hashing": "set_hash_functions",
    "manager": "ArtifactManager",
    "params": "ExperimentParameters",
    "procedure": "Procedure",
    "record": "ArtifactRepresentation CacheAwareDict Record",
    "reporting": "DFReporter FigureReporter HTMLReporter ImageReporter JsonReporter LatexTableReporter "
    "LinePlotReporter Reportable",
    "staging": "CachersMismatchError EmptyCachersError ExecutingWithSkippedInputError InputSignatureError "
    "OutputSignatureError aggregate stage",
    "utils": "run_command",
}
TOP = (
    "ArtifactManager CachersMismatchError EmptyCachersError ExperimentParameters InputSignatureError Lazy "
    "OutputSignatureError Procedure Record aggregate set_hash_functions stage"
)
for module, names in NAMES.items():
    observe.value(module, [name for name in names.split() if not hasattr(getattr(cf, module, None), name)])
observe.value("top", [name for name in TOP.split() if not hasattr(cf, name)])
observe.value("one object", cf.caching.Lazy is cf.Lazy and cf.staging.stage is cf.stage)
cf.caching.JsonCacher("made.json").save([1])
observe.value("used", cf.caching.JsonCacher("made.json").load())
