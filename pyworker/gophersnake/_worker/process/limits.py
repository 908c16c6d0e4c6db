"""The limits that the setup frame sets to memory and open descriptors of the process."""

from __future__ import annotations

import resource

RESERVE = 64 << 20
"""Bytes beyond the memory limit that remain for reporting that it was reached."""


def limit_memory(size: int) -> None:
    """Limit the private writable memory of this process, in bytes; 0 for no limit.

    An existing limit that is lower remains. The limit has no effect on systems that do
    not enforce RLIMIT_DATA; Linux does.
    """
    if size <= 0:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = size + RESERVE if hard == resource.RLIM_INFINITY else min(size + RESERVE, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (min(size, most), most))


def make_room() -> None:
    """Make the reserve available, after the memory limit was reached."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def limit_descriptors(count: int) -> None:
    """Limit how many descriptors this process may have open; 0 for no limit.

    An existing limit that is lower remains.
    """
    if count <= 0:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
