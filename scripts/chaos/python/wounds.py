"""What can go wrong with a call, and with which ones it does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ends
import failures
import forgeries

NOTES = Path(__file__).parent / "notes"
"""The folder where it is written down what has been done already."""

Wound = Callable[[dict[str, Any], Any, int], Any]
"""Takes the call, its right answer and its place in a batch; returns what to answer."""

WOUNDS: dict[str, Wound] = {
    name: found
    for module in (failures, ends, forgeries)
    for name, found in vars(module).items()
    if not name.startswith("_") and getattr(found, "__module__", "") == module.__name__
}


def hurt(call: dict[str, Any], answer: Any, at: str = "", index: int = 0) -> Any:
    """Do what the call asks for, if it is this node that it means.

    Args:
        call: what the caller sent.
        answer: what is to be answered where nothing is asked for.
        at: where this is.
        index: the place of the call in its batch.

    Returns:
        What the node is to return.
    """
    name = call.get("fault", "")
    if not name or call.get("at", "") != at or (call.get("once") and not _first(call["n"])):
        return answer
    return WOUNDS[name](call, answer, index)


def _first(number: Any) -> bool:
    """Note that the call has been hurt; False where it has been before."""
    try:
        os.close(os.open(NOTES / str(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True
