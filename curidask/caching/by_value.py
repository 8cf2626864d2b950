"""Pickles of code by value that say which file the code is from, as tracebacks and logs do where they are loaded.

cloudpickle left the file in until 3.1.2 and leaves it out since.
"""

from __future__ import annotations

import io
import pickle
from types import CodeType
from typing import Any

import cloudpickle

FILENAME = 10
"""The place of the file's name among the arguments of `types.CodeType`."""


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle's pickler, for code that keeps its file's name."""

    def reducer_override(self, obj: Any) -> Any:
        """Reduce code with the name of its file, and all else as cloudpickle does."""
        if not isinstance(obj, CodeType):
            return super().reducer_override(obj)
        make, arguments = self.dispatch_table[CodeType](obj)
        # A text of its own for each code, so that the bytes do not depend on which codes share it in memory.
        file = "".join(obj.co_filename)
        return make, (*arguments[:FILENAME], file, *arguments[FILENAME + 1 :])


def dumps(obj: Any) -> bytes:
    """Pickle a value into bytes."""
    buffer = io.BytesIO()
    Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(obj)
    return buffer.getvalue()
