"""Where artifacts lie: atomic, verified artifacts, claims on what is computed, and several places as one.

Public are `base` and `factory`, for those who have a store; `manifest`, `payload`, `workspace`, `claims`, `untrusted`.
"""
