"""Artifacts of earlier versions: what their pickles and their keys name stays."""

from __future__ import annotations

import pickle

import pytest

from curidask.core.code.identity import public_module
from curidask.core.preview import ArtifactRepresentation
from curidask.core.spec import OutputSpec, StageOptions, StageSpec


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("curidask.executors.environment", "ManagerFacts"),
        ("curidask.executors.stage_record", "_found_again"),
        ("curidask.graph", "RecordInfo"),
        ("curidask.reporting.figures", "FigureReporter"),
        ("curidask.reporting.reportables", "HTMLReporter"),
        ("curidask.reporting.tables", "DFReporter"),
        ("curidask.representation", "ArtifactRepresentation"),
        ("curidask.standing", "_held"),
        ("curidask.standing_pickler", "_made_view"),
    ],
)
def test_what_old_pickles_name_is_found(module: str, name: str) -> None:
    assert pickle.loads(f"c{module}\n{name}\n.".encode()).__name__ == name


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        (ArtifactRepresentation, "curidask.representation"),
        (OutputSpec, "curidask.stage_spec"),
        (StageOptions, "curidask.stage_options"),
        (StageSpec, "curidask.stage_spec"),
    ],
)
def test_keys_name_what_is_ours_where_it_was(kind: type, module: str) -> None:
    assert public_module(kind.__module__, kind.__qualname__) == module
