"""The faults that calls can have, and the function that causes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crashes
import failures
import protocol

STATE = Path(__file__).parent / "state"
"""The folder in which nodes record their calls, so that the next worker finds it."""

Fault = Callable[[dict[str, Any], Any, int], Any]
"""Takes the call, its right answer and its index in a batch; returns the answer to give."""

FAULTS: dict[str, Fault] = {
    name: function
    for module in (failures, crashes, protocol)
    for name, function in vars(module).items()
    if not name.startswith("_") and getattr(function, "__module__", "") == module.__name__
}
"""All faults by their names, which fault.go lists too."""


def inject(call: dict[str, Any], answer: Any, at: str = "", index: int = 0) -> Any:
    """Cause the fault of a call, if it has one for this node.

    Args:
        call: the input of the node.
        answer: the right answer.
        at: the name of this node; empty if it is the only one of its pipeline.
        index: the index of the call in its batch.

    Returns:
        The value that the node must return.
    """
    name = call.get("fault", "")
    if not name or call.get("at", "") != at or (call.get("once") and not _first(call["n"])):
        return answer
    return FAULTS[name](call, answer, index)


def _first(number: Any) -> bool:
    """Record that the call has had its fault; return False if it was recorded before."""
    try:
        os.close(os.open(STATE / str(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True
