"""The node of the growth of a cluster, which imports nothing but the clock."""

import time
from typing import Any

import gophersnake


@gophersnake.node
def sleep(value: Any) -> Any:
    """Return the value unchanged after 10 ms."""
    time.sleep(0.01)
    return value
