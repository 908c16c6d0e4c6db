"""Nodes for the tests of package pool.

The import fails while the file that $BROKEN names is there, and waits while the
one that $HELD names is.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from gophersnake import node

while os.path.exists(os.environ.get("HELD", "")):
    time.sleep(0.001)
if os.path.exists(os.environ.get("BROKEN", "")):
    raise RuntimeError("the module is broken")


@node
def work(how: Any) -> Any:
    """Give a value back, once a file is gone, or die."""
    if not isinstance(how, dict):
        return how
    if "log" in how:
        with open(how["log"], "a") as log:
            log.write(f"{how['value']}\n")
    if how.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if how.get("raise"):
        raise ValueError(how["raise"])
    gate = Path(how.get("gate", "/nowhere"))
    while gate.exists():
        time.sleep(0.001)
    return how.get("value")
