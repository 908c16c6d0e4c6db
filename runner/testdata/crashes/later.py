"""A node that does as it is told on an event loop."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from gophersnake import node


async def sleep_for_ever() -> None:
    await asyncio.sleep(3600)


async def block_the_loop() -> None:
    time.sleep(3600)


@node
async def later(how: dict[str, Any]) -> Any:
    if "way" not in how:
        return os.getpid()
    return await globals()[how["way"]]()


async def interrupt() -> None:
    raise KeyboardInterrupt


async def raise_in_the_background() -> str:
    task = asyncio.create_task(interrupt())
    await asyncio.wait([task])
    return "fine"
