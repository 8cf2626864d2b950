"""Deliberate faults of curidask itself, which the scenarios must find: what shows that they look closely enough.

``python -m tests.faults.randomly --mutant NAME --stop --count 1000`` goes on until one is found. ``--mutant all`` tries
them one after the other.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from typing import Any

from curidask.cli import exit_codes
from curidask.core.artifact_names import manifest_name
from curidask.execution import artifact_io, task_runner
from curidask.runs import record as run_records
from curidask.store import artifacts, catalog, claims, integrity, manifest
from curidask.store import checkout as checkouts
from curidask.store.backends import local
from curidask.store.backends.local import LocalObjects
from curidask.store.claims import Claim, Claims, Renewer
from curidask.store.disk_cache import near
from curidask.store.workspace import Workspaces

MUTANTS: dict[str, Callable[[], None]] = {}


def mutant(function: Callable[[], None]) -> Callable[[], None]:
    MUTANTS[function.__name__] = function
    return function


def put(name: str, value: Any, *places: Any) -> None:
    """Put something in the place of a function or method, wherever it was imported to."""
    for place in places:
        setattr(place, name, value)


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


# --- what is checked when something is read --------------------------------------------------------------------------
@mutant
def calls_are_not_compared() -> None:
    put("check_one_call", nothing, artifact_io, task_runner)


@mutant
def digests_are_not_checked() -> None:
    def sizes_only(path: str, name: str, entry: Any, verify: str) -> None:
        usual(path, name, entry, "size")

    usual = integrity.check_file
    put("check_file", sizes_only, integrity, checkouts, near)
    put("difference", lambda *_: "", integrity)


@mutant
def nothing_is_checked() -> None:
    put("check_file", nothing, integrity, checkouts, near)
    put("difference", lambda *_: "", integrity)


@mutant
def signatures_are_not_checked() -> None:
    put("_trust_problem", lambda *_: "", catalog.Catalog)


@mutant
def any_file_is_opened() -> None:
    def opened(path: str) -> Any:
        return io.FileIO(path)

    put("open_file", opened, manifest, integrity, local)


@mutant
def what_cannot_be_read_is_an_error() -> None:
    from curidask.errors import CacheError

    def unreadable(self: Any, name: str, error: Exception) -> Exception:
        return CacheError(f"{name} cannot be read: {error}")

    put("_unreadable", unreadable, LocalObjects)


@mutant
def what_a_loader_cannot_read_is_an_error() -> None:
    put("_loaded", lambda store, source, cacher: cacher.load(), artifact_io)


@mutant
def json_is_parsed_as_it_comes() -> None:
    def parsed(data: Any, most_bytes: int = 0) -> Any:
        return json.loads(data)

    put("parse_json", parsed, manifest)


@mutant
def names_control_the_terminal() -> None:
    from curidask.session import terminal

    put("_CONTROLS", manifest.re.compile("(?!)"), manifest)
    put("for_terminal", str, terminal)


# --- how something is written ----------------------------------------------------------------------------------------
@mutant
def links_are_followed() -> None:
    put("_own_path", LocalObjects._path, LocalObjects)


@mutant
def manifests_come_first() -> None:
    usual = artifacts.ArtifactStore._put

    def wrong(self: Any, prepared: Any, data: bytes, seen: Any, old: Any) -> None:
        self.objects.write(manifest_name(prepared.stem), data)
        usual(self, prepared, data, seen, old)

    put("_put", wrong, artifacts.ArtifactStore)


@mutant
def files_are_written_in_place() -> None:
    usual = LocalObjects.write

    def in_place(self: Any, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        if exclusive:
            return usual(self, name, data, exclusive=True)
        target = self._path(name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        local._write_all(fd, data)
        os.close(fd)
        return True

    put("write", in_place, LocalObjects)


@mutant
def writing_stops_half_way() -> None:
    put("_write_all", lambda fd, data: os.write(fd, data), local)


@mutant
def old_manifests_stay_while_payload_is_replaced() -> None:
    put("_remove", nothing, artifacts.ArtifactStore)


@mutant
def part_of_a_call_is_kept() -> None:
    put("_is_partly_there", lambda self: False, task_runner._Run)


# --- claims, and what is left ----------------------------------------------------------------------------------------
@mutant
def claims_are_ignored() -> None:
    put("take", lambda self, stem, supersedes=-1: Claim(stem, 0), Claims)


@mutant
def creation_is_not_exclusive() -> None:
    def linked(temporary: str, target: str, data: bytes, **_: Any) -> bool:
        shutil.copyfile(temporary, target)
        return True

    put("_link", linked, local)
    put("link", lambda self, source, name: linked(self._path(source), self._path(name), b""), LocalObjects)
    put("probe_exclusive", lambda self: True, LocalObjects)


@mutant
def generations_are_ignored() -> None:
    put("require", nothing, Claims)


@mutant
def whoever_was_taken_over_releases_all() -> None:
    usual = Renewer.drop

    def drop(self: Renewer, name: str) -> bool:
        usual(self, name)
        return True

    def close(self: Claims, stems: Any) -> None:
        self.objects.remove(self.objects.list(claims.PREFIX))

    put("drop", drop, Renewer)
    put("close", close, Claims)
    put("require", nothing, Claims)


@mutant
def claims_are_left() -> None:
    put("release", nothing, Claims)
    put("close", nothing, Claims)


@mutant
def working_folders_are_left() -> None:
    put("clean", nothing, Workspaces)
    put("tidy", nothing, Workspaces)


@mutant
def temporary_files_are_left() -> None:
    put("remove_tree", nothing, local)


# --- what is only told -----------------------------------------------------------------------------------------------
@mutant
def streams_forgive_nothing() -> None:

    put("make_forgiving", nothing, exit_codes, exit_codes)


@mutant
def runs_share_a_reference() -> None:
    def shared(name: str, runs: Any, *, reserve: bool) -> tuple[int, str]:
        number, reference = run_records._next_reference(name, runs)
        (runs / reference).mkdir(parents=True, exist_ok=True)
        return number, reference

    put("new_reference", shared, run_records)
