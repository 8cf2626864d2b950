"""The commands ``curidask cache``.

Public are `commands` and `common`.
"""
