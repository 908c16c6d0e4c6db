"""Calls that fail, or make noise, while their worker lives on."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from gophersnake import Permanent, Transient

TENS_OF_MIB = 24 << 20


# Exceptions.


def raises(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Raise an exception."""
    raise ValueError(f"call {call['n']} is refused")


def permanent(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Raise one that is not to be retried."""
    raise Permanent(f"call {call['n']} is refused for ever")


def transient(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Raise one that is to be retried."""
    raise Transient(f"call {call['n']} is refused for now", retry_after=0.001)


def recursion(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Go deeper than Python allows."""

    def down(level: int) -> int:
        return down(level + 1) + 1

    try:
        return down(0)
    except RecursionError as error:
        raise RecursionError(f"call {call['n']}: {error}") from None


# Values that cannot be carried.


def open_file(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Return what stays in its process."""
    return {"n": call["n"], "file": open(os.devnull)}


def large_number(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Return an integer of more than 64 bits."""
    return [1 << 70]


def cycle(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Return a value that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


def too_deep(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Return a value of too many levels."""
    value: Any = answer
    for _ in range(1000):
        value = [value]
    return value


# Noise, and company.


def floods_stdout(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Write tens of MiB without a line end."""
    _flood(1)
    return answer


def floods_stderr(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Write tens of MiB without a line end."""
    _flood(2)
    return answer


def _flood(descriptor: int) -> None:
    left = TENS_OF_MIB
    piece = memoryview(b"x" * (1 << 20))  # one line
    while left > 0:
        left -= os.write(descriptor, piece)


def leaves_a_child(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Start a process that outlives the call."""
    subprocess.Popen(["sleep", "3600"])
    return answer
