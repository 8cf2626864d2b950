"""``python -m curidask`` is ``curidask``."""

from curidask.cli.curidask import main

if __name__ == "__main__":
    main()
