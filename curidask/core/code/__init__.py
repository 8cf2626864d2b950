"""What code is, by its source: the identity of functions and classes, what a stage reaches and what it reads.

Every module is public.
"""
