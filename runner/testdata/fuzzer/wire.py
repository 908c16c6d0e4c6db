"""Frames and values, as ipc/doc.go specifies them, written without the worker's package.

Nothing here checks what it sends: the callers send wrong things, too.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

import msgpack

HELLO, SETUP, READY, CALL, RESULT, ERROR, CANCEL, LOG, PROGRESS, PING = range(1, 11)
PONG, SHUTDOWN, RELEASE, FORGET, ITEM, CREDIT, OPEN, FINISH, DROP, SNAPSHOT = range(11, 21)

HEADER = struct.Struct("<BBBBIQII")
DESCRIPTOR = struct.Struct("<IIQQ")
HAS_CONTEXT = 0x01
"""The flag of a frame whose header is followed by the context of the call."""
CONTEXT_SIZE = 16
OWN = 1 << 31
"""The bit that is set in the numbers of a worker's own segments."""

EDGES = (0, 1, 2, 15, 16, 127, 255, 4096, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
WIDE_EDGES = (*EDGES, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
"""Numbers at which a bound or a sign may be wrong."""


@dataclass
class Buffer:
    """A buffer of a frame: bytes, or a place in a segment."""

    data: bytes = b""
    segment: int = 0
    offset: int = 0
    size: int = 0


@dataclass
class Frame:
    """A frame that was received."""

    kind: int
    call: int
    session: int
    body: bytes
    buffers: list[Buffer] = field(default_factory=list)


def pack(
    kind: int,
    body: bytes = b"",
    call: int = 0,
    session: int = 0,
    buffers: list[Buffer] | None = None,
) -> bytes:
    """Return a frame with correct lengths."""
    buffers = buffers or []
    table = b"".join(
        DESCRIPTOR.pack(each.segment, 0, each.offset, each.size if each.segment else len(each.data))
        for each in buffers
    )
    head = HEADER.pack(0x47, 1, kind, 0, len(body), call, len(buffers), session)
    return head + table + body + b"".join(each.data for each in buffers if not each.segment)


def parse(data: bytearray) -> Frame | None:
    """Take the first whole frame out of what was received; None if it has not arrived."""
    if len(data) < HEADER.size:
        return None
    _, _, kind, flags, size, call, count, session = HEADER.unpack_from(data)
    table = HEADER.size + (CONTEXT_SIZE if flags == HAS_CONTEXT else 0)
    at = table + count * DESCRIPTOR.size
    if len(data) < at:
        return None
    buffers = []
    for i in range(count):
        segment, _, offset, length = DESCRIPTOR.unpack_from(data, table + i * DESCRIPTOR.size)
        buffers.append(Buffer(b"", segment, offset, length))
    end = at + size + sum(each.size for each in buffers if not each.segment)
    if len(data) < end:
        return None
    body = bytes(data[at : at + size])
    del data[:end]
    return Frame(kind, call, session, body, buffers)


def small_value(chance: random.Random, depth: int = 0) -> object:
    """Return a valid value without buffers."""
    match chance.randrange(9 if depth < 3 else 7):
        case 0:
            return None
        case 1:
            return chance.choice([0, 1, -1, (1 << 64) - 1, -(1 << 63)])
        case 2:
            return chance.random()
        case 3:
            return "é" * chance.randrange(40)
        case 4:
            return chance.randbytes(chance.randrange(200))
        case 5:
            return msgpack.ExtType(4, b'{"a": [1, 2]}')
        case 6:
            return msgpack.Timestamp(chance.randrange(1 << 31), chance.randrange(10**9))
        case 7:
            return [small_value(chance, depth + 1) for _ in range(chance.randrange(6))]
    return {str(i): small_value(chance, depth + 1) for i in range(chance.randrange(6))}


def tensor(size: int) -> object:
    """Return a tensor whose data is the next buffer of the frame."""
    return msgpack.ExtType(1, msgpack.packb(["uint8", [size], None]))


def wrong_body(chance: random.Random) -> bytes:
    """Return a body that is wrong, or expensive to decode, for most types of frames."""
    edge = chance.choice(WIDE_EDGES)
    return chance.choice(
        [
            b"",
            b"\xc1",
            b"\xdf\xff\xff\xff\xff",
            b"\xdd\x7f\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xc9\xff\xff\xff\xff\x01",
            b"\x91" * chance.choice([65, 257, 5000, 1 << 20]),
            b"\xdd\x00\x0f\x00\x00" + b"\x90" * 0xF0000,
            b"\xdd\x00\x08\x00\x00" + b"\x81\xa0\x80" * 0x80000,
            chance.randbytes(chance.choice([1, 30, 4000])),
            msgpack.packb([[edge, chance.choice(WIDE_EDGES)]]),
            msgpack.packb([edge] * chance.choice([1, 2, 3000])),
            msgpack.packb({"level": edge, "message": None, "fields": [], "time": "now"}),
            msgpack.packb({"level": "off", "message": "\x1b]52;c;x\x07\n", "logger": "x" * 70000}),
            msgpack.packb({"fraction": float(chance.choice(["nan", "inf", "-1"])), "message": "m"}),
            msgpack.packb({"kind": "x", "retry_after": float(chance.choice(["nan", "inf"]))}),
            msgpack.packb(
                {"kind": "execution", "retry_after": 1e300, "fatal": chance.random() < 0.3}
            ),
            msgpack.packb(
                {"kind": "marshaling", "oversize": edge, "path": "p", "line": edge % (1 << 63)}
            ),
            msgpack.packb({"name": "x", "batch": edge, "concurrency": edge, "max_wait": 1e300}),
            msgpack.packb(msgpack.ExtType(1, msgpack.packb(["uint8", [edge, edge, 0], None]))),
            msgpack.packb(msgpack.ExtType(1, msgpack.packb(["x", [edge] * 70, b""]))),
            msgpack.packb(msgpack.ExtType(2, msgpack.packb([0, 0, b"123"]))),
            msgpack.packb(msgpack.ExtType(3, msgpack.packb(["rgb8", edge, edge, None, b""]))),
            msgpack.packb(msgpack.ExtType(4, b"[" * 70000)),
            msgpack.packb(msgpack.ExtType(-1, b"\xff" * chance.choice([4, 8, 12, 13]))),
        ]
    )


def mutated(chance: random.Random, frame: bytes) -> bytes:
    """Return a frame in which a field, some bytes or the length are wrong."""
    data = bytearray(frame)
    match chance.randrange(6):
        case 0:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case 1:
            at, form = chance.choice(
                [(0, "<B"), (1, "<B"), (2, "<B"), (3, "<B"), (4, "<I"), (16, "<I"), (20, "<I")]
            )
            struct.pack_into(
                form, data, at, chance.choice(EDGES) % (256 if form == "<B" else 1 << 32)
            )
        case 2:
            struct.pack_into("<Q", data, 8, chance.choice(WIDE_EDGES))
        case 3 if len(data) >= HEADER.size + DESCRIPTOR.size:
            struct.pack_into(
                "<Q", data, HEADER.size + chance.choice([8, 16]), chance.choice(WIDE_EDGES)
            )
        case 4:
            del data[chance.randrange(len(data)) :]
        case _:
            at = chance.randrange(len(data))
            data[at:at] = chance.randbytes(chance.randrange(1, 30))
    return bytes(data)
