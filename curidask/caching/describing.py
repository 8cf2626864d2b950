"""What is said of a stored value, out of its record while it is being stored, and out of its manifest later."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime
from typing import Any

from curidask.core.preview import describe_params
from curidask.store.manifest import Manifest

_REFERENCE = re.compile(r"(?P<experiment_name>.+)_(?P<run_number>\d+)_(?P<timestamp>\d{4}-.+)")


def info_of(record: Any) -> Any:
    """What is known of a cacher's record in each of its forms: in a session, in a stage, with a task."""
    return record.info() if hasattr(record, "info") else getattr(record, "_info", record)


def hash_of(record: Any) -> str:
    """The hash of a record's parameter set."""
    info = info_of(record)
    found: str = info.get_hash() if hasattr(info, "get_hash") else getattr(info, "used_hash", "")
    return found


def of_record(record: Any, stage: str | None) -> dict[str, Any]:
    """The metadata of a value that a record's stage makes now."""
    info = info_of(record)
    stages = list(getattr(record, "stages", ()))
    facts = {
        "artifact_generated": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "params_hash": hash_of(record),
        "params_name": getattr(info.params, "name", None),
        "record_name": getattr(info, "label", None),
        "stage": stage or (stages[-1] if stages else None),
        "params": describe_params(info.params, getattr(info, "used_names", None)) or None,
        "manager_run_info": _run_info(getattr(info, "run", ""), socket.gethostname()),
    }
    if hasattr(record, "stages"):
        facts["record_prior_stages"] = stages[: stages.index(facts["stage"])] if facts["stage"] in stages else stages
    if hasattr(record, "input_records"):
        facts["prior_records"] = [other.get_reference_name() for other in record.input_records]
    return facts


def of_manifest(manifest: Manifest) -> dict[str, Any]:
    """What a manifest knows better than the record that its artifact is loaded for."""
    return {
        "artifact_generated": manifest.created,
        "params_hash": manifest.params_hash,
        "params_name": manifest.set_name if manifest.params else None,
        "stage": manifest.stage,
        "params": manifest.params or None,
        "preview": manifest.preview,
        "manager_run_info": _run_info(manifest.run, manifest.host),
    }


def _run_info(reference: str, host: str) -> dict[str, Any]:
    """A run by its reference, which says the experiment, the number and the time."""
    said = _REFERENCE.fullmatch(reference)
    facts = {"reference": reference, "hostname": host} | (said.groupdict() if said else {})
    return facts | ({"run_number": int(said["run_number"])} if said else {})
