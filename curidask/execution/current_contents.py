"""Whether what lies in the store was made from the contents that the inputs of its job have now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from curidask.execution.base import MADE_FROM, Job, Passed, Stored
from curidask.store.base import Store
from curidask.store.manifest import Manifest


def stands_on_current(
    found: Iterable[Manifest], job: Job, passed: Mapping[int, Mapping[int, Any]], store: Store
) -> bool:
    """Whether artifacts were made from what is there now, as far as they say what they were made from.

    Parameters
    ----------
    found : iterable of Manifest
        Of the outputs of the job.
    job : Job
    passed : mapping of int to mapping
        Values of earlier jobs that are held in memory, by job and place.
    store : Store
    """
    made_from = {key: content for manifest in found for key, content in manifest.made_from.items()}
    now = contents_of(job, passed, store, made_from.keys()) if made_from else {}
    return all(now.get(key, content) == content for key, content in made_from.items())


def contents_of(job: Job, passed: Mapping[int, Mapping[int, Any]], store: Store, keys: Iterable[str]) -> dict[str, str]:
    """What the inputs of a job with some keys hold, and what went into those that are held in memory."""
    stems = {source.key: source.stem for source in job.sources if isinstance(source, Stored)}
    manifests = store.manifests({stems[key] for key in keys if key in stems})
    found = {key: manifests[stems[key]].content for key in keys if stems.get(key) in manifests}
    for source in job.sources:
        if isinstance(source, Passed):
            found.update(passed[source.task].get(MADE_FROM, {}))
    return found
