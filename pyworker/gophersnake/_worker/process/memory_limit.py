"""The memory limit of a worker."""

from __future__ import annotations

import resource

ROOM = 64 << 20
"""How much may be taken beyond the limit to tell that it was reached."""


def limit(size: int) -> None:
    """Bound the private writable memory of this process, in bytes; 0 is no bound.

    Where the system does not bound that (Linux does), there is none. A bound that
    is there already stays where it is lower.
    """
    if size <= 0:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = size + ROOM if hard == resource.RLIM_INFINITY else min(size + ROOM, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (min(size, most), most))


def make_room() -> None:
    """Lift the limit a little, after it was reached."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
