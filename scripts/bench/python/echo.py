"""The node of the throughput section, which imports nothing."""

from typing import Any

import gophersnake


@gophersnake.node
def echo(value: Any) -> Any:
    """Return the value unchanged."""
    return value
