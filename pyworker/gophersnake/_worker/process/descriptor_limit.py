"""The limit on a worker's open descriptors."""

from __future__ import annotations

import resource


def limit(count: int) -> None:
    """Bound how many descriptors this process may have open; 0 is no bound.

    A bound that is there already stays where it is lower.
    """
    if count <= 0:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
