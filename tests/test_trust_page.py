"""Each promise of ``docs/trust.md`` is held by tests that are there; some of them here."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

import curidask as cf
from curidask.caching import JsonCacher
from curidask.store.signing import VARIABLE

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "trust.md").read_text()

HELD = {
    "No manifest makes you read": [
        "test_strangers.py::test_a_digest_is_64_hex_digits_and_never_a_path",
        "test_strangers.py::test_a_digest_that_is_a_path_costs_the_reader_no_file",
        "contracts/test_artifacts.py::test_a_forged_manifest_cannot_name_files_outside",
        "contracts/test_copying.py::test_a_manifest_that_names_a_file_outside_is_no_manifest",
    ],
    "Nothing that lies behind a link": [
        "test_strangers.py::test_nothing_behind_a_link_is_changed",
        "test_strangers.py::test_a_link_in_the_place_of_a_folder_gives_way",
    ],
    "No manifest puts a file": [
        "test_strangers.py::test_tracked_names_are_those_of_the_stage",
        "test_strangers.py::test_a_foreign_manifest_replaces_nothing_in_the_readers_own_tier",
    ],
    "No claim, and nothing a run says": [
        "test_strangers.py::test_claims_of_the_wrong_form_hold_no_longer_than_ours",
        "test_strangers.py::test_no_claim_makes_anybody_crash_or_wait_for_ever",
        "test_strangers.py::test_what_runs_say_is_taken_whole_or_not_at_all",
        "test_strangers.py::test_nobody_waits_for_a_removal_of_the_wrong_form",
    ],
    "A pipe, socket or device": ["test_strangers.py::test_a_pipe_in_place_of_a_file_is_never_waited_for"],
    "What a newer curidask stored": [
        "test_strangers.py::test_a_manifest_of_a_newer_form_is_told_and_left_alone",
        "test_strangers.py::test_gc_and_the_lists_leave_a_newer_form_alone",
    ],
    "No kept reportable": [
        "test_strange_runs.py::test_a_kept_reportable_has_files_of_its_stage_only",
        "test_strange_runs.py::test_a_report_takes_no_file_that_a_record_names",
        "test_reporting.py::test_a_run_record_cannot_lead_out_of_its_folder",
    ],
    "Markup from a cache": [
        "test_strange_runs.py::test_a_fragment_does_no_harm",
        "test_strange_runs.py::test_no_mixture_of_fragments_does",
        "test_strange_runs.py::test_markup_that_was_changed_in_a_cache_is_harmless_where_it_is_shown",
        "test_strange_runs.py::test_the_pages_own_script_is_the_only_one",
    ],
    "One odd file hides": [
        "test_strange_runs.py::test_no_value_in_a_record_breaks_what_reads_it",
        "test_strange_runs.py::test_one_odd_record_hides_no_other_run",
        "test_strange_runs.py::test_one_odd_set_hides_no_other",
    ],
    "Names from a cache do not control": [
        "test_strangers.py::test_names_do_not_move_the_cursor",
        "test_strangers.py::test_what_the_command_says_has_colours_and_nothing_else",
        "test_strangers.py::test_the_commands_show_names_of_others_without_what_controls_a_terminal",
        "test_strange_runs.py::test_what_a_run_is_called_does_not_control_the_terminal",
    ],
    "Without a key, a file that was changed": ["test_signing.py::test_a_lazy_value_is_checked_when_it_is_loaded"],
    "What one of you stored": ["test_signing.py::test_a_store_with_a_key_reads_what_the_key_signed"],
    "The key never leaves": [
        "test_signing.py::test_a_key_is_in_nothing_that_travels_or_is_shown",
        "integration/test_signed_runs.py::test_no_secret_is_said_written_stored_or_sent",
    ],
    "An empty key": [
        "test_signing.py::test_a_variable_that_is_set_but_empty_is_an_error",
        "test_signing.py::test_a_file_that_cannot_serve",
    ],
    "Nothing that he wrote": [
        "test_signing.py::test_what_is_not_signed_by_us_is_not_there",
        "test_signing.py::test_with_a_key_every_file_is_hashed_whatever_is_configured",
    ],
    "What was checked is what is loaded": [
        "test_signing.py::test_in_a_folder_of_others_what_was_checked_is_what_is_loaded",
        "test_signing.py::test_whose_a_folder_is",
        "test_signing.py::test_tiers_with_a_key_go_through_private_copies_where_they_must",
    ],
    "A signed artifact does not pass": ["test_signing.py::test_a_signed_manifest_holds_for_its_own_artifact_only"],
    "He puts nothing where worker processes import from": [
        "clusters/test_fork_server.py::test_what_workers_write_is_private_and_nothing_is_imported_from_there"
    ],
    "He reads and changes nothing in working folders": ["test_signing.py::test_working_folders_are_private"],
    "A near cache, or a folder in its place": [
        "test_signing.py::test_a_near_cache_that_a_group_can_write_to_is_made_private",
        "contracts/test_near.py::test_a_folder_of_somebody_else_is_refused",
        "contracts/test_near.py::test_a_link_or_a_folder_open_to_all_is_refused",
    ],
    "He reads no signing key": ["test_signing.py::test_a_file_that_cannot_serve"],
    "The report server answers": ["test_reporting.py::test_the_server_answers_to_its_own_name_only"],
    "It gives nothing but": ["test_reporting.py::test_the_server_shows_nothing_else"],
    "Pages that users put": [
        "test_reporting.py::test_what_users_put_in_is_sandboxed",
        "test_reporting.py::test_no_spelling_of_an_address_takes_the_sandbox_away",
        "test_reporting.py::test_a_link_or_a_folders_own_page_takes_no_sandbox_away",
    ],
}


def promises() -> list[str]:
    rows = re.findall(r"^\| (.+?) \| .+ \|$", PAGE, re.MULTILINE)
    return [row for row in rows if row != "promise"]


def test_each_promise_is_held_by_a_test() -> None:
    made = promises()
    assert len(made) == len(HELD)
    for promise, beginning in zip(made, HELD, strict=True):
        assert promise.startswith(beginning)


@pytest.mark.parametrize("name", sorted({name for names in HELD.values() for name in names}))
def test_the_tests_are_there(name: str) -> None:
    file, _, function = name.partition("::")
    defined = ast.parse((ROOT / "tests" / file).read_text()).body
    assert function in {node.name for node in defined if isinstance(node, ast.FunctionDef)}


def test_signing_gives_no_freshness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says so: an older signed artifact that is put back is loaded."""
    monkeypatch.setenv(VARIABLE, "the key of our team")
    now = tmp_path / "now"
    now.write_text("1")

    @cf.stage(None, ["value"], [JsonCacher])
    def read(record: cf.Record) -> int:
        return int(now.read_text())

    def value(*, overwrite: bool = False) -> int:
        runs = str(tmp_path / "runs")
        with cf.ArtifactManager("exp", cache_path=str(tmp_path / "cache"), runs_path=runs, parallel=0) as manager:
            manager.overwrite = overwrite
            return int(read(cf.Record(manager, None)).state["value"])

    assert value() == 1
    cache = tmp_path / "cache"
    old = {name: (cache / name).read_bytes() for name in os.listdir(cache) if name.startswith("exp_")}
    for name in old:
        (cache / name).unlink()
    now.write_text("2")
    assert value() == 2
    for name, data in old.items():
        (cache / name).write_bytes(data)
    assert value() == 1
    assert "**Freshness.**" in PAGE
