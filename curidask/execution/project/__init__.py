"""The project's code where its stages run: which files travel, how they are imported there, and whose a file is.

Public are `project_files`, `importer`, `imports` and `file_owners`.
"""
