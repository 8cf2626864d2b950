"""The commands ``experiment`` and ``curidask``."""
