"""The traced node. Its import turns on the recording of the worker's functions."""

from __future__ import annotations

import json
import sys
import threading
import time
from types import CodeType, FrameType
from typing import Any

from gophersnake import node

SENDS = {"send", "sendmsg", "sendall", "write", "writev"}
"""The built-in functions by which a reply may leave the worker."""

events: list[tuple[int, int, CodeType | None, bool]] = []
"""Time, thread, function, and whether it is the function's exit; a send has no function."""


def record(frame: FrameType, event: str, arg: Any) -> None:
    """Record one event of the interpreter's profiler."""
    if event in ("call", "return"):
        events.append((time.time_ns(), threading.get_ident(), frame.f_code, event == "return"))
    elif event == "c_call" and getattr(arg, "__name__", "") in SENDS:
        events.append((time.time_ns(), threading.get_ident(), None, False))


@node
def echo(value: dict[str, Any]) -> dict[str, Any]:
    """Return the value. If it names a file, write the events there first."""
    if "save" in value:
        save(value["save"])
    return value


def save(path: str) -> None:
    """Write the events as JSON."""
    rows = [
        {
            "At": at,
            "Thread": thread,
            "Exit": is_exit,
            "File": code.co_filename if code else "",
            "Line": code.co_firstlineno if code else 0,
        }
        for at, thread, code, is_exit in list(events)
    ]
    with open(path, "w") as out:
        json.dump(rows, out)


threading.setprofile(record)
sys.setprofile(record)
