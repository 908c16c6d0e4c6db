"""A node on the event loop of uvloop."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from gophersnake import node

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


@node
async def on_uvloop(value: Any) -> Any:
    await asyncio.sleep(0.001)
    return [type(asyncio.get_running_loop()).__module__, value]


@node
def run_on_uvloop(value: Any) -> Any:
    async def work() -> Any:
        await asyncio.sleep(0.001)
        return [type(asyncio.get_running_loop()).__module__, value]

    return asyncio.run(work())
