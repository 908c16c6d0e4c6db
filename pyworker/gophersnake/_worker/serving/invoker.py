"""Calls a node, of whatever flavour, and takes what it gives."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake.errors import Cancelled

if TYPE_CHECKING:
    import asyncio

Emit = Callable[[Any], None]
"""Takes one value of a call that gives many."""


class Invoker:
    """Runs node code for calls, which can be interrupted meanwhile.

    A decorator may hide a function's flavour, so it is what comes back that counts.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        """Take what interrupts it."""
        self._interrupts = interrupts

    def value(
        self, call: int, function: Callable[..., Any], args: Sequence[Any], named: dict[str, Any]
    ) -> Any:
        """Return a function's value; that of a generator is a list of all that it gives.

        Raises:
            BaseException: whatever the function raises, ``Cancelled`` included.
        """
        interrupts = self._interrupts
        try:
            interrupts.call = call  # as begin and resume do, without a function of its own
            if interrupts.knocked or interrupts.cancelled:
                interrupts.look_up()
            value = function(*args, **named) if named else function(*args)
            if type(value) is GeneratorType:
                values: list[Any] = []
                _each(value, values.append)
                return values
        finally:
            interrupts.call = 0  # as end does
        if type(value) is AsyncGeneratorType:
            values = []
            self._finish(call, _each_later(value, values.append))
            return values
        return self._finish(call, value) if type(value) is CoroutineType else value

    def items(
        self,
        call: int,
        function: Callable[..., Any],
        args: Sequence[Any],
        named: dict[str, Any],
        emit: Emit,
    ) -> None:
        """Emit all that a generator gives, or the value of another function if it is not None.

        ``emit`` is called when the generator stands still. If that raises, the
        generator is closed.

        Raises:
            BaseException: whatever the function or ``emit`` raises, ``Cancelled`` included.
        """
        interrupts = self._interrupts
        try:
            interrupts.begin(call)
            value = function(*args, **named)
            if type(value) is GeneratorType:
                _each(value, emit)
                return
        finally:
            interrupts.end()
        if type(value) is AsyncGeneratorType:
            self._finish(call, _each_later(value, emit))
            return
        if type(value) is CoroutineType:
            value = self._finish(call, value)
        if value is not None:
            emit(value)

    def _finish(self, call: int, value: Coroutine[Any, Any, Any]) -> Any:
        """Return what a coroutine returns, on an event loop that lives as long as the worker."""
        import asyncio  # only async nodes need it

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


def _each(values: Generator[Any, Any, Any], emit: Emit) -> None:
    try:
        for value in values:  # in Python: list() lets no signal in between them
            emit(value)
    finally:
        values.close()  # now, and not when its traceback is forgotten


async def _each_later(values: AsyncGenerator[Any, Any], emit: Emit) -> None:
    try:
        async for value in values:
            emit(value)
    finally:
        await values.aclose()


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
