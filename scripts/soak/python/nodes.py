"""Three nodes that can tell whether something is lost, doubled or out of order."""

from __future__ import annotations

import os
from typing import Any

import gophersnake
import numpy as np
from gophersnake import Audio, node


@node
def scale(audio: Audio) -> Audio:
    """Double the samples, whose first one is the chunk's number."""
    return Audio(samples=audio.samples * 2, rate=audio.rate)


@node(stateful=True)
class Level:
    """Number the chunks that come, and measure them."""

    def begin(self) -> None:
        """Begin to count."""
        self.seen = 0

    def process(self, audio: Audio) -> dict[str, Any]:
        """Return what the chunk says of its number, and what it is by count."""
        samples = audio.samples[:, 0]
        self.seen += 1
        return {
            "number": int(samples[0]) // 2,
            "count": self.seen - 1,
            "rms": float(np.sqrt(np.mean(samples[1:] ** 2))),
        }


@node
def tag(level: dict[str, Any]) -> dict[str, Any]:
    """Say which process it was."""
    return level | {"pid": os.getpid()}


@node
def enlarge(number: int) -> Any:
    """Make an array of a number: every eighth a large one, in shared memory."""
    size = (256 << 10) if number % 8 == 0 else 64
    out = gophersnake.empty((size // 8,), "int64")
    out[:] = number
    return out


@node
def pass_on(array: Any) -> Any:
    """Return the array as it is."""
    return array


@node
def reduce(array: Any) -> int:
    """Return the number, unless the array holds another one, too."""
    low, high = int(array.min()), int(array.max())
    if low != high:
        raise ValueError(f"an array of {low} to {high}")
    return low
