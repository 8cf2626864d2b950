"""The driver of a run as a SLURM job of its own, which submits its workers itself, so that no login has to stay."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curidask.clusters.settings import ClusterSettings
from curidask.core.spec import read_bytes
from curidask.errors import ClusterError, ConfigurationError

ASK_SECONDS = 10
MEMORY = "2GB"

INTERRUPT_SECONDS = 120
"""How long before the end of its job a driver is told to end as by Ctrl-C."""

SCRIPT = """#!/usr/bin/env bash
# What this job was given (memory, processors, name) is not for the jobs that it submits.
for name in "${{!SLURM_@}}" "${{!SBATCH_@}}"; do
    [ "$name" = SLURM_CONF ] || unset "$name"
done
exec {command}
"""

CODE = re.compile(r"\bJobState=(\w+).*?\bExitCode=(\d+):(\d+)", re.DOTALL)
UNDER_WAY = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED")


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """A job."""

    number: str

    @property
    def label(self) -> str:
        """Its number."""
        return f"SLURM job {self.number}"

    @property
    def how_to_stop(self) -> str:
        """End it as Ctrl-C would."""
        return f"scancel --signal=INT --batch {self.number}"

    def exit_code(self) -> int | None:
        """None while it waits or runs, or when nobody can say."""
        asked = subprocess.run(
            ["scontrol", "show", "job", self.number], capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
        found = CODE.search(asked.stdout)
        if found is None or found[1] in UNDER_WAY:
            return None
        return int(found[2]) or int(found[1] != "COMPLETED")


def submit_driver(
    settings: ClusterSettings, command: Sequence[str], output: Path, environment: Mapping[str, str]
) -> SlurmJob:
    """Submit a command as a job that runs in this folder with these variables.

    Parameters
    ----------
    settings : ClusterSettings
        Of the kind ``slurm``.
    output : Path
        A file for what it prints, on a disk that the nodes share.
    environment : mapping of str to str
        Variables beside those of this process.

    Raises
    ------
    ConfigurationError
        On a machine that submits no jobs.
    ClusterError
        When SLURM refuses.
    """
    if shutil.which("sbatch") is None:
        raise ConfigurationError(
            "There is no command sbatch on this machine, which submits the jobs.",
            where=settings.where,
            fix="run this on a machine of the cluster from which jobs can be submitted",
        )
    done = subprocess.run(
        ["sbatch", "--parsable", *_directives(settings, output)],
        input=SCRIPT.format(command=shlex.join(command)),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ClusterError(
            f"SLURM does not take the driver's job: {' '.join(done.stderr.split())}",
            where=settings.where,
            fix="correct the table `driver` of the cluster, or its queue and account",
        )
    return SlurmJob(done.stdout.strip().partition(";")[0])


def _directives(settings: ClusterSettings, output: Path) -> list[str]:
    shared = {key: settings.options[key] for key in ("queue", "account") if key in settings.options}
    given = {**shared, **settings.driver}
    options = {
        "--job-name": "curidask-driver",
        "--ntasks": "1",
        "--cpus-per-task": "1",
        "--mem": _megabytes(given.get("memory", MEMORY), settings.where),
        "--time": given.get("walltime"),
        "--partition": given.get("queue"),
        "--account": given.get("account"),
        "--output": output,
        "--signal": f"B:INT@{INTERRUPT_SECONDS}",
    }
    own = [f"{name}={value}" for name, value in options.items() if value is not None]
    return [*own, *map(str, given.get("directives", ()))]


def _megabytes(value: Any, where: str) -> str:
    """Memory as SLURM writes it."""
    try:
        return f"{math.ceil(read_bytes(value) / 2**20)}M"
    except ValueError:
        raise ConfigurationError(
            f"The driver's memory is {value!r}.", where=where, fix='write a size such as "4GB"'
        ) from None
