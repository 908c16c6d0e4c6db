"""The bodies of release frames."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from gophersnake._worker.memory import releases

OVER = [{1: 1}, {1 << 31 | 7: (1 << 63) + 1}, {}, {number: number * 3 for number in range(1, 300)}]


@pytest.mark.parametrize("over", OVER, ids=["one", "large", "none", "many"])
def test_what_is_packed_is_msgpack_and_is_read_again(over: dict[int, int]) -> None:
    body = releases.pack(over)
    assert dict(msgpack.unpackb(body)) == over
    assert dict(releases.unpack(memoryview(body))) == over
    assert dict(releases.unpack(msgpack.packb(list(over.items())))) == over


def test_what_only_looks_like_one_mention_is_read_as_what_it_is() -> None:
    one = releases.pack({5: 6})
    others: list[Any] = [b"x" * (len(one) - 2), [1] * (len(one) - 3)]
    for other in others:
        body = msgpack.packb(other)
        assert len(body) == len(one)
        assert releases.unpack(body) == other
    with pytest.raises(ValueError, match="incomplete"):
        releases.unpack(one[:1] + b"\0\0\0\2" + one[5:])
