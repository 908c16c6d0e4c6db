"""Runs node code of any kind, and returns or emits its values."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from gophersnake._worker.originals import time
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake.errors import Cancelled

if TYPE_CHECKING:
    import asyncio

_monotonic = time.monotonic

Emit = Callable[[Any], None]
"""Takes one value of a call that returns many."""


class Invoker:
    """Runs node code for calls, which can be interrupted meanwhile.

    A decorator may hide the kind of a function, so the type of the returned object decides.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        """Create an invoker whose calls can be interrupted."""
        self._interrupts = interrupts

    def value(
        self, call: int, function: Callable[..., Any], args: Sequence[Any], named: dict[str, Any]
    ) -> Any:
        """Return a function's value, or the list of a generator's values.

        Raises:
            BaseException: whatever the function raises, ``Cancelled`` included.
        """
        interrupts = self._interrupts
        try:
            interrupts.call = call  # the same as begin, without a function call
            interrupts.since = _monotonic()
            if interrupts.woken or interrupts.canceled:
                interrupts.interrupt()
            value = function(*args, **named) if named else function(*args)
            kind = type(value)
            if kind is GeneratorType:
                values: list[Any] = []
                _each(value, values.append)
                return values
        finally:
            interrupts.call = 0  # the same as end
        if kind is CoroutineType:
            return self._finish(call, value)
        if kind is AsyncGeneratorType:
            values = []
            self._finish(call, _each_async(value, values.append))
            return values
        return value

    def resolved(self, call: int, value: Any) -> Any:
        """Return the value of what a function of a running call has returned.

        That of a generator is the list of its values. The call can be interrupted afterwards.

        Raises:
            BaseException: whatever the function raises, ``Cancelled`` included.
        """
        kind = type(value)
        if kind is GeneratorType:
            values: list[Any] = []
            _each(value, values.append)
            return values
        if kind is CoroutineType:
            value = self._finish(call, value)
        elif kind is AsyncGeneratorType:
            values = []
            self._finish(call, _each_async(value, values.append))
            value = values
        self._interrupts.resume(call)
        return value

    def items(
        self,
        call: int,
        function: Callable[..., Any],
        args: Sequence[Any],
        named: dict[str, Any],
        emit: Emit,
    ) -> None:
        """Emit the values of a generator, or another function's value unless it is None.

        ``emit`` is called while the generator is suspended. If it raises, the generator
        is closed.

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
            self._finish(call, _each_async(value, emit))
            return
        if type(value) is CoroutineType:
            value = self._finish(call, value)
        if value is not None:
            emit(value)

    def _finish(self, call: int, value: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the worker's event loop, and return its value."""
        import asyncio  # only async nodes need it

        waiting = loop()
        task = waiting.create_task(value)
        canceled = False

        def cancel() -> None:
            nonlocal canceled
            canceled = True
            if waiting.is_running():  # it may be waiting, and only this wakes it
                waiting.call_soon_threadsafe(task.cancel)
            else:
                task.cancel()

        self._interrupts.begin(call, cancel)
        try:
            return waiting.run_until_complete(task)
        except asyncio.CancelledError as error:
            if not canceled:
                raise
            raise Cancelled("the supervisor canceled the call") from error
        finally:
            self._interrupts.end()


def _each(values: Generator[Any, Any, Any], emit: Emit) -> None:
    try:
        for value in values:  # not list(values), in which no signal handler runs
            emit(value)
    finally:
        values.close()  # now, rather than when its traceback is freed


async def _each_async(values: AsyncGenerator[Any, Any], emit: Emit) -> None:
    try:
        async for value in values:
            emit(value)
    finally:
        await values.aclose()


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """Return the worker's event loop, created with the policy that the node has set."""
    import asyncio  # only async nodes need it

    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    return made


def close_loop() -> None:
    """Close the worker's event loop, if there is one, as ``asyncio.run`` does."""
    if loop.cache_info().currsize:
        made = loop()
        if not made.is_closed():
            made.run_until_complete(made.shutdown_default_executor())
            made.close()


def run(value: Any) -> Any:
    """Return a value, or the result of an awaitable: ``setup`` may be an ``async def``."""
    if hasattr(value, "__await__"):

        async def wait() -> Any:
            return await value

        return loop().run_until_complete(wait())
    return value
