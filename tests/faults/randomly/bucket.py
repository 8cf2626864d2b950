"""Scenarios whose last tier is a place on an S3 server."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.randomly.trial import Trial


@dataclass
class BucketTrial(Trial):
    """A trial with a folder in the place of the bucket, which is damaged and then brought there.

    Attributes
    ----------
    url : str
        Where its place lies.
    """

    url: str = ""
    _place: str = field(default_factory=lambda: f"faults-{os.urandom(6).hex()}")
    _there: dict[str, bytes] = field(default_factory=dict)

    @property
    def damaged(self) -> Path:
        return self.team

    def tiers(self) -> list[str]:
        place = f"{self.url}/{self._place}"
        return [place] if self.scenario.tiers == "one" else ["data/cache", place]

    def _warm(self, templates: Path) -> None:
        super()._warm(templates)
        if self.scenario.tiers == "one":
            shutil.move(self.cache, self.team)

    def settle(self) -> None:
        """Bring what lies in the folder to the bucket; what is no plain file is none there."""
        plain = [path for path in self.team.rglob("*") if path.is_file() and not path.is_symlink()]
        now = {path.relative_to(self.team).as_posix(): path.read_bytes() for path in plain}
        changed = {name: data for name, data in now.items() if self._there.get(name) != data and fits(name)}
        gone = [name for name in self._there if name not in now]
        self._there = now
        self._asked(lambda place: ([place.write(name, data) for name, data in changed.items()], place.remove(gone)))

    def elsewhere(self) -> list[str]:
        listed: list[str] = self._asked(lambda place: [*place.list(), *place.list(".")])
        return [f"bucket/{name}" for name in listed]

    def _asked(self, ask: Callable[[Any], Any]) -> Any:
        """What is found in the bucket, asked by a process of its own: clients do not outlive a fork."""
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                from curidask.store.backends.base import open_objects

                os.write(writing, json.dumps(ask(open_objects(f"{self.url}/{self._place}"))).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as said:
            data = said.read()
        os.waitpid(pid, 0)
        return json.loads(data)


def fits(name: str) -> bool:
    """Whether an object can have that name on the server."""
    return name.isprintable() and max(len(part) for part in name.split("/")) < 200
