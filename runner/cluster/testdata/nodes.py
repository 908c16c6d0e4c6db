"""Nodes for the tests of package cluster. Files tell the tests what the nodes do."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from gophersnake import Permanent, node


@node
def echo(value: Any) -> Any:
    """Give back what was given."""
    return value


@node
def hold(folder: str, name: str) -> dict[str, Any]:
    """Leave a file that says the call has begun, and wait for the file "release"."""
    begun = Path(folder, f"begun-{name}-{os.getpid()}")
    begun.write_text(str(os.getpid()))
    while not Path(folder, "release").exists():
        time.sleep(0.005)
    return {"name": name, "pid": os.getpid(), "machine": os.environ.get("MACHINE", "")}


@node
def fail(text: str) -> None:
    """Raise an exception with a cause and a note."""
    try:
        int(text)
    except ValueError as cause:
        error = Permanent(f"no number: {text}")
        error.add_note("a note")
        raise error from cause


@node
def die(value: Any) -> None:
    """End the interpreter."""
    os.kill(os.getpid(), 9)


@node(concurrency=64)
async def echo_async(value: Any) -> Any:
    """Give back what was given, with many calls at once."""
    return value
