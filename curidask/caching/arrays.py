"""A cacher for numpy arrays."""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

from curidask.caching._optional import load_package, require, type_name
from curidask.caching.base import Cacheable
from curidask.core.artifact_names import safe_part
from curidask.core.code.canonical_source import counted_again
from curidask.core.keywords import keywords
from curidask.errors import CacheError, ConfigurationError

__all__ = ["NumpyCacher"]

FORM = "form.json"
FORMS = {"array": list, "list": list, "tuple": tuple, "dict": dict}
MEMBER_BYTES = 120


class NumpyCacher(Cacheable):
    """Stores numpy arrays: one, or a list, a tuple or a dict of them, which come back in the same form.

    One ``.npz`` file holds them, which ``numpy.load`` reads too. With `mmap_mode` each is a plain ``.npy`` file in a
    folder instead, since what is inside an archive cannot be mapped. Either loads whichever was written. Nothing is
    ever pickled, so loading executes nothing; object arrays are refused.

    Parameters
    ----------
    path_override : str or Path, optional
    compressed : bool
        Compress the ``.npz`` file: smaller, and several times slower to write.
    mmap_mode : {"r", "c"}, optional
        Load arrays as maps of their files, read when touched: read-only, or copied on the first write. In both cases
        the stored files never change. What was stored as one ``.npz`` is read into memory all the same.
    **options
        As for `Cacheable`.

    Notes
    -----
    Dtype, shape, byte order and memory order are kept. A numpy scalar stays one. Keys of a dict are texts or integers.
    """

    extension = ".npz"
    compressed: bool = False
    mmap_mode: str | None = None

    @keywords()
    def __init__(
        self,
        path_override: str | Path | None = None,
        *,
        compressed: bool = False,
        mmap_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path_override, **options)
        if mmap_mode not in (None, "r", "c"):
            raise ConfigurationError(
                f"The mmap_mode of a NumpyCacher is {mmap_mode!r}.",
                fix="use 'r' (read-only) or 'c' (copied on write); other modes would change what is stored",
            )
        if mmap_mode and compressed:
            raise ConfigurationError(
                "A NumpyCacher was asked for both compressed=True and an mmap_mode.",
                fix="choose one: what is compressed cannot be mapped",
            )
        self.compressed = compressed
        self.mmap_mode = mmap_mode

    def check_ready(self) -> None:
        """Raise a `CacheError` that says what to install, when numpy is missing."""
        require("numpy", "NumpyCacher")

    def check(self) -> bool:
        """Whether the arrays are there, in either layout."""
        return super().check() or os.path.isdir(self._folder_path)

    def save(self, obj: Any) -> str:
        """Write the arrays; the path of the file, or of the folder.

        Raises
        ------
        CacheError
            Naming what is no array, and what could only be stored as a pickle.
        """
        form, arrays = self._taken_apart(obj)
        # By itself the cacher may find what an earlier save left there, in the other layout or under other names.
        shutil.rmtree(self._folder_path, ignore_errors=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that numpy before 1.17 cannot read some names of fields
            if self.mmap_mode:
                Path(self.get_path()).unlink(missing_ok=True)
                self._save_folder(form, arrays)
                return self._folder_path
            self._save_archive(form, arrays)
            return self.get_path()

    def load(self) -> Any:
        """Read the arrays."""
        load = self._load_archive if os.path.isfile(self.get_path()) else self._load_folder
        form, arrays = counted_again(load)  # numpy reads what an array is as Python source
        keys = form["keys"]
        values = [array[()] if kind == "scalar" else array for array, kind in zip(arrays, form["kinds"], strict=True)]
        if form["form"] == "array":
            return values[0]
        return dict(zip(keys, values, strict=True)) if form["form"] == "dict" else FORMS[form["form"]](values)

    # --- value to arrays ---------------------------------------------------------------------------------------------
    def _taken_apart(self, value: Any) -> tuple[dict[str, Any], list[Any]]:
        if type(value) is dict:
            kind, keys, items = "dict", list(value), list(value.values())
        elif type(value) in (list, tuple):
            kind, keys, items = type(value).__name__, list(range(len(value))), list(value)
        else:
            kind, keys, items = "array", ["array"], [value]
        members = [self._member(key) for key in keys]
        if len({member.casefold() for member in members}) < len(members):
            members = [f"{number}_{member}" for number, member in enumerate(members)]
        arrays, kinds = [], []
        for key, item in zip(keys, items, strict=True):
            array, form = self._checked(item, "" if kind == "array" else f"[{key!r}]")
            arrays.append(array)
            kinds.append(form)
        return {"form": kind, "keys": keys, "kinds": kinds, "members": members}, arrays

    def _member(self, key: Any) -> str:
        if type(key) not in (str, int):
            raise CacheError(
                f"The dict has the key {key!r}, a {type(key).__name__}.",
                where=self.name or "",
                fix="use texts or integers as keys",
            )
        return safe_part(str(key), MEMBER_BYTES) + ".npy"

    def _checked(self, item: Any, place: str) -> tuple[Any, str]:
        numpy = load_package("numpy", "NumpyCacher")
        if isinstance(item, numpy.generic):
            array, kind = numpy.asarray(item), "scalar"
        elif type(item) in (numpy.ndarray, numpy.memmap):
            array, kind = item.view(numpy.ndarray), "array"
        else:
            raise self._refused(
                f"The value{place} is a {type_name(item)}, not a numpy array",
                "convert it with numpy.asarray (its own type is then lost), or use another cacher, such as "
                "ParquetCacher for tables and PickleCacher for anything",
            )
        if not _keeps(numpy, array.dtype):
            raise self._refused(
                f"The array{place} has the dtype {array.dtype}, which numpy could only store as a pickle or as "
                "something else",
                "convert it with .astype(...) to numbers, fixed-width texts or dates, or use PickleCacher",
            )
        return array, kind

    def _refused(self, what: str, fix: str) -> CacheError:
        return CacheError(f"{what}.", where=self.name or "", fix=fix)

    # --- one archive -------------------------------------------------------------------------------------------------
    def _save_archive(self, form: dict[str, Any], arrays: list[Any]) -> None:
        write_array = load_package("numpy.lib.format", "NumpyCacher").write_array
        method = zipfile.ZIP_DEFLATED if self.compressed else zipfile.ZIP_STORED
        with zipfile.ZipFile(self.get_path(), "w") as archive:
            for name, array in zip(form["members"], arrays, strict=True):
                # Made by hand, it has a fixed date: the same arrays give the same bytes.
                entry = zipfile.ZipInfo(name)
                entry.compress_type = method
                with archive.open(entry, "w", force_zip64=True) as file:
                    write_array(file, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(FORM), json.dumps(form))

    def _load_archive(self) -> tuple[dict[str, Any], list[Any]]:
        numpy = load_package("numpy", "NumpyCacher")
        with numpy.load(self.get_path(), allow_pickle=False) as archive:
            if FORM not in archive.files:  # numpy.savez wrote it
                form = {"form": "dict", "keys": archive.files, "kinds": ["array"] * len(archive.files)}
                return form, [archive[name] for name in archive.files]
            form = json.loads(archive[FORM])
            return form, [archive[name] for name in form["members"]]

    # --- a folder of files -------------------------------------------------------------------------------------------
    def _save_folder(self, form: dict[str, Any], arrays: list[Any]) -> None:
        numpy = load_package("numpy", "NumpyCacher")
        folder = self.get_dir("arrays")
        for name, array in zip(form["members"], arrays, strict=True):
            numpy.save(os.path.join(folder, name), array, allow_pickle=False)
        with open(os.path.join(folder, FORM), "w", encoding="utf-8") as file:
            json.dump(form, file)

    def _load_folder(self) -> tuple[dict[str, Any], list[Any]]:
        numpy = load_package("numpy", "NumpyCacher")
        with open(os.path.join(self._folder_path, FORM), encoding="utf-8") as file:
            form = json.load(file)
        return form, [self._load_file(numpy, os.path.join(self._folder_path, name)) for name in form["members"]]

    @property
    def _folder_path(self) -> str:
        """The folder that `get_dir` would make."""
        return self._dir("arrays")

    def _load_file(self, numpy: Any, path: str) -> Any:
        try:
            return numpy.load(path, mmap_mode=self.mmap_mode, allow_pickle=False)
        except ValueError:  # nothing can be mapped of an array without elements, or of none at all
            return numpy.load(path, allow_pickle=False)


def _keeps(numpy: Any, dtype: Any) -> bool:
    """Whether a file would give back this dtype."""
    if dtype.hasobject:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it would take another dtype, which is looked at here
        described = numpy.lib.format.dtype_to_descr(dtype)
        return bool(numpy.lib.format.descr_to_dtype(described) == dtype) and dtype.metadata is None
