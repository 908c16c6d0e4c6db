"""The binary format of frames, as Go's package ipc describes it: types, headers, checks."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from gophersnake._worker.originals import time

HELLO, SETUP, READY, CALL, RESULT, ERROR, CANCEL, LOG, PROGRESS, PING, PONG, SHUTDOWN = range(1, 13)
RELEASE, FORGET, ITEM, CREDIT, OPEN, FINISH, DROP, SNAPSHOT = range(13, 21)
"""The frame types. ``ipc/doc.go`` describes what each one means."""

OF_SESSIONS = (CALL, OPEN, FINISH, DROP, SNAPSHOT)
"""The frame types whose header may have a session id."""

NAMES = (
    "", "hello", "setup", "ready", "call", "result", "error",
    "cancel", "log", "progress", "ping", "pong", "shutdown",
    "release", "forget", "item", "credit", "open", "finish", "drop", "snapshot",
)  # fmt: skip

MAGIC = 0x47
VERSION = 1

HEADER = struct.Struct("<BBBBIQII")
"""Magic, version, type, flags, body length, call id, number of buffers, session id."""

BRIEF = struct.Struct("<IIQII")
"""The same header with magic, version, type and flags as one number; see ``WORDS``."""

WORDS = tuple(MAGIC | VERSION << 8 | kind << 16 for kind in range(len(NAMES)))
"""The first four bytes of a frame as a number, indexed by frame type."""

HAS_CONTEXT = 0x01
"""The flag of a frame whose header is followed by the context of the call."""

CONTEXT = struct.Struct("<QII")
"""Deadline, attempt, length of the trace that follows: the context of a call; see ``Context``."""

CONTEXT_SIZE = CONTEXT.size

TRACE_SIZES = range(25, 25 + 512 + 1)
"""The lengths that a trace may have: its id, the id of the span, flags, and the tracestate."""

HAS_TIME = 0x01
"""The flag of an answer whose header is followed by the time that the call took."""

TIME = struct.Struct("<Q")
"""The time that a call took, in nanoseconds."""

OF_CONTEXTS = (CALL, OPEN, FINISH, SNAPSHOT)
"""The frame types that may have a context."""

DESCRIPTOR = struct.Struct("<IIQQ")
"""Segment (0 for an inline buffer), reserved, offset, length."""

HEADER_SIZE, DESCRIPTOR_SIZE = HEADER.size, DESCRIPTOR.size

Bytes = bytes | bytearray | memoryview


class Location(NamedTuple):
    """The location of a buffer in shared memory: segment, offset and size in bytes.

    Segment 0 means that the bytes are inline in the frame.
    """

    segment: int
    offset: int
    size: int


class Context(NamedTuple):
    """What the supervisor tells the node about a call.

    ``deadline`` is when the caller stops waiting, in nanoseconds of ``time.monotonic``, 0 for
    never, and ``attempt`` is the number of the attempt, from 1. ``trace`` is the trace that the
    call belongs to, in its form on the wire, empty if there is none; ``read`` is when the call
    was read, in nanoseconds of ``time.monotonic``, 0 without a trace.
    """

    deadline: int
    attempt: int
    trace: bytes = b""
    read: int = 0


class Frame(NamedTuple):
    """One message. ``call`` and ``session`` are 0 if it belongs to none."""

    type: int
    call: int
    body: Bytes
    buffers: list[Any]  # Bytes, or NumPy arrays of bytes if they are in shared memory
    session: int = 0


class Limits(NamedTuple):
    """The limits of one frame: body bytes, buffers, buffer bytes, nesting levels of a value.

    ``decoded`` is the most memory, in bytes, that a value may take when it is decoded; 0
    means no bound.
    """

    body: int = 256 << 20
    buffers: int = 4096
    buffer_bytes: int = 8 << 30
    depth: int = 64
    decoded: int = 512 << 20


class ProtocolError(Exception):
    """The supervisor violated the protocol. The connection cannot be used any longer."""


def name(kind: int) -> str:
    """Return the name of a frame type, for messages."""
    return NAMES[kind] if 0 < kind < len(NAMES) else f"type {kind}"


def check_header(header: tuple[Any, ...], limits: Limits) -> None:
    """Check a received header, as ``HEADER`` unpacks it.

    Raises:
        ProtocolError: it is not a valid header, or exceeds the limits.
    """
    magic, version, kind, flags, size, _, buffers, session = header
    if magic != MAGIC:
        raise ProtocolError(f"a frame begins with byte {magic:#04x} instead of {MAGIC:#04x}")
    if version != VERSION:
        raise ProtocolError(
            f"the peer speaks version {version} of the protocol, this side version {VERSION}"
        )
    if flags and not (flags == HAS_CONTEXT and kind in OF_CONTEXTS):
        raise ProtocolError(f"a {name(kind)} frame with flags {flags:#x}, which it cannot have")
    if session and kind not in OF_SESSIONS:
        raise ProtocolError(
            f"a {name(kind)} frame with session {session}; it cannot belong to a session"
        )
    if size > limits.body:
        raise ProtocolError(
            f"a {name(kind)} frame claims a body of {size} bytes, more than the limit of {limits.body}"
        )
    if buffers > limits.buffers:
        raise ProtocolError(
            f"a {name(kind)} frame claims {buffers} buffers, more than the limit of {limits.buffers}"
        )


def context(data: Bytes, start: int = 0) -> tuple[Context, int]:
    """Return the context of a call, without its trace, and the length of the trace.

    Raises:
        ProtocolError: it is invalid.
    """
    deadline, attempt, trace = CONTEXT.unpack_from(data, start)
    if not attempt or (trace and trace not in TRACE_SIZES):
        raise ProtocolError(f"a context of attempt {attempt}, with a trace of {trace} bytes")
    return Context(deadline, attempt), trace


def traced(sent: Context, trace: bytes) -> Context:
    """Return the context of a call that belongs to a trace and has just been read."""
    return Context(sent.deadline, sent.attempt, trace, time.monotonic_ns())


def check_descriptors(kind: int, table: Bytes, limits: Limits, shared: bool) -> list[Location]:
    """Return the locations of a frame's buffers from its table of descriptors.

    Args:
        kind: the frame type, for messages.
        table: the descriptors, packed one after another.
        limits: the limits of the frame.
        shared: whether this connection has shared memory.

    Raises:
        ProtocolError: a descriptor is invalid, names a segment although there is no
            shared memory, or the buffers exceed the limits.
    """
    locations = []
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
        locations.append(Location(segment, offset, size))
        total += size
    if total > limits.buffer_bytes:
        raise ProtocolError(
            f"a {name(kind)} frame claims buffers of more than {limits.buffer_bytes} bytes in all"
        )
    return locations


def head(
    kind: int,
    call: int,
    body: Bytes,
    buffers: Sequence[Bytes | Location],
    taken: int | None = None,
) -> bytes:
    """Return the header of a frame and its table of descriptors.

    ``taken`` is the time that a call took, in nanoseconds, for its answer; ``None`` leaves it out.
    """
    parts = [start(kind, call, len(body), len(buffers), taken)]
    for buffer in buffers:
        if isinstance(buffer, Location):
            segment, offset, size = buffer
            parts.append(DESCRIPTOR.pack(segment, 0, offset, size))
        else:
            parts.append(DESCRIPTOR.pack(0, 0, 0, len(buffer)))
    return b"".join(parts)


def start(kind: int, call: int, size: int, buffers: int, taken: int | None) -> bytes:
    """Return the header of a frame, with the time that its call took unless that is ``None``."""
    if taken is None:
        return BRIEF.pack(WORDS[kind], size, call, buffers, 0)
    return BRIEF.pack(WORDS[kind] | HAS_TIME << 24, size, call, buffers, 0) + TIME.pack(taken)


def whole(kind: int, body: bytes) -> bytes:
    """Return a complete frame that belongs to no call and has no buffers."""
    return BRIEF.pack(WORDS[kind], len(body), 0, 0, 0) + body
