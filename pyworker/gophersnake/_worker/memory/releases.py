"""The bodies of release frames, which release borrowed segments.

Most calls that take or return large buffers need one, so they are packed and unpacked
without msgpack if possible. Go's ``ipc/sharing.go`` has the other side.
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from gophersnake._worker.wire import frames
from gophersnake._worker.wire.frames import Bytes

_ARRAY = struct.Struct(">BI")
_PAIR = struct.Struct(">BBIBQ")
_ONE = struct.Struct(">7sIBQ")
"""Arrays and numbers of msgpack, all of them in their longest form."""

ARRAY, PAIR, UINT32, UINT64 = 0xDD, 0x92, 0xCE, 0xCF

_START_OF_ONE = _ARRAY.pack(ARRAY, 1) + bytes([PAIR, UINT32])
"""The beginning of a body with one pair."""

_HEAD_OF_ONE = frames.whole(frames.RELEASE, bytes(_ONE.size))[: frames.HEADER_SIZE]
"""The header of a frame with one pair."""

_unpack_one, _pack_one, _SIZE_OF_ONE = _ONE.unpack, _ONE.pack, _ONE.size


def pack(released: dict[int, int]) -> bytes:
    """Return the body that releases a number of loans of each segment.

    Args:
        released: the number of loans, by segment number.
    """
    pairs = [_PAIR.pack(PAIR, UINT32, number, UINT64, count) for number, count in released.items()]
    return _ARRAY.pack(ARRAY, len(released)) + b"".join(pairs)


def frame_of_one(number: int, count: int) -> bytes:
    """Return a whole frame that releases loans of one segment, as most frames do."""
    return _HEAD_OF_ONE + _pack_one(_START_OF_ONE, number, UINT64, count)


def only_pair(body: Bytes) -> tuple[int, int] | None:
    """Return the segment number and the loans in a body that ``frame_of_one`` could have made.

    Returns ``None`` for any other body, which ``unpack`` takes.
    """
    if len(body) != _SIZE_OF_ONE:
        return None
    start, number, kind, count = _unpack_one(body)
    return (number, count) if start == _START_OF_ONE and kind == UINT64 else None


def unpack(body: Bytes) -> Any:
    """Return the content of a body: pairs of segment numbers and loans, if it is valid.

    The content is not checked.

    Raises:
        Exception: the body is not msgpack.
    """
    return msgpack.unpackb(body)
