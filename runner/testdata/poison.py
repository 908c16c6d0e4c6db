"""Nodes that double numbers. One input is poison, and says how it harms the node."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from gophersnake import node


def double(value: Any) -> Any:
    """Double a number, or do what a poison says."""
    if not isinstance(value, str):
        return 2 * value
    if value == "raises an exception":
        raise ValueError("this input is poison")
    if value == "raises `MemoryError`":
        raise MemoryError
    if value == "hangs":
        time.sleep(3600)
    if value == "kills the interpreter":
        os.kill(os.getpid(), signal.SIGSEGV)
    return object()  # gives a bad result


@node
def plain(value: Any) -> Any:
    return double(value)


@node(batch=8)
def batch(values: list[Any]) -> list[Any]:
    time.sleep(0.002)  # so that the next batch fills up
    return [double(value) for value in values]


@node(concurrency=16)
async def concurrent(value: Any) -> Any:
    await asyncio.sleep(0.01)
    return double(value)


@node(threads=16)
def threaded(value: Any) -> Any:
    time.sleep(0.01)
    return double(value)


@node
def generator(value: Any) -> Iterator[Any]:
    yield value
    yield double(value)


@node(concurrency=16)
async def concurrent_generator(value: Any) -> AsyncIterator[Any]:
    yield value
    await asyncio.sleep(0.01)
    yield double(value)


@node(stateful=True)
class Stateful:
    """Doubles numbers, and remembers how many."""

    def begin(self) -> None:
        self.seen = 0

    def process(self, value: Any) -> Any:
        self.seen += 1
        return double(value)

    def snapshot(self) -> int:
        return self.seen

    def restore(self, state: int) -> None:
        self.seen = state


@node(stateful=True, concurrency=16)
class ConcurrentStateful:
    """Does the same for many streams at once."""

    def begin(self) -> None:
        self.seen = 0

    async def process(self, value: Any) -> Any:
        self.seen += 1
        await asyncio.sleep(0.01)
        return double(value)

    def snapshot(self) -> int:
        return self.seen

    def restore(self, state: int) -> None:
        self.seen = state
