"""Functions that older projects know from this place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curidask.record import Record


def add_args_combo_hash(active_record: Record, records: Sequence[Record]) -> str:
    """Let a record stand for all the records that go into it; see `Record.set_aggregate`.

    Parameters
    ----------
    active_record : Record
        The aggregate's own.
    records : sequence of Record
        In the order that counts.

    Returns
    -------
    str
        The combined hash, 32 hex digits.
    """
    active_record.set_aggregate(records)
    return active_record.get_hash()
