"""Wait until something accepts connections:  python wait.py HOST:PORT SECONDS."""

from __future__ import annotations

import socket
import sys
import time

TRY_SECONDS = 5
PAUSE_SECONDS = 1


def wait(address: str, seconds: float) -> None:
    """Return when the address accepts a connection; end the process with a message when it does not in time."""
    host, _, port = address.rpartition(":")
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, int(port)), TRY_SECONDS).close()
        except OSError as error:
            if time.monotonic() > end:
                sys.exit(f"{address} does not answer after {seconds:g} s: {error}")
            time.sleep(PAUSE_SECONDS)
        else:
            return


if __name__ == "__main__":
    wait(sys.argv[1], float(sys.argv[2]))
