"""Serves the calls of an async node, many at once, on an event loop.

The loop watches the socket. Each call is a task of its own, and answers go out as
tasks finish; those that finish in one turn of the loop are written together.

A cancel frame cancels the call's task. It is read when the loop comes to it: a
coroutine that never lets the loop go on is not interrupted in the middle, where
other calls might find what they share with it half changed. The supervisor ends
such a worker after a grace time.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.serving import failure, invoker
from gophersnake._worker.serving.answers import Answers, End
from gophersnake._worker.serving.items import credited
from gophersnake._worker.serving.window import Window, limits
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Closed, Connection, NoRoom
from gophersnake._worker.wire.frames import Frame, ProtocolError
from gophersnake.errors import Cancelled

NONE = Window()
"""The window of a call that gives one value."""


class _Call:
    """A call that has come and has not been answered."""

    __slots__ = ("asked", "body", "buffers", "id", "room", "stage", "task", "window")
    task: asyncio.Task[None]

    def __init__(self, frame: Frame, window: Window) -> None:
        self.id, self.body, self.buffers = frame.call, frame.body, frame.buffers
        self.window = window
        self.stage = ""  # where it is; empty: it has not begun
        self.asked = False  # to give up
        self.room: asyncio.Future[None] | None = None  # what it waits for, its window being full


class EventLoop:
    """Calls an async node on the thread that reads the socket."""

    def __init__(
        self,
        connection: Connection,
        answers: Answers,
        process: Callable[..., Any],
        signature: Signature,
        setup: dict[str, Any],
    ) -> None:
        """Take the connection, what serves beside it, and the node that is set up."""
        self._connection = connection
        self._begun = connection.begun
        self._answers = answers
        answers.later = True  # items that are given in one turn of the loop go out together
        self._process = process
        self._many = signature.many
        self._window = limits(setup)
        self._loop = invoker.loop()
        self._context = contextvars.copy_context()  # what each call begins with
        self._calls: dict[int, _Call] = {}
        self._waiting: deque[_Call] = deque()  # beyond what runs at once
        self._free = signature.concurrency
        self._settling = False  # before this turn of the loop is over
        self._ending = False  # the shutdown has come
        self._over = False  # nothing is answered any more
        self._error: BaseException | None = None

    def serve(self) -> None:
        """Serve all frames up to the shutdown, and the calls that are under way then.

        Raises:
            Closed: the supervisor is gone. What was under way has been cancelled.
            End: the interpreter is not to be trusted.
            ProtocolError: the supervisor spoke out of protocol.
        """
        descriptor = self._connection.fileno()
        self._loop.add_reader(descriptor, self._read)
        os.set_blocking(descriptor, True)  # uvloop changes that, and answers have to wait for room
        if self._connection.ahead:
            self._loop.call_soon(self._read)
        try:
            while not self._over:  # a node may stop the loop, too
                self._run()
        finally:
            self._over = True
            if self._connection.open:  # the loop's epoll is the parent's, too, after a fork
                self._loop.remove_reader(descriptor)
        error = self._error
        if isinstance(error, Closed):
            if self._connection.open:
                self.end()
        else:
            self._connection.flush()
        if error is not None:
            raise error

    def end(self) -> None:
        """Cancel the tasks that the node has left behind, and wait for their end."""
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        while pending := {task for task in tasks if not task.done()}:
            try:
                self._loop.run_until_complete(asyncio.wait(pending))
            except SystemExit:
                pass  # the worker ends already
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._loop.call_exception_handler(
                    {
                        "message": "a task that was cancelled when the worker shut down failed",
                        "exception": error,
                        "task": task,
                    }
                )
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        except SystemExit as error:  # in a task or a callback of the node's own
            call = next(iter(self._calls.values()), None)
            if call is None:
                self._stop(End(failure.exit_code(error)))
            else:
                self._fail(call.id, error, "call")

    def _stop(self, error: BaseException | None = None) -> None:
        """Leave the loop after this turn, with an error or in order."""
        if not self._over:
            self._over = True
            self._error = error
            self._loop.stop()

    # What the supervisor says.

    def _read(self) -> None:
        """Do as the frames say that have arrived."""
        try:
            while True:
                for frame in self._connection.arrived():
                    if self._over:
                        return
                    self._do(frame)
                if not self._connection.ahead:
                    return
        except NoRoom as error:
            self._fail(error.call, error, "decode")
        except BaseException as error:
            self._stop(error)

    def _do(self, frame: Frame) -> None:
        kind, number = frame.type, frame.call
        if kind == frames.CALL and not self._ending:
            self._admit(frame)
        elif kind == frames.CREDIT:
            self._credit(number, credited(frame))
        elif kind == frames.CANCEL:
            self._cancel(number)
        elif kind == frames.PING:
            self._connection.send(frames.PONG, number, b"")
        elif kind == frames.SHUTDOWN:
            self._ending = True
            if not self._calls:
                self._stop()
        else:
            when = " after shutdown" if self._ending else ""
            raise ProtocolError(f"the supervisor sent a {frames.name(kind)} frame{when}")

    def _admit(self, frame: Frame) -> None:
        if frame.session:
            raise ProtocolError(
                f"a call of session {frame.session} for a node that is not stateful"
            )
        if frame.call in self._calls:
            raise ProtocolError(f"a call frame with the id {frame.call}, which is under way")
        call = _Call(frame, Window(*self._window) if self._many else NONE)
        self._calls[call.id] = call
        if self._free:
            self._free -= 1
            self._begin(call)
        else:
            self._waiting.append(call)

    def _credit(self, number: int, items: int) -> None:
        call = self._calls.get(number)
        if call is None:
            return  # it came too late: the call has been answered
        call.window.credit(items)
        if call.room is not None and not call.room.done() and not call.window.full:
            call.room.set_result(None)

    def _cancel(self, number: int) -> None:
        call = self._calls.get(number)
        if call is None or call.asked:
            return
        call.asked = True
        if call.stage:
            call.task.cancel()
        else:  # it has not begun, and now never will
            call.body, call.buffers = b"", []
            self._failed(call, asyncio.CancelledError())

    # A call, from its task to its answer.

    def _begin(self, call: _Call) -> None:
        serve = self._give_many if self._many else self._give_one
        call.task = self._loop.create_task(serve(call))

    def _enter(self, call: _Call) -> bool:
        """Say that a call's frame is begun; False where it was given up before that."""
        if self._over:
            return False
        self._begun.count()
        if call.asked:
            self._release()
            return False
        call.stage = "decode"
        return True

    async def _give_one(self, call: _Call) -> None:
        if not self._enter(call):
            return
        try:
            args, named = self._answers.arguments(call.body, call.buffers)
            call.body = b""
            call.stage = "call"
            awaitable = self._process(*args, **named)
            del args, named  # the node alone says how long it needs its input
            self._result(call, await awaitable)
        except BaseException as error:
            self._failed(call, error)
        self._release()

    async def _give_many(self, call: _Call) -> None:
        if not self._enter(call):
            return
        try:
            args, named = self._answers.arguments(call.body, call.buffers)
            call.body = b""
            call.stage = "call"
            generator = self._process(*args, **named)
            del args, named
            try:
                async for value in generator:
                    if self._over:
                        break  # it has swallowed its cancellation
                    if call.window.full:
                        await self._room(call)
                    self._item(call, value)
                    del value  # it is not needed while the next one is made
            finally:
                await generator.aclose()
            self._result(call, None)
        except BaseException as error:
            self._failed(call, error)
        self._release()

    async def _room(self, call: _Call) -> None:
        call.room = self._loop.create_future()
        try:
            await call.room
        finally:
            call.room = None

    def _release(self) -> None:
        """Let the next call begin, now that one is over."""
        if self._over:
            return
        if self._waiting:
            self._context.copy().run(self._begin, self._waiting.popleft())
        else:
            self._free += 1
        if self._ending and not self._calls:
            self._stop()

    # Answers.

    def _item(self, call: _Call, value: Any) -> None:
        if self._over:
            return
        call.stage = "encode"
        call.window.sent(self._answers.item(call.id, value))
        call.stage = "call"
        self._settle_soon()

    def _result(self, call: _Call, value: Any) -> None:
        if self._over:
            return
        call.stage = "encode"
        self._answers.result(call.id, value)
        self._answered(call.id)

    def _failed(self, call: _Call, error: BaseException) -> None:
        # Not isinstance: that asks the exception, which may be a hostile one.
        kind = type(error)
        if self._over:
            return
        if kind is Closed or kind is ProtocolError:
            self._stop(error)
            return
        if call.asked and issubclass(kind, asyncio.CancelledError):
            cancelled = Cancelled("the supervisor gave the call up")
            cancelled.__cause__ = error
            error = cancelled.with_traceback(error.__traceback__)  # where the node was
        self._fail(call.id, error, call.stage or "call")

    def _fail(self, number: int, error: BaseException, stage: str) -> None:
        try:
            self._answers.fail(number, error, stage)
            self._answered(number)
        except BaseException as end:
            self._stop(end)

    def _answered(self, number: int) -> None:
        """Strike a call out. Where others are under way, its answer goes out with theirs."""
        del self._calls[number]
        if self._calls or self._connection.shared is not None:
            self._settle_soon()
        else:
            self._connection.flush()

    def _settle_soon(self) -> None:
        self._connection.watch()  # what else there is in this turn may block
        if not self._settling:
            self._settling = True
            self._loop.call_soon(self._settle, context=self._context)

    def _settle(self) -> None:
        """Send what this turn has kept back, and read the mail that came meanwhile."""
        self._settling = False
        try:
            self._answers.collect()
            self._connection.flush()
        except Closed as error:
            self._stop(error)
        if self._connection.ahead:
            self._read()
