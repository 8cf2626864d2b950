"""From a call of a stage to its result: tracing, planning, running, reading, and what is told of it.

Public are `config`, `events`, `project_modules`, `terminal` and `progress`; the manager puts the others together.
"""
