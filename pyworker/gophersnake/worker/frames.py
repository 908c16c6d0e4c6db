"""Frames as they stand on the wire; Go's package ipc describes them."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

HELLO, SETUP, READY, CALL, RESULT, ERROR, CANCEL, LOG, PROGRESS, PING, PONG, SHUTDOWN = range(1, 13)
"""The types of frames that both sides know."""

NAMES = (
    "", "hello", "setup", "ready", "call", "result", "error",
    "cancel", "log", "progress", "ping", "pong", "shutdown",
)  # fmt: skip

MAGIC = 0x47
VERSION = 1

HEADER = struct.Struct("<BBBBIQII")
"""Magic, version, type, flags, body length, call id, number of buffers, reserved."""

DESCRIPTOR = struct.Struct("<IIQQ")
"""Segment (0: inline), reserved, offset, length."""

Bytes = bytes | bytearray | memoryview


class Frame(NamedTuple):
    """One message. ``call`` is 0 where it belongs to none."""

    type: int
    call: int
    body: Bytes
    buffers: list[Bytes]


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
    magic, version, kind, flags, size, _, buffers, reserved = header
    if magic != MAGIC:
        raise ProtocolError(f"a frame begins with byte {magic:#04x} instead of {MAGIC:#04x}")
    if version != VERSION:
        raise ProtocolError(
            f"the peer speaks version {version} of the protocol, this side version {VERSION}"
        )
    if flags or reserved:
        raise ProtocolError(
            f"a {name(kind)} frame with flags {flags:#x} and a reserved part of {reserved:#x}; "
            "version 1 has neither"
        )
    if size > limits.body:
        raise ProtocolError(
            f"a {name(kind)} frame claims a body of {size} bytes, more than the limit of {limits.body}"
        )
    if buffers > limits.buffers:
        raise ProtocolError(
            f"a {name(kind)} frame claims {buffers} buffers, more than the limit of {limits.buffers}"
        )


def check_descriptors(kind: int, table: Bytes, limits: Limits) -> list[int]:
    """Return the sizes of the buffers of a table of descriptors.

    Raises:
        ProtocolError: a descriptor is none, names a shared segment, or all of
            them claim too much.
    """
    sizes = []
    for segment, reserved, offset, size in DESCRIPTOR.iter_unpack(table):
        if segment:
            raise ProtocolError(
                f"a {name(kind)} frame names the shared segment {segment}; "
                "this side takes inline buffers only"
            )
        if reserved or offset:
            raise ProtocolError(
                f"a {name(kind)} frame describes an inline buffer with a reserved part of "
                f"{reserved:#x} and the offset {offset}; both belong to shared segments"
            )
        sizes.append(size)
    if sum(sizes) > limits.buffer_bytes:
        raise ProtocolError(
            f"a {name(kind)} frame claims buffers of more than {limits.buffer_bytes} bytes in all"
        )
    return sizes


def head(kind: int, call: int, body: Bytes, buffers: list[Bytes]) -> bytes:
    """Return the header of a frame with its descriptors."""
    header = HEADER.pack(MAGIC, VERSION, kind, 0, len(body), call, len(buffers), 0)
    if buffers:
        header += b"".join(DESCRIPTOR.pack(0, 0, 0, len(buffer)) for buffer in buffers)
    return header
