"""A node that keeps all shared memory that it ever had, and its neighbors."""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Any

import gophersnake
import numpy as np
from gophersnake import node
from gophersnake._worker.memory import segments

READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


class Spy:
    """Keep the mappings and descriptors of all segments."""

    def __init__(self) -> None:
        self.lent: list[mmap.mmap] = []
        self.files: list[int] = []
        self.own: list[mmap.mmap] = []
        self._map, self._create = segments._map, segments.create
        segments._map = self.map
        segments.create = self.create

    def map(self, descriptor: int, size: int, protection: int) -> mmap.mmap:
        memory = self._map(descriptor, size, protection)
        if protection == mmap.PROT_READ:
            self.lent.append(memory)
            self.files.append(os.dup(descriptor))
        return memory

    def create(self, number: int, size: int) -> segments.Segment:
        made = self._create(number, size)
        self.own.append(made.memory)
        return made

    def sees(self, secrets: list[bytes]) -> int:
        return sum(memory.find(each) >= 0 for memory in self.lent for each in secrets)

    def spoil(self) -> int:
        """Write to everything that was ever lent; return how often that succeeded."""
        spoiled = 0
        for file in self.files:
            size = os.fstat(file).st_size
            with contextlib.suppress(OSError):
                spoiled += os.pwrite(file, b"spoiled" * (size // 7), 0) > 0
            for opened in (
                lambda: os.dup(file),
                lambda: os.open(f"/proc/self/fd/{file}", os.O_RDWR),
            ):
                with contextlib.suppress(OSError):
                    again = opened()
                    try:
                        with mmap.mmap(again, size, mmap.MAP_SHARED, READ_WRITE) as memory:
                            memory[:] = b"\xee" * size
                            spoiled += 1
                    finally:
                        os.close(again)
        return spoiled


@node
class Spying(Spy):
    def __init__(self, secrets: list[str]) -> None:
        super().__init__()
        self.secrets = [each.encode() for each in secrets]

    def process(self, array: Any) -> Any:
        return {"seen": self.sees(self.secrets), "spoiled": self.spoil()}


@node
class Retracting(Spy):
    """Change all earlier results."""

    def process(self, array: Any) -> Any:
        for memory in self.own:
            memory[:] = b"\xee" * len(memory)
        return array + np.uint8(1)


@node
def reference(array: Any) -> Any:
    return array


@node
def fresh(array: Any) -> Any:
    """Return an array in a segment of the worker's own."""
    return gophersnake.empty(array.shape, "uint8")


@node
def length(array: Any) -> int:
    return int(array.size)


@node
def working(array: Any, before: str, after: str) -> Any:
    """Check an array that consists of a text, and return one of another text."""
    check(array, before)
    result = repeat(after, array.size)
    check(array, before)
    return result


@node
def checking(array: Any, text: str) -> int:
    check(array, text)
    return int(array.size)


def repeat(text: str, size: int) -> Any:
    return np.frombuffer((text.encode() * (size // len(text) + 1))[:size], np.uint8)


def check(array: Any, text: str) -> None:
    wrong = int((array != repeat(text, array.size)).sum())
    assert not wrong, f"{wrong} bytes of {array.size} have been changed"
