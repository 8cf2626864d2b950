"""What looks at a store as a whole: what it holds, who uses it, what can go, whether it is sound.

Every module but `removal` and `nesting` is public.
"""
