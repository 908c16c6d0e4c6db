"""The bodies of release frames, as the host's ipc/sharing.go writes and reads them.

They go along with most calls that take or return large data.
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


def pack(over: dict[int, int]) -> bytes:
    """Return the body that says how many mentions of which segments are over."""
    pairs = [_PAIR.pack(PAIR, UINT32, number, UINT64, count) for number, count in over.items()]
    return _ARRAY.pack(ARRAY, len(over)) + b"".join(pairs)


def unpack(body: Bytes) -> Any:
    """Return what a body says, which may be anything: pairs of segments and counts, if it is right.

    Raises:
        Exception: it is no msgpack.
    """
    if len(body) == _ONE.size:  # most often it is about one segment
        array, length, pair, first, number, second, count = _ONE.unpack(body)
        if (array, length, pair, first, second) == (ARRAY, 1, PAIR, UINT32, UINT64):
            return ((number, count),)
    return msgpack.unpackb(body)
