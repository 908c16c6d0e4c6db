"""What node code can reach of the worker that runs it: its connection, its call, its frames."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import msgpack
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Connection

CHANNEL, AUTOPSY, LIFELINE = 5, 4, 3
"""The descriptors that a worker starts with."""

OWN = 1 << 31
"""The bit that is set in the numbers of segments that workers own."""


def connection() -> Connection:
    """Return the worker's connection, which is a variable of a function that called the node."""
    if _known:
        return _known[0]
    frame = sys._getframe()
    while frame is not None:
        for value in frame.f_locals.values():
            found = getattr(value, "_connection", value)
            if isinstance(found, Connection):
                _known.append(found)
                return found
        if frame.f_back is None:
            break
        frame = frame.f_back
    raise LookupError("no caller has a connection")


_known: list[Connection] = []
"""The connection. It is looked up once, since that keeps the variables of all callers alive."""


def call_id() -> int:
    """Return the id of the call that the node works on."""
    frame = sys._getframe()
    while frame is not None:
        number = frame.f_locals.get("call")
        if frame.f_code.co_name == "call" and isinstance(number, int):
            return number
        if frame.f_back is None:
            break
        frame = frame.f_back
    raise LookupError("no call is in progress")


def frame(
    kind: int, call: int, body: bytes, buffers: tuple[tuple[int, int, int], ...] = ()
) -> bytes:
    """Return a frame; each buffer is a segment, an offset and a size."""
    header = frames.HEADER.pack(
        frames.MAGIC, frames.VERSION, kind, 0, len(body), call, len(buffers), 0
    )
    table = [frames.DESCRIPTOR.pack(segment, 0, offset, size) for segment, offset, size in buffers]
    return header + b"".join(table) + body


def send(data: bytes) -> None:
    """Write bytes to the supervisor, behind all frames that the worker has kept back."""
    found = connection()
    found.flush()
    found._sock.sendall(data)


def message(kind: int, content: Any, call: int = 0) -> None:
    """Send a frame with a body of any content."""
    send(frame(kind, call, msgpack.packb(content)))


def lent() -> list[int]:
    """Return the numbers of the segments that the supervisor has lent to this worker."""
    shared = connection().shared
    return sorted(shared._borrowed) if shared is not None else []


def wait() -> None:
    """Wait until the supervisor ends the worker."""
    while True:
        time.sleep(0.01)


def leave_at_the_next_frame() -> NoReturn:
    """Exit when the host sends something, which shows that it has read what was sent."""
    select.select([connection().fileno()], [], [])
    os._exit(0)


def refused(*attempts: Callable[[], Any]) -> str:
    """Make attempts that must fail, and return the errors; raise if one succeeds."""
    errors = []
    for attempt in attempts:
        try:
            attempt()
        except OSError as error:
            text = f"{type(error).__name__}: {error.strerror}"
            if text not in errors:
                errors.append(text)
        else:
            raise AssertionError(f"the node may do it: {attempt.__name__}")
    return "; ".join(errors)
