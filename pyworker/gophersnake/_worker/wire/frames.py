"""Frames as they stand on the wire; Go's package ipc describes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

HELLO, SETUP, READY, CALL, RESULT, ERROR, CANCEL, LOG, PROGRESS, PING, PONG, SHUTDOWN = range(1, 13)
RELEASE, FORGET, ITEM, CREDIT, OPEN, FINISH, DROP, SNAPSHOT = range(13, 21)
"""The types of frames; the host's ipc/doc.go tells what they are for."""

OF_SESSIONS = (CALL, OPEN, FINISH, DROP, SNAPSHOT)
"""The types of frames that may name a session."""

NAMES = (
    "", "hello", "setup", "ready", "call", "result", "error",
    "cancel", "log", "progress", "ping", "pong", "shutdown",
    "release", "forget", "item", "credit", "open", "finish", "drop", "snapshot",
)  # fmt: skip

MAGIC = 0x47
VERSION = 1

HEADER = struct.Struct("<BBBBIQII")
"""Magic, version, type, flags, body length, call id, number of buffers, session."""

BRIEF = struct.Struct("<IIQII")
"""The same, with magic, version, type and flags in one number: see ``WORDS``."""

WORDS = tuple(MAGIC | VERSION << 8 | kind << 16 for kind in range(len(NAMES)))
"""By type, the first four bytes of a frame as a number."""

DESCRIPTOR = struct.Struct("<IIQQ")
"""Segment (0: inline), reserved, offset, length."""

HEADER_SIZE, DESCRIPTOR_SIZE = HEADER.size, DESCRIPTOR.size

Bytes = bytes | bytearray | memoryview


class Place(NamedTuple):
    """Where a buffer lies that is not in the frame: which segment, and where in it.

    Segment 0 is none: the bytes are in the frame.
    """

    segment: int
    offset: int
    size: int


class Frame(NamedTuple):
    """One message. ``call`` and ``session`` are 0 where it belongs to none."""

    type: int
    call: int
    body: Bytes
    buffers: list[Any]  # of Bytes, or of NumPy arrays of bytes where they are shared
    session: int = 0


class Limits(NamedTuple):
    """What one frame may claim: bytes, buffers, bytes, levels of a value."""

    body: int = 256 << 20
    buffers: int = 4096
    buffer_bytes: int = 8 << 30
    depth: int = 64


class ProtocolError(Exception):
    """The peer spoke out of protocol; the connection is of no use after it."""


def name(kind: int) -> str:
    """Return the name of a frame type."""
    return NAMES[kind] if 0 < kind < len(NAMES) else f"type {kind}"


def check_header(header: tuple[Any, ...], limits: Limits) -> None:
    """Raise ``ProtocolError`` for a header that is none, or claims too much."""
    magic, version, kind, flags, size, _, buffers, session = header
    if magic != MAGIC:
        raise ProtocolError(f"a frame begins with byte {magic:#04x} instead of {MAGIC:#04x}")
    if version != VERSION:
        raise ProtocolError(
            f"the peer speaks version {version} of the protocol, this side version {VERSION}"
        )
    if flags:
        raise ProtocolError(f"a {name(kind)} frame with flags {flags:#x}; version 1 has none")
    if session and kind not in OF_SESSIONS:
        raise ProtocolError(f"a {name(kind)} frame with session {session}; it belongs to none")
    if size > limits.body:
        raise ProtocolError(
            f"a {name(kind)} frame claims a body of {size} bytes, more than the limit of {limits.body}"
        )
    if buffers > limits.buffers:
        raise ProtocolError(
            f"a {name(kind)} frame claims {buffers} buffers, more than the limit of {limits.buffers}"
        )


def check_descriptors(kind: int, table: Bytes, limits: Limits, shared: bool) -> list[Place]:
    """Return the places of the buffers of a table of descriptors.

    Raises:
        ProtocolError: a descriptor is none, names a segment where nothing is
            shared, or all of them claim too much.
    """
    places = []
    total = 0
    for segment, reserved, offset, size in DESCRIPTOR.iter_unpack(table):
        if segment:
            if not shared:
                raise ProtocolError(
                    f"a {name(kind)} frame names the shared segment {segment}; "
                    "this side takes inline buffers only"
                )
            if reserved:
                raise ProtocolError(
                    f"a {name(kind)} frame describes a shared buffer with a reserved part of "
                    f"{reserved:#x}"
                )
        elif reserved or offset:
            raise ProtocolError(
                f"a {name(kind)} frame describes an inline buffer with a reserved part of "
                f"{reserved:#x} and the offset {offset}; both belong to shared segments"
            )
        places.append(Place(segment, offset, size))
        total += size
    if total > limits.buffer_bytes:
        raise ProtocolError(
            f"a {name(kind)} frame claims buffers of more than {limits.buffer_bytes} bytes in all"
        )
    return places


def head(kind: int, call: int, body: Bytes, buffers: Sequence[Bytes | Place]) -> bytes:
    """Return the header of a frame with its descriptors."""
    parts = [BRIEF.pack(WORDS[kind], len(body), call, len(buffers), 0)]
    for buffer in buffers:
        if isinstance(buffer, Place):
            segment, offset, size = buffer
            parts.append(DESCRIPTOR.pack(segment, 0, offset, size))
        else:
            parts.append(DESCRIPTOR.pack(0, 0, 0, len(buffer)))
    return b"".join(parts)


def whole(kind: int, body: bytes) -> bytes:
    """Return a frame that belongs to no call and has no buffers."""
    return BRIEF.pack(WORDS[kind], len(body), 0, 0, 0) + body
