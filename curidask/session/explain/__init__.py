"""Why a stage runs or is reused, what differs between artifacts and between runs.

Every module is public.
"""
