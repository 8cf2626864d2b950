"""Taking over what was made under another key from the same contents by the same code: it need not be made again."""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curidask.core.artifact_names import LAYOUT_SUFFIX, stem_of
from curidask.errors import CacheError
from curidask.execution.artifact_io import artifact_info, cacher_name
from curidask.execution.base import MADE_FROM, ArtifactInfo, Environment, Job, JobOutput, Passed, Stored
from curidask.execution.outputs import mark
from curidask.execution.returned_paths import NOTE
from curidask.execution.tracebacks import user_name
from curidask.store.base import Store
from curidask.store.manifest import BROUGHT, Manifest
from curidask.store.payload import Checkout
from curidask.store.workspace import Workspace


# --- whether what lies in the store was made from the contents that the inputs of its job have now -------------------
def stands_on_current(
    found: Iterable[Manifest], job: Job, passed: Mapping[int, Mapping[int, Any]], store: Store
) -> bool:
    """Whether artifacts were made from what is there now, as far as they say what they were made from.

    Parameters
    ----------
    found : iterable of Manifest
        Of the outputs of the job.
    passed : mapping of int to mapping
        Values of earlier jobs that are held in memory, by job and place.
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


# --- adoption --------------------------------------------------------------------------------------------------------
SAME = ("stage", "params", "kwargs", "files")
"""The parts of a key that must be equal. The keys of inputs may differ where their contents do not."""

MOST_LOOKED_AT = 32
"""Artifacts of each output."""


ACCEPTED = "accepted code of"
"""What a manifest says beside the parts of the key of the code that made it, where other code was accepted."""


def adopt(
    job: Job, env: Environment, passed: Mapping[int, Mapping[int, Any]], warn: Callable[[str], None]
) -> tuple[ArtifactInfo, ...] | None:
    """Store again, under the key of a job, what an earlier call made of the same contents; None where there is none.

    On the same disk the files are shared, as links. What was stored before code counted is taken as made by today's.

    Parameters
    ----------
    passed : mapping of int to mapping
        Values of earlier jobs that are held in memory, by job and place.
    warn : callable
        Is told where other code is accepted.
    """
    if not job.alike:
        return None
    manifests = env.store.manifests([stem for stems in job.alike for stem in stems[:MOST_LOOKED_AT]])
    keys = {source.key for source in job.sources if isinstance(source, Stored)}
    contents = contents_of(job, passed, env.store, keys) if manifests else {}
    if not manifests or keys - contents.keys():
        return None
    for found in _calls([[manifests[s] for s in stems if s in manifests] for stems in job.alike]):
        if all(_fits(manifest, output, job, contents) for manifest, output in zip(found, job.outputs, strict=True)):
            try:
                taken = _stored_again(found, job, env, contents)
            except CacheError:  # it is damaged, or was removed meanwhile, or its place is gone
                continue
            if (text := _accepted(found[0], job)) is not None:
                warn(text)
            return taken
    return None


def _calls(candidates: Sequence[Sequence[Manifest]]) -> Iterator[list[Manifest]]:
    """The outputs of each call of which all are there, the last one first."""
    by_call = [{manifest.call: manifest for manifest in manifests if manifest.call} for manifests in candidates]
    for first in sorted(by_call[0].values(), key=lambda manifest: manifest.created, reverse=True):
        if all(first.call in known for known in by_call):
            yield [known[first.call] for known in by_call]


def _fits(old: Manifest, output: JobOutput, job: Job, contents: Mapping[str, str]) -> bool:
    now, then = job.components, old.components
    if any(now.get(name) != then.get(name) for name in SAME) or not _is_of_code(then, job):
        return False
    if old.cacher != cacher_name(output.cacher):
        return False
    if NOTE in old.extra_metadata or getattr(output.cacher, "refers", False):  # names other artifacts
        return False
    if any(entry.name.endswith(LAYOUT_SUFFIX) for entry in (*old.files, *old.tracked)):
        return False
    made_from = old.made_from
    before, after = _inputs(then), _inputs(now)
    if before is None or after is None or [place for place, _ in before] != [place for place, _ in after]:
        return False
    otherwise = made_from.keys() - {key for _, key in before}  # through what is not stored, or as a file
    if any(made_from[key] != contents.get(key) for key in otherwise):
        return False
    pairs = [(old_key, key) for (_, old_key), (_, key) in zip(before, after, strict=True)]
    return all(_holds_the_same(made_from.get(old_key), contents.get(key), old_key == key) for old_key, key in pairs)


def _holds_the_same(then: str | None, now: str | None, is_same_key: bool) -> bool:
    """Whether an input is what it was; what does not say what it was made from goes by its key."""
    return then == now if then and now else is_same_key


def _is_of_code(then: Mapping[str, Any], job: Job) -> bool:
    """Whether the code is the same, or may be another; before it counted, the order of outputs did not count either."""
    names = ("outputs",) if job.accepts_code else ("code", "outputs")
    return "code" not in then or all(job.components.get(name) == then.get(name) for name in names)


def _accepted(old: Manifest, job: Job) -> str | None:
    if "code" not in old.components:
        return "results from before code counted are taken as made by today's code"
    if old.components["code"] == job.components["code"]:
        return None
    what = f"results of the stage {job.spec.name!r} that other code has made ({old.run})"
    return f"{what} are taken as made by today's (--accept-code)"


def _inputs(components: Mapping[str, Any]) -> list[tuple[Any, str]] | None:
    """The keys of all inputs with what they are; None for a form that is not ours."""
    try:
        found: list[tuple[Any, str]] = [(name, str(key)) for name, key in components["inputs"].items()]
        for params_hash, name, keys in components.get("records", ()):
            found.append(((params_hash, name), ""))
            found += [((params_hash, name, each), str(key)) for each, key in keys.items()]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return found


def _stored_again(
    found: Sequence[Manifest], job: Job, env: Environment, contents: Mapping[str, str]
) -> tuple[ArtifactInfo, ...]:
    call = uuid.uuid4().hex
    rows = [(name, source.key) for name, source in job.inputs.items()]
    rows += [(name, source.key) for _, named in job.gathered for name, source in named.items()]
    rows += [("", key) for key in contents if key not in {key for _, key in rows}]
    inputs = tuple({"name": name, "key": key, "digest": contents.get(key, "")} for name, key in rows)
    artifacts = []
    with ExitStack() as folders:
        pairs = list(zip(found, job.outputs, strict=True))
        checkouts = [env.store.checkout(old.stem, old.key, cacher=old.cacher) for old, _ in pairs]
        for checkout, (old, output) in zip(checkouts, pairs, strict=True):
            payload = folders.enter_context(env.store.workspace(output.stem, run=env.work))
            beside = folders.enter_context(env.store.workspace(job.marker.stem, run=env.work))
            _share(_payload(checkout), payload)
            _share(_beside(checkout), beside)
            manifest = replace(
                old,
                key=output.key,
                stem=output.stem,
                prefix=job.prefix,
                set_name=job.record.name,
                components=_components(old, job, contents),
                inputs=inputs,
                files=(),
                tracked=(),
                call=call,
                run=env.run,
                user=user_name(),
                host=socket.gethostname(),
                created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
            whole = env.store.commit(payload, manifest, tracked=beside, replace_whole=True)
            artifacts.append(artifact_info(whole, env.store.take_tags(whole.stem)))
    return tuple(artifacts)


def _components(old: Manifest, job: Job, contents: Mapping[str, str]) -> dict[str, Any]:
    components, code = dict(job.components), job.components["code"]
    if old.components.get("code") != code:
        components[ACCEPTED] = old.components.get("code")
    if BROUGHT in old.components:
        components[BROUGHT] = mark(str(code), [contents.get(source.key, "") for source in job.sources])
    return components


def _payload(checkout: Checkout) -> Iterator[tuple[str, Path]]:
    """The files of an artifact, by what follows its name in theirs."""
    for entry in checkout.manifest.files:
        yield entry.name, checkout.folder / (checkout.basename + entry.name)


def _beside(checkout: Checkout) -> Iterator[tuple[str, Path]]:
    for name, path in checkout.tracked.items():
        yield name[len(stem_of(name) or "") :], path


def _share(files: Iterable[tuple[str, Path]], workspace: Workspace) -> None:
    for ending, path in files:
        target = workspace.path(workspace.basename + ending)
        if path.is_dir():  # one in which nothing is
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copy(path, target)
