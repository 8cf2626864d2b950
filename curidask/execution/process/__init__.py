"""What surrounds a stage in the process that runs it: its output, its state, its memory, and what is left of it.

Public are `context`, `tee`, `log_relay`, `stage_warnings` and `random_state`.
"""
