"""How jobs reach the workers of dask, and what comes back of them.

Public is `executor`; `preload`, `plugins` and `worker_tasks` are what workers load.
"""
