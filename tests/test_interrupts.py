"""An interrupt that has to wait is delivered once, afterwards, to whoever would have got it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from curidask.store.interrupts import held_back


def test_an_interrupt_comes_after_the_block() -> None:
    done = []
    before = signal.getsignal(signal.SIGINT)

    def block() -> None:
        with held_back():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_of_the_block_is_told_rather_than_the_interrupt() -> None:
    def block() -> None:
        with held_back():
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        block()


def test_in_another_thread_nothing_changes() -> None:
    said = []

    def work() -> None:
        with held_back():
            said.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [signal.getsignal(signal.SIGINT)]


INTERRUPTED = """
import os, signal, sys, threading
import curidask as cf

@cf.stage(None, ["n"])
def two(record):
    return 2

class Interrupts:  # in the middle of the import of dask
    def find_spec(self, name, path=None, target=None):
        if name == "distributed.batched":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
with cf.ArtifactManager("cells", parallel=1) as manager:
    for _ in range(2):
        try:
            print(two(cf.Record(manager, None)).state["n"])
        except KeyboardInterrupt:
            print("interrupted")
"""


def test_an_interrupt_while_dask_is_imported_leaves_a_usable_session(tmp_path: os.PathLike[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["interrupted", "2"], done.stderr
