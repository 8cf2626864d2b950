"""Run commands in processes forked from one that has imported what they need; standard library only.

It runs in the environment whose commands it runs: ``python forker.py MODULE...`` imports the modules and answers lines
of JSON. Each command is a process of its own with the ``__main__``, folder, environment, arguments, search path and
output files that it would have if it was started.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import multiprocessing.process
import os
import signal
import sys
import threading
import time
import traceback
import types
from typing import Any


def serve(modules: list[str]) -> None:
    """Answer requests until there are no more."""
    for name in modules:
        importlib.import_module(name)
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _be(request)
        print(json.dumps(_wait(child, request["seconds"])), file=answers, flush=True)


def _wait(child: int, seconds: float) -> int:
    """The exit code of a command, which is ended when it takes too long; nothing that it started is left."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        # It stays a zombie meanwhile, so that no other process has its number.
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            break
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _be(request: dict[str, Any]) -> None:
    """Be the command, in a forked process."""
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in enumerate(("stdout", "stderr"), start=1):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.chdir(request["folder"])
        multiprocessing.process.ORIGINAL_DIR = request["folder"]  # where processes start that this one starts
        os.environ.clear()
        os.environ.update(request["env"])
        code = _exit_code(request["script"], request["arguments"])
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(script: str, arguments: list[str]) -> int:
    """Run a file as Python runs it."""
    sys.argv[:] = [script, *arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    main = types.ModuleType("__main__")
    main.__file__ = os.path.abspath(script)
    sys.modules["__main__"] = main
    try:
        with open(script, encoding="utf-8") as file:
            code = compile(file.read(), main.__file__, "exec")
        exec(code, main.__dict__)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1:])
