"""Nodes that cause the faults that their calls name, and whose answers can be checked."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

from faults import STATE, inject
from gophersnake import node

EXECUTED = STATE / "executed"
"""The file that records the calls of the non-idempotent nodes, a line each."""


def answer(call: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a call, which the caller computes too, to compare it."""
    return {"n": call["n"], "sum": sum(call["numbers"]), "data": call["data"][::-1]}


def executed(call: dict[str, Any]) -> None:
    """Record that a call is executed, in one small write, which is atomic."""
    file = os.open(EXECUTED, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        os.write(file, b"%d\n" % call["n"])
    finally:
        os.close(file)


@node
def work(call: dict[str, Any]) -> Any:
    """Answer one call at a time."""
    time.sleep(call.get("nap", 0))
    return inject(call, answer(call))


@node(concurrency=16)
async def later(call: dict[str, Any]) -> Any:
    """Answer many calls concurrently."""
    await asyncio.sleep(call.get("nap", 0))
    return inject(call, answer(call))


@node(batch=16)
def together(calls: list[dict[str, Any]]) -> list[Any]:
    """Answer batches, each of which fails as a whole."""
    time.sleep(max(call.get("nap", 0) for call in calls))
    return [inject(call, answer(call), index=i) for i, call in enumerate(calls)]


@node(batch=16)
def each_for_itself(calls: list[dict[str, Any]]) -> list[Any]:
    """Answer batches, in each of which a call fails alone."""
    results = []
    for i, call in enumerate(calls):
        try:
            results.append(inject(call, answer(call), index=i))
        except Exception as error:
            results.append(error)
    return results


@node
def once(call: dict[str, Any]) -> Any:
    """Answer a call that must not be executed twice."""
    executed(call)
    return work(call)


@node(batch=8)
def once_together(calls: list[dict[str, Any]]) -> list[Any]:
    """Answer batches of calls that must not be executed twice."""
    for call in calls:
        executed(call)
    return each_for_itself(calls)


# Streams, and runs that yield many values.


@node
def burst(call: dict[str, Any]) -> Iterator[Any]:
    """Yield several parts of a call. A fault occurs in the middle of them."""
    for part in range(call["parts"]):
        item = {"n": call["n"], "part": part, "value": call["value"]}
        if part == call["parts"] // 2:
            item = inject(call, item, at="burst")
            if call.get("at", "burst") != "burst":  # for a node that follows
                item |= {"fault": call["fault"], "at": call["at"], "once": call["once"]}
        yield item


@node(concurrency=8)
async def step(item: dict[str, Any]) -> Any:
    """Pass an item on."""
    await asyncio.sleep(0)
    return inject(item, item, at="step")


@node(stateful=True)
class Tally:
    """Numbers the items of a stream and sums their values, with checkpoints."""

    def begin(self) -> None:
        """Start a stream."""
        self.count, self.total = 0, 0

    def process(self, item: dict[str, Any]) -> Any:
        """Number an item."""
        result = inject(item, {"n": item["n"], "part": item["part"]}, at="tally")
        self.total += item["value"]
        self.count += 1
        if type(result) is dict:  # otherwise a fault replaced it
            result |= {"count": self.count, "total": self.total}
        return result

    def finish(self) -> dict[str, Any]:
        """Return the number of items and the sum."""
        return {"end": self.count, "total": self.total}

    def snapshot(self) -> list[int]:
        """Return the state."""
        return [self.count, self.total]

    def restore(self, state: list[int]) -> None:
        """Continue from a state."""
        self.count, self.total = state


# A graph.


@node
async def spread(call: dict[str, Any]) -> Any:
    """Pass the call to two nodes."""
    return inject(call, call, at="spread")


@node
def left(call: dict[str, Any]) -> Any:
    """Answer the call."""
    return inject(call, answer(call), at="left")


@node
def join(left: dict[str, Any], right: dict[str, Any]) -> Any:
    """Combine two answers."""
    both = {"n": right["n"], "sum": left["sum"], "data": left["data"], "right": right["sum"]}
    return inject(right, both, at="join")
