"""A hostile node, and its neighbors, which check every byte of their data."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gophersnake
import memory
import numpy as np
import protocol
import system
import text
from gophersnake import node

ATTACKS: dict[str, Callable[[Any], Any]] = {
    name: function
    for module in (protocol, memory, system, text)
    for name, function in vars(module).items()
    if not name.startswith("_") and getattr(function, "__module__", "") == module.__name__
}
"""All attacks by their names, which the tests and chaos list too."""


@node
def hostile(given: dict[str, Any]) -> Any:
    """Make the attack that is named, or return the process id and what this worker has seen."""
    memory.keep_what_is_lent()
    if name := given.get("attack"):
        return ATTACKS[name](given)
    return {"pid": os.getpid(), "seen": memory.seen("attacker")}


@node
class Neighbor:
    """Return the input, after checking every byte of it."""

    def __init__(self, name: str) -> None:
        """Begin with the name that marks the node's own data."""
        self.name = name

    def process(self, given: dict[str, Any]) -> Any:
        """Check and copy the data, and look for that of others."""
        data = given["data"]
        expected = memory.pattern(given["secret"], self.name, given["n"], data.nbytes)
        if not np.array_equal(data, expected):
            raise AssertionError(f"call {given['n']} of {self.name}: its input was changed")
        out = gophersnake.empty(data.shape, "uint8")
        out[:] = expected
        if not np.array_equal(data, expected):
            raise AssertionError(f"call {given['n']} of {self.name}: its input was changed later")
        return {"n": given["n"], "pid": os.getpid(), "data": out, "seen": memory.seen(self.name)}
