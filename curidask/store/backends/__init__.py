"""Named bytes in a folder or behind a URL: the only place that knows fsspec and obstore.

Public are `base`, which opens a place, `options`, `errors` and `disk_errors`.
"""
