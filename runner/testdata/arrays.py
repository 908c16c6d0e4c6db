"""Nodes for the tests of shared memory."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import gophersnake
import numpy as np
from gophersnake import node


@node
def double(array: Any) -> Any:
    if array.nbytes:
        assert not array.flags.writeable
    return array * np.float32(2)


@node
def double_in_place_of(array: Any) -> Any:
    """Write the result where it will be sent from."""
    out = gophersnake.empty(array.shape, "float32")
    np.multiply(array, np.float32(2), out=out)
    return out


@node
def each(arrays: list[Any]) -> Any:
    return [array * np.float32(2) for array in arrays]


@node
def same(array: Any) -> Any:
    return array


@node
def last(array: Any) -> int:
    return int(array[-1])


@node
def where(array: Any) -> str:
    """Name the file that the array's memory is mapped from."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, inode, *name = line.split(maxsplit=5)
        begin, end = (int(part, 16) for part in span.split("-"))
        if begin <= address < end:
            return f"{inode} {' '.join(name)}"
    return "nowhere"


@node
class Keep:
    def __init__(self) -> None:
        self.kept: list[Any] = []

    def process(self, array: Any) -> Any:
        self.kept.append(array)
        return [int(each.view("u1")[0]) for each in self.kept]


@node
def die_once(array: Any) -> Any:
    marker = Path(os.environ["GOPHERSNAKE_TEST_MARKER"])
    if not marker.exists():
        marker.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    marker.unlink()
    return array


@node
class Mortal:
    """Die right after the result is on its way."""

    def process(self, array: Any) -> Any:
        self.timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL))
        self.timer.start()
        return array * np.float32(2)
