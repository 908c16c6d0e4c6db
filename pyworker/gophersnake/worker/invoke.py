"""Calls a node, of whatever flavour, and returns its value."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from gophersnake.errors import Cancelled
from gophersnake.worker.interrupt import Interrupts

if TYPE_CHECKING:
    import asyncio

Call = Callable[[int, "list[Any]", "dict[str, Any]"], Any]
"""Takes the call's id, positional and named inputs; returns the node's value."""

AWAITED = (CoroutineType, AsyncGeneratorType)


def invoker(flavour: str, process: Callable[..., Any], interrupts: Interrupts) -> Call:
    """Return how a node of this flavour is called.

    A flavour is what the signature says. A decorator may hide it: what a plain
    function returns is looked at, too.
    """
    finish = _Awaiter(interrupts)
    if flavour.startswith("async"):
        return lambda call, args, named: finish(call, process(*args, **named))

    def invoke(call: int, args: list[Any], named: dict[str, Any]) -> Any:
        try:
            try:
                interrupts.begin(call)
                value = process(*args, **named)
                if type(value) is GeneratorType:
                    return _gathered(value)
            finally:
                interrupts.end()
        except Cancelled:
            interrupts.end()  # it may have hit right before the end above
            raise
        return finish(call, value) if type(value) in AWAITED else value

    return invoke


def _gathered(generator: Generator[Any, Any, Any]) -> list[Any]:
    values = []
    try:
        for value in generator:  # in Python: list() lets no signal in between them
            values.append(value)
        return values
    finally:
        generator.close()  # now, and not when its traceback is forgotten


class _Awaiter:
    """Awaits on an event loop that lives as long as the worker."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def __call__(self, call: int, value: Any) -> Any:
        """Return what a coroutine returns, or a list of what an async generator yields."""
        import asyncio  # only async nodes need it

        if isinstance(value, AsyncGenerator):
            value = _gathered_later(value)
        waiting = loop()
        task = waiting.create_task(value)
        asked = False

        def cancel() -> None:
            nonlocal asked
            asked = True
            if waiting.is_running():  # it may be asleep, and only this wakes it
                waiting.call_soon_threadsafe(task.cancel)
            else:
                task.cancel()

        self._interrupts.begin(call, cancel)
        try:
            return waiting.run_until_complete(task)
        except asyncio.CancelledError as error:
            if not asked:
                raise
            raise Cancelled("the supervisor gave the call up") from error
        finally:
            self._interrupts.end()


async def _gathered_later(generator: AsyncGenerator[Any, Any]) -> list[Any]:
    try:
        return [value async for value in generator]
    finally:
        await generator.aclose()


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """Return the worker's event loop, of whatever policy the node has set."""
    import asyncio  # only async nodes need it

    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    return made


def run(value: Any) -> Any:
    """Return the value, or what it comes to where it is awaitable: an async ``setup``."""
    if hasattr(value, "__await__"):

        async def wait() -> Any:
            return await value

        return loop().run_until_complete(wait())
    return value
