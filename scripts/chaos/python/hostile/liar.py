"""A node that lies about itself, in the way that the environment variable LIE names."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from gophersnake import node
from gophersnake._worker.definition.signature import Signature

LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a batch of 2⁴⁰ calls": lambda d: d.update(batch=1 << 40),
    "a batch of -1 calls": lambda d: d.update(batch=-1),
    "2⁶² calls at once": lambda d: d.update(concurrency=1 << 62),
    "a wait that is no number": lambda d: d.update(batch=2, max_wait=float("nan")),
    "a wait of 30 years": lambda d: d.update(batch=2, max_wait=1e9),
    "a million parameters": lambda d: d.update(params=[{"name": "x"}] * 1_000_000),
    "a docstring of 10 MiB": lambda d: d.update(doc="x" * (10 << 20)),
    "line -5": lambda d: d.update(line=-5),
}
"""What each lie changes in the description of the node."""

_describe = Signature.describe


def _lie(self: Signature) -> dict[str, Any]:
    description = _describe(self)
    LIES[os.environ["LIE"]](description)
    return description


Signature.describe = _lie  # type: ignore[method-assign]


@node
def liar(value: Any) -> Any:
    """Return the value."""
    return value
