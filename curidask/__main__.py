"""``python -m curidask`` is ``curidask``."""

from curidask.cli import curidask_main

if __name__ == "__main__":
    curidask_main()
