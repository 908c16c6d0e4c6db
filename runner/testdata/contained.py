"""A node for a container that has no other packages than msgpack."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from gophersnake import node


@node
def inside(value: Any) -> Any:
    """Do what the value says, or return it."""
    match value:
        case "look":
            with open("/proc/self/status") as status:
                effective = next(line for line in status if line.startswith("CapEff:"))
            return {
                "hosts_files": os.path.exists("/usr/share"),
                "added": os.environ.get("ADDED"),
                "of_the_host": os.environ.get("OF_THE_HOST"),
                "user": os.getuid(),
                "capabilities": effective.split()[1],
            }
        case "raise":
            raise ValueError("no luck")
        case "abort":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case "hang":
            time.sleep(3600)
    return value
