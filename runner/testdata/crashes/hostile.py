"""A node that does to its host whatever a seed makes of it."""

from __future__ import annotations

import os
import random
import socket
import time
from typing import Any

import msgpack
import wire
from gophersnake import node
from gophersnake._worker.wire import frames


def body(chance: random.Random) -> bytes:
    """Something, or what a frame may have."""
    likely = [
        b"",
        b"\xc0",
        chance.randbytes(chance.randrange(64)),
        msgpack.packb(
            {"protocol": 1, "pid": -1, "kind": "execution", "message": "m", "fatal": True}
        ),
        msgpack.packb({"level": 7, "message": None, "fields": [], "time": "now"}),
        msgpack.packb({"name": "x", "inputs": [{"name": 1}], "concurrency": -5, "batch": 1 << 62}),
        msgpack.packb([[1, -1], [0, 1 << 63]]),
        b"\x91" * 500,
        b"\xdf\xff\xff\xff\xff",
        b"\xc8\xff\xff\x01",
    ]
    return chance.choice(likely)


def frame(chance: random.Random) -> bytes:
    content = body(chance)
    count = chance.choice([0, 0, 0, 1, 3])
    said = [chance.choice([len(content), 0, 1 << 20, 0xFFFFFFFF]), len(content)]
    return (
        frames.HEADER.pack(
            chance.choice([frames.MAGIC] * 9 + [0]),
            chance.choice([1] * 9 + [2]),
            chance.randrange(256) if chance.random() < 0.1 else chance.randrange(1, 21),
            chance.choice([0] * 9 + [255]),
            said[chance.random() < 0.9],
            chance.choice([0, 1, 2, 3, 1 << 63]),
            count,
            chance.choice([0, 0, 0, 1]),
        )
        + b"".join(
            frames.DESCRIPTOR.pack(
                chance.choice([0, 1, 0x80000001, 0xFFFFFFFF]),
                chance.choice([0, 0, 1]),
                chance.choice([0, 1 << 63]),
                chance.choice([0, 16, 1 << 62]),
            )
            for _ in range(count)
        )
        + content
    )


def channel(chance: random.Random) -> None:
    """Hand over what is no shared memory, on the socket that is for it."""
    with socket.socket(fileno=os.dup(5)) as channel:
        with open(os.devnull) as file:
            descriptors = [file.fileno()] * chance.choice([0, 1, 1, 3])
            try:
                socket.send_fds(
                    channel, [chance.randbytes(chance.choice([1, 12, 12, 64]))], descriptors
                )
            except OSError:
                pass  # it is not taken


@node
def hostile(seed: int | None) -> int:
    if seed is None:
        return os.getpid()
    chance = random.Random(seed)
    for _ in range(chance.randrange(1, 6)):
        match chance.randrange(6):
            case 0:
                channel(chance)
            case 1:
                os.write(chance.choice([1, 2]), chance.randbytes(2000) + b'\n{"@level": 1}\n1|1|')
            case 2:
                os.pwrite(4, chance.randbytes(64), chance.choice([0, 8]))
            case _:
                try:
                    wire.send(frame(chance))
                except (OSError, AssertionError):
                    pass  # the host has hung up
    match chance.randrange(8):
        case 0 | 1:
            os._exit(chance.randrange(256))
        case 2:
            time.sleep(3600)
    return os.getpid()


@node
class Hasty:
    """Be hostile before it is ready."""

    def __init__(self, seed: int) -> None:
        hostile(seed)

    def process(self, value: Any) -> Any:
        return value
