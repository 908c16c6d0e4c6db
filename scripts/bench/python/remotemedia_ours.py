"""The node of gophersnake's side of the section remotemedia."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any

import numpy  # noqa: F401 - so that the first recording does not import it
from gophersnake import node


@node
def work(value: Any) -> Any:
    """Return the value; a text may be a mode of failure."""
    if value == "raise":
        raise ValueError("this node raises")
    if value == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if value == "exit":
        os._exit(3)
    while value == "loop":
        pass
    if value == "hold the GIL":
        ctypes.PyDLL(None).sleep(60)
    if value == "nap":
        time.sleep(0.02)
    return {object()} if value == "set" else value
