"""Nodes for the tests of streams."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from gophersnake import node


def perish(deaths: str, at: object) -> None:
    """End the worker if there is a file of that name, which is then gone."""
    marker = Path(deaths, str(at))
    if deaths and marker.exists():
        marker.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


@node
def words(text: str) -> Iterator[str]:
    """Split a text into words."""
    yield from text.split()


@node(batch=32, max_wait_ms=60_000)
def together(items: list[int]) -> list[int]:
    """Say how many came together."""
    return [len(items)] * len(items)


@node
def mortal(n: int, deaths: str = "") -> int:
    perish(deaths, n)
    return n


@node
def logged(n: int, log: str, deaths: str = "") -> int:
    """Write each item that is begun to a file, and perish at some."""
    with open(log, "a") as file:
        print(n, file=file)
    perish(deaths, n)
    return n


@node
def thrice(n: int, deaths: str = "") -> Iterator[str]:
    """Give three values, and perish before one of them."""
    for i in range(3):
        perish(deaths, f"{n}.{i}")
        yield f"{n}.{i}"


@node
def some(n: int, every: int = 1) -> Iterator[int]:
    """Let one of so many items pass."""
    if n % every == 0:
        yield n


@node
def endless(log: str) -> Iterator[int]:
    """Give values for ever, and write a byte for each into the file."""
    with open(log, "ab", buffering=0) as out:
        try:
            n = 0
            while True:
                out.write(b".")
                yield n
                n += 1
        finally:
            Path(log + ".closed").write_text("closed")


@node
def fails_after(n: int, raised: bool = True) -> Iterator[int]:
    """Give n values, and raise an exception."""
    yield from range(n)
    raise ValueError("no more")


@node(stateful=True)
class Total:
    """Add up, and give the total at the end once more, with how many came after how many."""

    def __init__(self, deaths: str = "") -> None:
        self.deaths = deaths

    def begin(self) -> None:
        self.total = 0

    def process(self, n: int) -> int:
        perish(self.deaths, n)
        if n < 0:
            raise ValueError("a negative number")
        self.total += n
        return self.total

    def finish(self) -> dict[str, Any]:
        perish(self.deaths, "end")
        return {"total": self.total}


@node(stateful=True)
class Ledger:
    """Add up and give each item and the total, and survive."""

    restored = False

    def __init__(self, deaths: str = "") -> None:
        self.deaths = deaths

    def begin(self) -> None:
        self.total = 0
        self.calls = 0

    def process(self, n: int) -> Iterator[list[Any]]:
        self.calls += 1
        perish(self.deaths, n)
        if self.restored and self.calls == 1:
            perish(self.deaths, f"{n} once more")
        yield ["item", n]
        perish(self.deaths, f"{n}.5")
        self.total += n
        yield ["total", self.total]

    def finish(self) -> Iterator[list[Any]]:
        yield ["end", self.total]
        perish(self.deaths, "end")
        yield ["calls", self.calls]

    def snapshot(self) -> int:
        perish(self.deaths, "snapshot")
        return self.total

    def restore(self, total: int) -> None:
        perish(self.deaths, "restore")
        self.total = total
        self.calls = 0
        self.restored = True


@node(stateful=True)
class Pairs:
    """Give two items together."""

    def begin(self) -> None:
        self.first: Any = None

    def process(self, item: Any) -> Any:
        if self.first is None:
            self.first = item
            return None
        pair, self.first = [self.first, item], None
        return pair


@node(stateful=True)
class Lag:
    """Give nothing before the end, and all then."""

    def begin(self) -> None:
        self.held: list[Any] = []

    def process(self, item: Any) -> None:
        self.held.append(item)

    def finish(self) -> Iterator[Any]:
        yield from self.held


waiting: list[asyncio.Future[None]] = []


async def all_inside(calls: int = 8) -> None:
    """Return when so many calls are inside at once."""
    waiting.append(asyncio.get_running_loop().create_future())
    mine = waiting[-1]
    if len(waiting) == calls:
        for each in waiting:
            each.set_result(None)
        waiting.clear()
    await mine


@node(concurrency=8)
async def meets(n: int) -> AsyncIterator[list[int]]:
    """Give three values, and the second only when eight calls have given one."""
    for i in range(3):
        if i == 1:
            await all_inside()
        yield [n, i]


@node(stateful=True, concurrency=8)
class Meets:
    """Do the same for eight streams, and count the items of each."""

    async def begin(self) -> None:
        await all_inside()
        self.items = 0

    async def process(self, n: int) -> AsyncIterator[list[int]]:
        self.items += 1
        async for value in meets(n):
            yield value

    async def finish(self) -> list[Any]:
        await all_inside()
        return ["items", self.items]


@node(stateful=True)
class MeetsOnce:
    """Give one value when eight streams are inside."""

    async def process(self, n: int) -> int:
        await all_inside()
        return n


@node(concurrency=8)
async def stays(n: int) -> AsyncIterator[str]:
    """Give a value, and then do what the number of the call says."""
    yield "begun"
    if n == 0:
        raise ValueError("only this call")
    if n < 0:
        await asyncio.sleep(3600)
    yield "done"


@node(stateful=True)
class Stays:
    """Do the same in a session."""

    async def process(self, n: int) -> AsyncIterator[str]:
        async for value in stays(n):
            yield value
