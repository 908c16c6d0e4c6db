"""Nodes that detect values that are lost, duplicated or out of order."""

from __future__ import annotations

import os
from typing import Any

import gophersnake
import numpy as np
from gophersnake import Audio, node


@node
def scale(audio: Audio) -> Audio:
    """Double the samples, the first of which is the chunk's number."""
    return Audio(samples=audio.samples * 2, rate=audio.rate)


@node(stateful=True)
class Level:
    """Counts the chunks and measures their level."""

    def begin(self) -> None:
        """Start a stream."""
        self.seen = 0

    def process(self, audio: Audio) -> dict[str, Any]:
        """Return the chunk's own number, its number by count and its level."""
        samples = audio.samples[:, 0]
        self.seen += 1
        return {
            "number": int(samples[0]) // 2,
            "count": self.seen - 1,
            "rms": float(np.sqrt(np.mean(samples[1:] ** 2))),
        }


@node
def tag(level: dict[str, Any]) -> dict[str, Any]:
    """Add the process id."""
    return level | {"pid": os.getpid()}


@node
def enlarge(number: int) -> Any:
    """Fill an array with the number. Every eighth array is large and in shared memory."""
    size = (256 << 10) if number % 8 == 0 else 64
    out = gophersnake.empty((size // 8,), "int64")
    out[:] = number
    return out


@node
def pass_on(array: Any) -> Any:
    """Return the array unchanged."""
    return array


@node
def reduce(array: Any) -> int:
    """Return the number that fills the array; raise ValueError if it holds several."""
    low, high = int(array.min()), int(array.max())
    if low != high:
        raise ValueError(f"the array holds numbers from {low} to {high}")
    return low
