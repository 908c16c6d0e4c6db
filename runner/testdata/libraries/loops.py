"""Nodes that run event loops inside event loops, as libraries for notebooks and servers do."""

from __future__ import annotations

import asyncio
from typing import Any

from gophersnake import node


async def later(value: Any, turns: int = 3) -> Any:
    """Return a value after some turns of the event loop."""
    for _ in range(turns):
        await asyncio.sleep(0.001)
    return value


@node
async def nested(value: Any) -> Any:
    """Run coroutines to their end inside a running loop, which nest_asyncio allows.

    The inner loop finds the frames that the outer loop has seen, and has not read yet.
    """
    import nest_asyncio

    nest_asyncio.apply()
    for _ in range(20):
        await asyncio.sleep(0)
        inner = asyncio.get_event_loop().run_until_complete(later(value, 1))
    return asyncio.run(later(inner)) if value % 2 else inner


@node
async def nested_in_a_turn(value: Any) -> Any:
    """Apply nest_asyncio in a turn of the loop, and run what the turn would have run next.

    Nothing else is due then, so that the turn finds its queue empty.
    """
    import nest_asyncio

    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def first() -> None:
        nest_asyncio.apply()
        loop.call_later(0.01, done.set_result, loop.run_until_complete(later(value)))

    loop.call_soon(first)
    loop.call_soon(int)
    return await done


@node
async def nested_items(count: int) -> Any:
    """Yield values, each from a nested loop."""
    import nest_asyncio

    nest_asyncio.apply()
    for i in range(count % 10):
        yield asyncio.get_event_loop().run_until_complete(later(i))


@node
def nested_plainly(value: Any) -> Any:
    """Run a loop in a node that is not async."""
    import nest_asyncio

    nest_asyncio.apply()
    return asyncio.run(later(value))


@node
def run_plainly(value: Any) -> Any:
    """Run a loop in a node that is not async."""
    return asyncio.run(later(value))


@node
async def run_wrongly(value: Any) -> Any:
    """Run a loop inside a running one, which Python refuses."""
    inner = later(value)
    try:
        return asyncio.run(inner)
    finally:
        inner.close()


@node
async def run_until_complete_wrongly(value: Any) -> Any:
    """Run the running loop, which Python refuses."""
    inner = later(value)
    try:
        return asyncio.get_running_loop().run_until_complete(inner)
    finally:
        inner.close()
