"""Calls a node, of whatever flavour, and returns its value."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gophersnake.errors import Cancelled
from gophersnake.worker.interrupt import Interrupts

if TYPE_CHECKING:
    import asyncio

Call = Callable[[int, "list[Any]", "dict[str, Any]"], Any]
"""Takes the call's id, positional and named inputs; returns the node's value."""


def invoker(flavour: str, process: Callable[..., Any], interrupts: Interrupts) -> Call:
    """Return how a node of this flavour is called."""
    if flavour in ("async", "async generator"):
        return _Async(process, interrupts, gather=flavour == "async generator")
    if flavour == "generator":
        return functools.partial(
            _call, lambda *args, **named: list(process(*args, **named)), interrupts
        )
    return functools.partial(_call, process, interrupts)


def _call(
    process: Callable[..., Any],
    interrupts: Interrupts,
    call: int,
    args: list[Any],
    named: dict[str, Any],
) -> Any:
    try:
        try:
            interrupts.begin(call)
            return process(*args, **named)
        finally:
            interrupts.end()
    except Cancelled:
        interrupts.end()  # it may have hit right before the end above
        raise


class _Async:
    """An ``async def`` node, on an event loop that lives as long as the worker."""

    def __init__(
        self, process: Callable[..., Any], interrupts: Interrupts, *, gather: bool
    ) -> None:
        self._process = self._gather(process) if gather else process
        self._interrupts = interrupts
        self._loop = loop()

    @staticmethod
    def _gather(process: Callable[..., Any]) -> Callable[..., Any]:
        async def gathered(*args: Any, **named: Any) -> list[Any]:
            return [value async for value in process(*args, **named)]

        return gathered

    def __call__(self, call: int, args: list[Any], named: dict[str, Any]) -> Any:
        import asyncio  # only async nodes need it

        task = self._loop.create_task(self._process(*args, **named))
        asked = False

        def cancel() -> None:
            nonlocal asked
            asked = True
            # The loop may be asleep, and only this wakes it.
            self._loop.call_soon_threadsafe(task.cancel)

        self._interrupts.begin(call, cancel)
        try:
            return self._loop.run_until_complete(task)
        except asyncio.CancelledError as error:
            if not asked:
                raise
            raise Cancelled("the supervisor gave the call up") from error
        finally:
            self._interrupts.end()


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """Return the worker's event loop."""
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
