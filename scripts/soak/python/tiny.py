"""A minimal node, for soaks that measure its workers."""

from __future__ import annotations

import os
import time

from gophersnake import node


@node
class Tiny:
    """Returns its process id. Its setup can be slow, and a call can block."""

    def __init__(self, setup_seconds: float = 0) -> None:
        """Take the duration of ``setup``."""
        self.setup_seconds = setup_seconds

    def setup(self) -> None:
        """Sleep, as if loading a model."""
        time.sleep(self.setup_seconds)

    def process(self, gate: str) -> int:
        """Return the process id.

        Args:
            gate: the path of a named pipe, or empty. While the pipe exists, the call writes
                the process id to it and blocks for ever, so that the reader can kill it.
                An attempt after its removal does not block.
        """
        if gate and os.path.exists(gate):
            with open(gate, "w", encoding="ascii") as pipe:
                print(os.getpid(), file=pipe)
            while True:
                time.sleep(3600)
        return os.getpid()
