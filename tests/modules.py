"""Projects whose modules are texts in a dict, imported for as long as a test wants it."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from textwrap import dedent
from types import ModuleType
from typing import Any

from curidask.core.code.scopes import ModuleSource


class Project(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Modules by name; a package by its name and ``.__init__``. A text that is None is an extension module's."""

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self.texts = {name: text if text is None else dedent(text) for name, text in texts.items()}

    def module(self, name: str) -> ModuleSource | None:
        if f"{name}.__init__" in self.texts:
            return ModuleSource((self.texts[f"{name}.__init__"] or "",), name)
        if name in self.texts:
            text = self.texts[name]
            return ModuleSource(() if text is None else (text,), name.rpartition(".")[0])
        return ModuleSource(("",), name) if any(other.startswith(f"{name}.") for other in self.texts) else None

    def text(self, filename: str) -> str | None:
        return None

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if self.module(name) is None:
            return None
        is_package = name not in self.texts
        return importlib.util.spec_from_loader(name, self, origin=f"<{name}>", is_package=is_package)

    def get_source(self, name: str) -> str | None:
        source = self.module(name)
        return "".join(source.texts) if source is not None else None


@contextmanager
def imported(texts: Mapping[str, str | None], name: str) -> Iterator[tuple[ModuleType, Project]]:
    project = Project(texts)
    hidden = {other: sys.modules.pop(other) for other in list(sys.modules) if project.module(other) is not None}
    before = dict(sys.modules)
    sys.meta_path.insert(0, project)
    try:
        yield importlib.import_module(name), project
    finally:
        sys.meta_path.remove(project)
        for other in set(sys.modules) - set(before):
            if project.module(other) is not None:
                del sys.modules[other]
        sys.modules.update(hidden)
