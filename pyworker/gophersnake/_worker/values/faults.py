"""Finds the place inside a value that cannot be carried."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from gophersnake._worker.values.plain import described
from gophersnake.values import Audio, Image, Json, Tensor

INT_MIN, UINT_MAX = -(1 << 63), (1 << 64) - 1

MAX_DEPTH = 400
"""Where the search gives up, and about where msgpack itself does."""


def find(value: Any, probe: Callable[[Any], None]) -> tuple[str, str] | None:
    """Return the path and the reason of the first fault, ``None`` if there is none.

    Args:
        value: any value at all.
        probe: raises what is wrong with a value that is no container.
    """
    return _find(value, probe, "", set())


def step(key: str) -> str:
    """Return a map key as a step of a path, as Go writes it."""
    if not key or len(key) > 64 or any(c in '.[] \n"' for c in key):
        quoted = key[:80].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'["{quoted}"]'
    return f".{key}"


def _find(
    value: Any, probe: Callable[[Any], None], path: str, above: set[int]
) -> tuple[str, str] | None:
    try:
        children = _children(value)
    except Exception as error:  # a dataclass that lacks a field, a property that raises
        return path, f"{described(value)} cannot be read: {error or type(error).__name__}"
    if children is None:
        reason = _fault(value, probe)
        return None if reason is None else (path, reason)
    if id(value) in above:
        return path, "a cycle: the value holds itself"
    if len(above) > MAX_DEPTH:
        return path, "nested too deep"
    above.add(id(value))
    for key, child in children:
        if isinstance(key, int) and not isinstance(value, dict):
            place = f"[{key}]"
        elif not isinstance(key, str):
            return path, f"a map key is {described(key)}; keys must be strings"
        else:
            if (reason := _fault(key, probe)) is not None:
                return path, f"a map key: {reason}"
            place = step(key)
        if (found := _find(child, probe, path + place, above)) is not None:
            return found
    above.discard(id(value))
    return None


def _children(value: Any) -> Iterator[tuple[Any, Any]] | None:
    if isinstance(value, dict):
        return iter(list(value.items()))
    if isinstance(value, (list, tuple)):
        return iter(list(enumerate(value)))
    if isinstance(value, (Tensor, Audio, Image, Json, type)):
        return None
    if dataclasses.is_dataclass(value):
        return iter([(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)])
    return None


def _fault(value: Any, probe: Callable[[Any], None]) -> str | None:
    if isinstance(value, int) and not INT_MIN <= value <= UINT_MAX:
        return f"an integer of {value.bit_length()} bits; integers have 64 bits at most"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"a string that is not UTF-8: {error.reason} at position {error.start}"
    if isinstance(value, memoryview) and not value.c_contiguous:
        return "a memoryview whose parts lie apart: return bytes(…) of it"
    try:
        probe(value)
    except Exception as error:
        return str(error) or type(error).__name__
    return None
