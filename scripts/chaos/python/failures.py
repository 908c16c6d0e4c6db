"""Faults that the worker survives: exceptions, bad values, floods of output."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from gophersnake import Permanent, Transient

FLOOD = 24 << 20
"""How many bytes a flood of output has."""


# Exceptions.


def raises(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Raise an exception."""
    raise ValueError(f"call {call['n']} is refused")


def permanent(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Raise an exception that must not be retried."""
    raise Permanent(f"call {call['n']} is refused for ever")


def transient(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Raise an exception that may be retried."""
    raise Transient(f"call {call['n']} is refused for now", retry_after=0.001)


def recursion(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Recurse more deeply than Python allows."""

    def down(level: int) -> int:
        return down(level + 1) + 1

    try:
        return down(0)
    except RecursionError as error:
        raise RecursionError(f"call {call['n']}: {error}") from None


# Values that cannot be encoded.


def open_file(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Return an open file."""
    return {"n": call["n"], "file": open(os.devnull)}


def large_number(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Return an integer of more than 64 bits."""
    return [1 << 70]


def cycle(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Return a list that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


def too_deep(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Return a value that is nested too deeply."""
    value: Any = answer
    for _ in range(1000):
        value = [value]
    return value


# Output, and child processes.


def floods_stdout(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Write many MiB to standard output, without a newline."""
    _flood(1)
    return answer


def floods_stderr(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Write many MiB to standard error, without a newline."""
    _flood(2)
    return answer


def _flood(descriptor: int) -> None:
    remaining = FLOOD
    block = memoryview(b"x" * (1 << 20))
    while remaining > 0:
        remaining -= os.write(descriptor, block)


def leaves_a_child(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Start a process that outlives the call."""
    subprocess.Popen(["sleep", "3600"])
    return answer
