"""The other batch systems: their commands stand in as scripts that run a job at once; everything else is real."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.clusters.conftest import counted
from tests.conftest import Project
from tests.processes import wait_for

SUBMIT = """#!/bin/sh
# Run the job in the background, with the number of its process as the job's number.
script=$(mktemp {folder}/job-XXXXXX)
if [ -n "$1" ]; then cat "$1" > "$script"; else cat > "$script"; fi
setsid sh "$script" > "$script.out" 2> "$script.err" < /dev/null &
echo $! >> {folder}/numbers
echo "Your job <$!> has been submitted"
"""

CANCEL = """#!/bin/sh
kill -TERM -- "-$1"
"""

COMMANDS = {"pbs": ("qsub", "qdel"), "sge": ("qsub", "qdel"), "lsf": ("bsub", "bkill")}


@pytest.mark.parametrize("kind", ["pbs", "sge", "lsf"])
def test_jobs_become_workers_and_are_cancelled(demo: Project, calls: Path, kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "system"
    folder.mkdir()
    for name, text in zip(COMMANDS[kind], (SUBMIT, CANCEL), strict=True):
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    demo.write(
        "curidask.toml",
        f"""
        [cluster.batch]
        kind = "{kind}"
        n_workers = 1
        memory = "1GB"
        interface = "lo"
        """,
    )
    done = demo.experiment("demo", "--cluster", "batch", env={"PATH": f"{folder}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stderr
    assert len(counted(calls)) == 13
    (number,) = (folder / "numbers").read_text().split()
    wait_for(lambda: not Path(f"/proc/{number}").exists(), 15, "the job to end")
    (script,) = [path for path in folder.glob("job-*") if "." not in path.name]
    assert "--dashboard-address 127.0.0.1:0" in script.read_text()
    assert "--tls-key" in script.read_text()
    assert "--lifetime-stagger" in script.read_text()
    assert "CURIDASK_JOB_ENDS_AT" in script.read_text()


@pytest.mark.parametrize("kind", ["pbs", "sge", "lsf", "slurm"])
def test_machine_that_cannot_submit(demo: Project, calls: Path, kind: str, tmp_path: Path) -> None:
    demo.write("curidask.toml", f'[cluster.batch]\nkind = "{kind}"\nmemory = "1GB"')
    refused = demo.experiment("demo", "--cluster", "batch", env={"PATH": str(tmp_path)})
    assert refused.returncode == 2
    assert "There is no command" in refused.stderr
    assert counted(calls) == {}
