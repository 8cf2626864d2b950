"""The near cache: files of shared stores on a machine's own disk.

Public is `near`.
"""
