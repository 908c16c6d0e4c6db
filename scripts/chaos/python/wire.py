"""Bytes of its own making on its worker's socket, for what no worker would send."""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Any

import msgpack
from gophersnake import progress

MAGIC, VERSION = 0x47, 1
RESULT, ERROR, ITEM, UNKNOWN = 5, 6, 15, 99

_HEADER = struct.Struct("<BBBBIQII")
"""Magic, version, type, flags, body length, call id, number of buffers, session."""

_DESCRIPTOR = struct.Struct("<IIQQ")
"""Segment, reserved, offset, length of a buffer."""


def frame(kind: int, call: int, body: bytes = b"", claimed: int | None = None) -> bytes:
    """Return a frame, whose length may be said to be another one."""
    size = len(body) if claimed is None else claimed
    return _HEADER.pack(MAGIC, VERSION, kind, 0, size, call, 0, 0) + body


def with_buffer(kind: int, call: int, claimed: int) -> bytes:
    """Return the beginning of a frame that announces a buffer of so many bytes."""
    return _HEADER.pack(MAGIC, VERSION, kind, 0, 0, call, 1, 0) + _DESCRIPTOR.pack(0, 0, 0, claimed)


def packed(value: Any) -> bytes:
    """Return a value as the body of a result."""
    return bytes(msgpack.packb(value))


def send(data: bytes, last: bool = False) -> None:
    """Write bytes into the worker's socket, between two of its own frames.

    Args:
        data: the bytes.
        last: whether to close the connection behind them.
    """
    settle()
    with _connection() as sock:
        sock.sendall(data)
        if last:
            sock.shutdown(socket.SHUT_RDWR)


def settle() -> None:
    """Have all that the worker keeps back sent: nobody else writes after that.

    Otherwise these bytes could end up in the middle of another call's answer, where
    nothing could tell them from it.
    """
    progress("about to misbehave")


def _connection() -> socket.socket:
    """Find the socket on which the supervisor is connected, among all that is open."""
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # no socket, or the folder that is being read
            continue
        try:
            if found.family == socket.AF_UNIX and found.getsockname() and _has_peer(found):
                return found  # the others are pairs, which have no name
        except OSError:
            pass
        found.close()
    raise LookupError("there is no connection")


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def own_call(index: int) -> int:
    """Return the id of the call that the node works on: the worker knows it.

    Args:
        index: the place of the call in its batch.
    """
    found = sys._getframe(1)
    while found is not None:
        if str(found.f_globals.get("__name__")).startswith("gophersnake._worker"):
            batch, call = found.f_locals.get("batch"), found.f_locals.get("call")
            if batch is not None:
                return int(batch.calls[index])
            number = getattr(call, "id", call)
            if isinstance(number, int) and number:
                return number
        if found.f_back is None:
            break
        found = found.f_back
    raise LookupError("no call is under way")
