"""Where pickles in caches name what is in `curidask.execution`."""
