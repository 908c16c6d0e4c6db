"""The node of many small calls at once."""

from typing import Any

import gophersnake


@gophersnake.node
def echo(value: Any) -> Any:
    """Return a value as it came."""
    return value
