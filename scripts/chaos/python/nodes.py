"""Nodes that do what their calls ask for, good or bad, and whose answers can be checked."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

from gophersnake import node
from wounds import NOTES, hurt

LEDGER = NOTES / "executed"


def answer(call: dict[str, Any]) -> dict[str, Any]:
    """Return what the caller can work out for itself."""
    return {"n": call["n"], "sum": sum(call["numbers"]), "data": call["data"][::-1]}


def executed(call: dict[str, Any]) -> None:
    """Write down that a call is carried out, in one small write."""
    ledger = os.open(LEDGER, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        os.write(ledger, b"%d\n" % call["n"])
    finally:
        os.close(ledger)


@node
def work(call: dict[str, Any]) -> Any:
    """Answer, one call after the other."""
    time.sleep(call.get("nap", 0))
    return hurt(call, answer(call))


@node(concurrency=16)
async def later(call: dict[str, Any]) -> Any:
    """Answer many calls at once."""
    await asyncio.sleep(call.get("nap", 0))
    return hurt(call, answer(call))


@node(batch=16)
def together(calls: list[dict[str, Any]]) -> list[Any]:
    """Answer in batches, which fail as a whole."""
    time.sleep(max(call.get("nap", 0) for call in calls))
    return [hurt(call, answer(call), index=i) for i, call in enumerate(calls)]


@node(batch=16)
def each_for_itself(calls: list[dict[str, Any]]) -> list[Any]:
    """Answer in batches, in which each call fails for itself."""
    results = []
    for i, call in enumerate(calls):
        try:
            results.append(hurt(call, answer(call), index=i))
        except Exception as error:
            results.append(error)
    return results


@node
def once(call: dict[str, Any]) -> Any:
    """Answer what must not be carried out twice."""
    executed(call)
    return work(call)


@node(batch=8)
def once_together(calls: list[dict[str, Any]]) -> list[Any]:
    """Answer in batches what must not be carried out twice."""
    for call in calls:
        executed(call)
    return each_for_itself(calls)


# Streams, and runs that give many values.


@node
def burst(call: dict[str, Any]) -> Iterator[Any]:
    """Give several parts of a call, and be hurt in the middle."""
    for part in range(call["parts"]):
        one = {"n": call["n"], "part": part, "value": call["value"]}
        if part == call["parts"] // 2:
            one = hurt(call, one, at="burst")
            if call.get("at", "burst") != "burst":  # it befalls a node that comes later
                one |= {"fault": call["fault"], "at": call["at"], "once": call["once"]}
        yield one


@node(concurrency=8)
async def step(item: dict[str, Any]) -> Any:
    """Pass an item on."""
    await asyncio.sleep(0)
    return hurt(item, item, at="step")


@node(stateful=True)
class Tally:
    """Number what comes, and add it up; survives."""

    def begin(self) -> None:
        """Begin a stream."""
        self.count, self.total = 0, 0

    def process(self, item: dict[str, Any]) -> Any:
        """Number an item."""
        found = hurt(item, {"n": item["n"], "part": item["part"]}, at="tally")
        self.total += item["value"]
        self.count += 1
        if type(found) is dict:  # a wound may want something else to be given
            found |= {"count": self.count, "total": self.total}
        return found

    def finish(self) -> dict[str, Any]:
        """Say how much it was."""
        return {"end": self.count, "total": self.total}

    def snapshot(self) -> list[int]:
        """Return the state."""
        return [self.count, self.total]

    def restore(self, state: list[int]) -> None:
        """Go on from a state."""
        self.count, self.total = state


# A graph.


@node
async def spread(call: dict[str, Any]) -> Any:
    """Hand the call to two nodes."""
    return hurt(call, call, at="spread")


@node
def left(call: dict[str, Any]) -> Any:
    """Answer."""
    return hurt(call, answer(call), at="left")


@node
def join(left: dict[str, Any], right: dict[str, Any]) -> Any:
    """Put two answers together."""
    both = {"n": right["n"], "sum": left["sum"], "data": left["data"], "right": right["sum"]}
    return hurt(right, both, at="join")
