"""``curidask cache``: look at the cache, check it, clean it up, and copy artifacts between its tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
