"""Nodes for the tests of streams of large arrays."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gophersnake import node


@node
def pieces(array: Any, n: int = 2) -> Iterator[Any]:
    for piece in np.split(array, n):
        yield piece * np.float32(1)


@node(stateful=True)
class Smooth:
    """Give the sum of all arrays so far; die once, at the third one, if told to."""

    def __init__(self, mortal: bool = False) -> None:
        self.mortal = mortal

    def begin(self) -> None:
        self.sum: Any = np.float32(0)
        self.n = 0

    def process(self, array: Any) -> Any:
        self.n += 1
        if self.mortal and self.n == 3:
            marker = Path(os.environ["GOPHERSNAKE_TEST_MARKER"])
            if not marker.exists():
                marker.write_text("")
                os.kill(os.getpid(), signal.SIGKILL)
        self.sum = self.sum + array
        return self.sum

    def snapshot(self) -> Any:
        return [self.sum, self.n]

    def restore(self, state: Any) -> None:
        self.sum, self.n = state
