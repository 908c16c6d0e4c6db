"""The bodies of release frames."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from gophersnake._worker.memory import releases

OVER = [{1: 1}, {1 << 31 | 7: (1 << 63) + 1}, {}, {number: number * 3 for number in range(1, 300)}]


@pytest.mark.parametrize("over", OVER, ids=["one", "large", "none", "many"])
def test_a_packed_body_is_msgpack_and_can_be_unpacked(over: dict[int, int]) -> None:
    body = releases.pack(over)
    assert dict(msgpack.unpackb(body)) == over
    assert dict(releases.unpack(memoryview(body))) == over
    assert dict(releases.unpack(msgpack.packb(list(over.items())))) == over


def test_a_body_of_the_same_size_as_a_single_pair_is_unpacked_correctly() -> None:
    one = releases.pack({5: 6})
    others: list[Any] = [b"x" * (len(one) - 2), [1] * (len(one) - 3)]
    for other in others:
        body = msgpack.packb(other)
        assert len(body) == len(one)
        assert releases.unpack(body) == other
    with pytest.raises(ValueError, match="incomplete"):
        releases.unpack(one[:1] + b"\0\0\0\2" + one[5:])
