"""``curidask cache``: look at the cache, check it, clean it up, and copy artifacts between its tiers."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import click

from curidask.cli.cache_view import (
    Filter,
    NumberedTier,
    cache_options,
    choose_tiers,
    filter_options,
    one_tier,
    open_cache,
    print_json,
    print_problems,
    print_table,
    progress,
    take,
)
from curidask.cli.errors import ChoiceError

if TYPE_CHECKING:
    from curidask.store.inventory import Entry, Inventory
