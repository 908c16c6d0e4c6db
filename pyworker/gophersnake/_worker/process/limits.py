"""The limits of this process: its memory, open descriptors and threads."""

from __future__ import annotations

import resource
from contextlib import suppress

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


MOST_RESERVED = 1024
"""How many processes and threads of the user, at most, workers leave to the supervisor."""
SHARE_RESERVED = 8
"""Workers leave one of so many of the user's processes and threads to the supervisor."""


def reserve_threads() -> None:
    """Leave some of the user's processes and threads to the supervisor.

    The kernel counts all processes and threads of a user together. So if the nodes use up
    the supervisor's limit, the supervisor ends, because it cannot start a thread. The limit
    of workers is a little lower, and they fail first. It has no effect on root, because the
    kernel does not limit its processes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    allowed = _system_threads() if soft == resource.RLIM_INFINITY else soft
    most = allowed - min(allowed // SHARE_RESERVED, MOST_RESERVED)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    with suppress(OSError, ValueError):  # only a reserve is missing then
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def _system_threads() -> int:
    """Return how many threads the system can have, as far as this process may know it."""
    most = [1 << 22]  # the largest process id
    for name in ("pid_max", "threads-max"):
        with suppress(OSError, ValueError), open(f"/proc/sys/kernel/{name}") as file:
            most.append(int(file.read()))
    return min(most)
