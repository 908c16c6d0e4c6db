"""Writes frames to the worker's socket that the worker itself would not send."""

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
    """Return a frame. Its header gives the claimed length of the body instead, if any."""
    size = len(body) if claimed is None else claimed
    return _HEADER.pack(MAGIC, VERSION, kind, 0, size, call, 0, 0) + body


def with_buffer(kind: int, call: int, claimed: int) -> bytes:
    """Return the start of a frame that announces a buffer of the claimed length."""
    return _HEADER.pack(MAGIC, VERSION, kind, 0, 0, call, 1, 0) + _DESCRIPTOR.pack(0, 0, 0, claimed)


def packed(value: Any) -> bytes:
    """Return a value encoded as the body of a result."""
    return bytes(msgpack.packb(value))


def send(data: bytes, last: bool = False) -> None:
    """Write bytes to the worker's socket, between two of its own frames.

    Args:
        data: the bytes.
        last: whether to close the connection after them.
    """
    flush()
    with _connection() as sock:
        sock.sendall(data)
        if last:
            sock.shutdown(socket.SHUT_RDWR)


def flush() -> None:
    """Make the worker send all frames that it has queued.

    Otherwise the bytes could become a part of another call's answer, and that call would
    return a wrong value.
    """
    progress("about to violate the protocol")


def _connection() -> socket.socket:
    """Find the socket to the supervisor among all open descriptors."""
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # not a socket, or the descriptor of the listing
            continue
        try:
            if found.family == socket.AF_UNIX and found.getsockname() and _has_peer(found):
                return found  # socket pairs have no name
        except OSError:
            pass
        found.close()
    raise LookupError("no descriptor is the connection to the supervisor")


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def own_call(index: int) -> int:
    """Return the id of the call that the node works on, from the worker's own variables.

    Args:
        index: the index of the call in its batch.
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
    raise LookupError("no call is in progress")
