"""A real SLURM with two virtual nodes on this machine, without systemd: its daemons are children of the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import Processes, free_port, install, wait_for

READY_SECONDS = 60.0

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A SLURM that runs."""

    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """What its commands need in their environment."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def command(self, *arguments: str) -> str:
        """Run one of its commands; what it prints."""
        done = subprocess.run(arguments, capture_output=True, text=True, env=os.environ | self.env, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def jobs(self) -> list[str]:
        """The numbers of the jobs that run."""
        return self.command("squeue", "--noheader", "--format=%i", "--states=RUNNING").split()

    def is_ready(self) -> bool:
        """Whether both nodes take jobs."""
        done = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%T"],
            capture_output=True,
            text=True,
            env=os.environ | self.env,
            check=False,
        )
        return done.stdout.split() == ["idle", "idle"]


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Start SLURM; its packages are installed when they are missing."""
    # Not below pytest's folder: munge wants one that everybody may enter.
    with tempfile.TemporaryDirectory(prefix="curidask-slurm-") as folder, _slurm(Path(folder)) as made:
        yield made


@contextmanager
def _slurm(folder: Path) -> Iterator[Slurm]:
    install("slurm-wlm", "munge", command="slurmctld")
    install("munge", command="munged")
    munge = folder / "munge"
    munge.mkdir()
    (folder / "state").mkdir()
    folder.chmod(0o755)
    munge.chmod(0o711)
    key = munge / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    text = CONFIGURATION.format(host=socket.gethostname().partition(".")[0], folder=folder, ports=free_ports())
    made = Slurm(folder)
    Path(made.env["SLURM_CONF"]).write_text(text)
    files = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    with Processes(folder / "output") as processes:
        env = os.environ | made.env
        options = [f"--{name}={munge}/munge.{ending}" for name, ending in files.items()]
        processes.start("munged", ["munged", "--foreground", *options], env=env)
        wait_for((munge / "munge.sock").exists, what="munge")
        processes.start("slurmctld", ["slurmctld", "-D", "-c"], env=env)
        for node in ("n1", "n2"):
            processes.start(node, ["slurmd", "-D", "-N", node], env=env)
        wait_for(made.is_ready, READY_SECONDS, f"SLURM: {processes.said('slurmctld')}")
        yield made


def free_ports() -> list[int]:
    """Three ports that differ."""
    found: list[int] = []
    while len(found) < 3:
        port = free_port()
        if port not in found:
            found.append(port)
    return found
