"""Where workers come from: context managers that give a connected client and end what they started."""

from curidask.clusters.base import SETTINGS, Connection, available_cores, quiet_dask
from curidask.clusters.registry import Opener, choose
from curidask.clusters.settings import ClusterSettings, read_settings

__all__ = [
    "SETTINGS",
    "ClusterSettings",
    "Connection",
    "Opener",
    "available_cores",
    "choose",
    "quiet_dask",
    "read_settings",
]
