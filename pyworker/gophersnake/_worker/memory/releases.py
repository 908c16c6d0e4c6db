"""The bodies of release frames, which release borrowed segments.

Most calls that take or return large buffers need one, so they are packed and unpacked
without msgpack if possible. Go's ``ipc/sharing.go`` has the other side.
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from gophersnake._worker.wire.frames import Bytes

_ARRAY = struct.Struct(">BI")
_PAIR = struct.Struct(">BBIBQ")
_ONE = struct.Struct(">BIBBIBQ")
"""Arrays and numbers of msgpack, all of them in their longest form."""

ARRAY, PAIR, UINT32, UINT64 = 0xDD, 0x92, 0xCE, 0xCF


def pack(released: dict[int, int]) -> bytes:
    """Return the body that releases a number of loans of each segment.

    Args:
        released: the number of loans, by segment number.
    """
    pairs = [_PAIR.pack(PAIR, UINT32, number, UINT64, count) for number, count in released.items()]
    return _ARRAY.pack(ARRAY, len(released)) + b"".join(pairs)


def unpack(body: Bytes) -> Any:
    """Return the content of a body: pairs of segment numbers and loans, if it is valid.

    The content is not checked.

    Raises:
        Exception: the body is not msgpack.
    """
    if len(body) == _ONE.size:  # most bodies have one pair
        array, length, pair, first, number, second, count = _ONE.unpack(body)
        if (array, length, pair, first, second) == (ARRAY, 1, PAIR, UINT32, UINT64):
            return ((number, count),)
    return msgpack.unpackb(body)
