"""A node for the tests of the fork server; $IMPORTING says how its import behaves."""

from __future__ import annotations

import _thread
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from gophersnake import node

WAY = os.environ.get("IMPORTING", "")
FILE = os.environ.get("IMPORTING_FILE", os.devnull)
if WAY == "raise once" and not os.path.exists(FILE):
    Path(FILE).write_text("raised")
    raise RuntimeError("not yet")
if WAY == "die once" and not os.path.exists(FILE):
    Path(FILE).write_text("died")
    os.kill(os.getpid(), signal.SIGKILL)
if WAY == "thread":
    _thread.start_new_thread(time.sleep, (3600,))
if WAY == "socket":
    OPEN = socket.socket()
if WAY == "wait":
    begun = Path(FILE + ".begun")
    if not begun.exists():
        begun.write_text(str(os.getpid()))
    open(FILE).close()  # a pipe: until a test writes
if WAY == "numpy":
    import numpy  # noqa: F401
if WAY == "print":
    print("printed by the import")
    print("warned by the import", file=sys.stderr)

IMPORTED_BY = os.getpid()


@node
def look(value: Any) -> dict[str, Any]:
    """Describe the process."""
    return {
        "value": value,
        "pid": os.getpid(),
        "imported_by": IMPORTED_BY,
        "leads": os.getpgrp() == os.getpid(),
        "folder": os.getcwd(),
        "variables": {k: v for k, v in os.environ.items() if k.startswith(("GOPHER", "PLUGIN"))},
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


@node
def leave_a_child(file: str) -> None:
    """Fork a child, and wait in both processes."""
    if os.fork() == 0:
        Path(file).write_text(str(os.getpid()))
    time.sleep(3600)
