"""Pickle where it can, cloudpickle where it must.

On a worker the project's modules are set up under their own names (`curidask.executors.shipping`), so plain pickle
writes the project's classes by reference on both sides, and a value means the same class wherever it is read.
"""

from __future__ import annotations

import pickle
from typing import Any


def dumps(obj: Any) -> bytes:
    """Pickle a value.

    Raises
    ------
    Exception
        What cloudpickle raises, when it cannot either.
    """
    try:
        return pickle.dumps(obj, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        import cloudpickle

        return bytes(cloudpickle.dumps(obj))


def loads(data: bytes) -> Any:
    """Load what `dumps` made."""
    return pickle.loads(data)
