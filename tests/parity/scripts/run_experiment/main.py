"""Experiments from Python."""

import curifactory as cf
from curifactory import experiment

import observe

result = experiment.run_experiment("called", ["some_sets"])
observe.value("result kind", type(result).__name__)
manager = cf.ArtifactManager("called")
everything = experiment.run_experiment("called", param_files=["some_sets", "more_sets"], mngr=manager)
observe.value("records", [record.params.name for record in manager.records])
observe.value("states", [record.state["data"] for record in manager.records])


def call(name, **keywords):
    observe.ran(f"-- {name}")
    cf.experiment.run_experiment("called", **keywords)


call("names", param_files=["some_sets", "more_sets"], param_set_names=["b", "c"])
call("indices", param_files=["some_sets", "more_sets"], param_set_indices=["0"])
call("global indices", param_files=["some_sets", "more_sets"], global_param_set_indices=["1-3"])
call("overwrite", param_files=["some_sets"], overwrite_override=True)
call("overwrite stages", param_files=["some_sets"], stage_overwrites=["load"])
call("another cache", param_files=["some_sets"], cache_dir_override="other/cache")
call("dry", param_files=["some_sets"], dry=True, overwrite_override=True)
call("dry cache", param_files=["some_sets"], dry_cache=True, prefix="unwritten")
call("prefix", param_files=["some_sets"], prefix="prefixed", report=False, log=True)
call("lazy", param_files=["some_sets"], lazy=True, prefix="lazy", no_dag=True, notes="noted")
call("map", param_files=["some_sets"], map_only=True, overwrite_override=True)
call("hashes", param_files=["some_sets"], hashes_only=True)
call("parameters", param_files=["some_sets"], print_params=True)
call("paths", param_files=["some_sets"], paths_only=True)
call("store full", param_files=["some_sets"], store_full=True, run_string="as typed")
call("display", param_files=["some_sets"], quiet=True, plain=True, no_color=True, progress=False, log_debug=True)
call("notebook", param_files=["some_sets"], build_notebook=True, build_docker=False, all_loggers=True, log_errors=False)
call("none", param_files=["some_sets"], overwrite_override=None, cache_dir_override=None, param_set_names=None)
