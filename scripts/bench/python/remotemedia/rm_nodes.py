"""The node of RemoteMedia's side: it returns its input, or fails as a text says."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from typing import Any

from remotemedia.core.multiprocessing import MultiprocessNode, RuntimeData


def fail(mode: str) -> Any:
    """Fail in the way that the mode names. What it returns is no value of RemoteMedia's."""
    if mode == "raise":
        raise ValueError("this node raises")
    if mode == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if mode == "exit":
        os._exit(3)
    if mode == "loop":
        while True:
            pass
    if mode == "hold the GIL":
        ctypes.PyDLL(None).sleep(60)
    if mode == "nap":
        time.sleep(0.02)
    return {1, 2} if mode == "set" else None


class Work(MultiprocessNode):
    """Return the input."""

    def __init__(self, node_id: Any = None, config: Any = None, **more: Any) -> None:
        """Create the node as the runner does, and turn off the log of each item."""
        if config is None:
            config = {"node_id": node_id, "node_type": "rm_nodes.Work", "params": {}}
        super().__init__(config=config, **more)
        logging.getLogger().setLevel(logging.ERROR)
        self.logger.setLevel(logging.ERROR)

    async def initialize(self) -> None:
        """Nothing to prepare."""

    async def cleanup(self) -> None:
        """Nothing to free."""

    async def process(self, data: RuntimeData) -> Any:
        """Return the data; a text may be a mode of failure."""
        failed = fail(data.as_text()) if data.is_text() else None
        return data if failed is None else failed
