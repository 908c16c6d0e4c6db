"""A node that needs nothing and does little, for soaks that look at its workers."""

from __future__ import annotations

import os
import time

from gophersnake import node


@node
class Tiny:
    """Answers with its process; it can take its time to be set up, and be held in a call."""

    def __init__(self, setup_seconds: float = 0) -> None:
        """Take how long ``setup`` is to last."""
        self.setup_seconds = setup_seconds

    def setup(self) -> None:
        """Take as long as loading a model would."""
        time.sleep(self.setup_seconds)

    def process(self, gate: str) -> int:
        """Return the process; where there is a gate, a pipe, hold the call for good before.

        The process is written into the gate, so that somebody can end it. Once the
        gate has been removed, another attempt is not held.
        """
        if gate and os.path.exists(gate):
            with open(gate, "w", encoding="ascii") as pipe:
                print(os.getpid(), file=pipe)
            while True:
                time.sleep(3600)
        return os.getpid()
