"""A node that looks at the worker which calls it."""

from __future__ import annotations

import _thread
import sys
from typing import Any

from gophersnake import node


@node
def threads(_: Any) -> list[int]:
    """Return how many threads there are, and how many of them the worker says are its own."""
    frame: Any = sys._getframe()
    while frame.f_code.co_name != "serve":
        frame = frame.f_back
    polling = frame.f_locals["polling"]
    return [] if polling is None else [_thread._count(), polling._own_threads()]
