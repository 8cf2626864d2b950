"""Where tasks are carried out: in this process or on dask workers, behind one Protocol.

Public are `base` (the Protocol and what travels), `environment`, `inprocess`, `task_runner`, `artifact_io`,
`tracebacks` and the packages `process`, `project` and `dask`.
"""
