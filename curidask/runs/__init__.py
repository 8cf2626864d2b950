"""What is kept of a run, and what is read of it later: its record, status, reportables, parameter sets, folder.

Public are `record`, `schema`, `status`, `export`, `layout`, `param_registry`, `reportables` and `lineage`; the session
makes the others.
"""
