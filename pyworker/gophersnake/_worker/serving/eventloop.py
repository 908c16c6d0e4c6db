"""The loop of async nodes, which serves many calls at once on an event loop.

The event loop watches the socket. Each call is a task, and is answered when its task
finishes; the answers of tasks that finish in one turn of the loop are sent together.

A cancel frame cancels the call's task. It is read in a later turn of the loop: a coroutine
that never yields to the loop is not interrupted, because other calls could then find state
that they share with it half changed. The supervisor kills such a worker after a grace time.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.originals import os, time
from gophersnake._worker.process import ending, logs
from gophersnake._worker.serving import failure, invoker
from gophersnake._worker.serving.answers import Answers, WorkerExit
from gophersnake._worker.serving.items import Window, credited_items, window_limits
from gophersnake._worker.serving.running import of_task
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Closed, Connection, NoRoom
from gophersnake._worker.wire.frames import Frame, ProtocolError
from gophersnake.errors import Cancelled

NO_WINDOW = Window()
"""The window of a call that returns one value."""

Serve = Callable[["Call"], Coroutine[Any, Any, None]]
"""The body of a call's task."""


class Call:
    """A call, or an operation on a session, that has arrived and has not been answered."""

    __slots__ = (
        "answered", "body", "buffers", "canceled", "id", "room", "serve", "since", "stage",
        "task", "window",
    )  # fmt: skip

    def __init__(self, frame: Frame, serve: Serve, window: Window) -> None:
        """Create a call that ``serve`` will serve, with the window of its items."""
        self.id, self.body, self.buffers = frame.call, frame.body, frame.buffers
        self.serve, self.window = serve, window
        self.stage = ""  # for error frames; empty until the call is begun
        self.canceled = self.answered = False
        self.since = time.monotonic()  # when it has arrived; from an item on, when that was sent
        self.room: asyncio.Future[None] | None = None  # done when the full window has room
        self.task: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Mark the call as answered. Contexts of the node's own tasks may keep it longer."""
        self.answered = True
        self.task = None  # it keeps its context, and that keeps the call


class EventLoop:
    """Serves the calls of an async node, on the main thread."""

    def __init__(
        self,
        connection: Connection,
        answers: Answers,
        process: Callable[..., Any],
        signature: Signature,
        setup: dict[str, Any],
    ) -> None:
        """Create the loop of a node that has been set up.

        Args:
            connection: the connection to the supervisor.
            answers: sends on that connection.
            process: the node's function.
            signature: the node's signature.
            setup: the body of the setup frame.
        """
        self._connection = connection
        self._begun = connection.begun
        self._answers = answers
        answers.keep_items = True  # the items of one turn of the loop are sent together
        self._decoder = signature.types.decoder(connection.limits.decoded)
        self._process = process
        self._serve_call: Serve = self._send_items if signature.many else self._send_result
        self._many = signature.many
        self._window_limits = window_limits(setup)
        self._loop = invoker.loop()
        self._context = contextvars.copy_context()  # each call runs in a copy of it
        self._frames_read: deque[Frame] = deque()  # and not yet handled
        self._calls: dict[int, Call] = {}
        self._waiting: deque[Call] = deque()  # the calls above the limit of concurrency
        self._free = signature.concurrency
        self._is_serial = signature.concurrency == 1
        self._settling = False  # whether _settle runs before this turn of the loop ends
        self._ending = False  # the shutdown frame has arrived
        self._over = False  # no further call is answered
        self._error: BaseException | None = None
        logs.find_call_with(self._current_call)

    def _current_call(self) -> int:
        """Return the id of the call that this task or thread works for, 0 for none."""
        call = of_task.get()
        return 0 if call is None or call.answered else call.id

    def serve(self) -> None:
        """Serve frames until the shutdown frame, and finish the calls that run then.

        Raises:
            Closed: the connection has ended. The running calls have been canceled.
            WorkerExit: the interpreter can no longer be trusted.
            ProtocolError: the supervisor violated the protocol.
        """
        descriptor = self._connection.fileno()
        self._loop.add_reader(descriptor, self._read)
        os.set_blocking(descriptor, True)  # uvloop changes it, but answers must wait for room
        if self._connection.has_arrived:
            self._loop.call_soon(self._read)
        try:
            while not self._over:  # the node may stop the loop, too
                self._run()
        finally:
            self._over = True
            logs.find_call_with(None)
            if self._connection.open:
                self._loop.remove_reader(descriptor)
            else:
                # A forked child shares the epoll of its parent's loop, and has copies of the
                # parent's other calls, whose finally blocks must not run twice.
                ending.keep_for_ever(asyncio.all_tasks(self._loop))
        error = self._error
        if isinstance(error, Closed):
            if self._connection.open:
                self.end()
        elif self._connection.open:
            self._connection.flush()
        if error is not None:
            raise error

    def end(self) -> None:
        """Cancel the tasks that the node has left running, and wait until they end."""
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
        """Run the event loop until it is stopped, or code outside of a call has raised.

        asyncio passes on what of that is no ``Exception``: ``SystemExit`` ends the worker, and
        ``KeyboardInterrupt`` is logged like all others, since no keyboard is there.
        """
        try:
            self._loop.run_forever()
        except SystemExit as error:  # raised in a task or a callback of the node
            call = next(iter(self._calls.values()), None)
            if call is None:
                self._stop(WorkerExit(failure.exit_code(error), asked=True))
            else:
                self._fail(call.id, error, "call")
        except KeyboardInterrupt as error:
            self._loop.call_exception_handler(
                {"message": "a task or callback of the node raised", "exception": error}
            )
        except IndexError as error:
            if not _ended_turn(error):
                raise

    def _stop(self, error: BaseException | None = None) -> None:
        """Leave the event loop after this turn; ``serve`` raises the error, if any."""
        if not self._over:
            self._over = True
            self._error = error
            self._loop.stop()

    # Frames of the supervisor.

    def _read(self) -> None:
        """Handle the frames that have arrived, in order.

        A loop that node code runs inside this one may call this while a call handles a frame.
        """
        if not self._connection.open:
            return  # in a forked child, whose epoll still reports those of its parent
        read = self._frames_read
        try:
            while True:
                read.extend(self._connection.arrived())
                while read:
                    if self._over:
                        return
                    self._handle(read.popleft())
                if not self._connection.has_arrived:
                    return
        except NoRoom as error:
            self._fail(error.call, error, "decode")
        except BaseException as error:
            self._stop(error)

    def _handle(self, frame: Frame) -> None:
        """Handle one frame."""
        kind, number = frame.type, frame.call
        if kind == frames.CALL and not self._ending:
            self._accept(frame)
        elif kind == frames.CREDIT:
            self._credit(number, credited_items(frame))
        elif kind == frames.CANCEL:
            self._cancel(number)
        elif kind == frames.PING:
            self._connection.send(frames.PONG, number, b"")
        elif kind == frames.SHUTDOWN:
            self._ending = True
            if not self._calls:
                self._stop()
        else:
            self._handle_session(frame)

    def _handle_session(self, frame: Frame) -> None:
        """Handle a frame of another type, which only stateful nodes have."""
        when = " after shutdown" if self._ending else ""
        raise ProtocolError(f"the supervisor sent a {frames.name(frame.type)} frame{when}")

    def _accept(self, frame: Frame) -> None:
        """Accept a call of the node."""
        if frame.session:
            raise ProtocolError(
                f"a call of session {frame.session} for a node that is not stateful"
            )
        self._admit(Call(frame, self._serve_call, self._window() if self._many else NO_WINDOW))

    def _window(self) -> Window:
        """Return the window of a call that returns many values."""
        return Window(*self._window_limits)

    def _admit(self, call: Call) -> None:
        """Create the task of a call, or queue the call if the limit of concurrency is reached."""
        if call.id in self._calls:
            raise ProtocolError(f"a call frame with the id {call.id}, which is in use")
        self._calls[call.id] = call
        if self._free:
            self._free -= 1
            self._begin(call)
        else:
            self._waiting.append(call)

    def _credit(self, number: int, items: int) -> None:
        """Make room in the window of a call, and wake its task if it waits for that."""
        call = self._calls.get(number)
        if call is None:
            return  # too late: the call has been answered
        call.window.credit(items)
        if call.room is not None and not call.room.done() and not call.window.full:
            call.room.set_result(None)

    def _cancel(self, number: int) -> None:
        """Cancel the task of a call. A call that has not begun is answered at once."""
        call = self._calls.get(number)
        if call is None or call.canceled:
            return
        call.canceled = True
        if call.stage and call.task is not None:
            call.task.cancel()
        else:  # its task, if there is one, will not run node code; see _enter
            call.body, call.buffers = b"", []
            self._failed(call, asyncio.CancelledError())

    # A call, from its task to its answer.

    def _begin(self, call: Call) -> None:
        """Create the task that serves a call."""
        serve = call.serve
        del call.serve  # it keeps a session
        task = self._loop.create_task(serve(call))
        if not call.answered:  # an eager task may have ended already
            call.task = task

    def _enter(self, call: Call) -> bool:
        """Count a call as begun; return False if it was canceled or the loop has ended."""
        if self._over:
            return False
        self._begun.add()
        if call.canceled:
            self._release()
            return False
        call.stage = "decode"
        of_task.set(call)
        if self._is_serial:
            call.since = time.monotonic()  # its timeout does not count before
        return True

    async def _send_result(self, call: Call) -> None:
        """Serve a call that returns one value; the body of its task."""
        if not self._enter(call):
            return
        try:
            args, named = self._decoder.arguments(call.body, call.buffers)
            call.body = b""
            call.stage = "call"
            awaitable = self._process(*args, **named)
            del args, named  # only the node decides how long it keeps its input
            self._result(call, await awaitable)
        except BaseException as error:
            self._failed(call, error)
        self._release()

    async def _send_items(self, call: Call) -> None:
        """Serve a call that yields many values; the body of its task."""
        if not self._enter(call):
            return
        try:
            args, named = self._decoder.arguments(call.body, call.buffers)
            call.body = b""
            call.stage = "call"
            made = self._process(*args, **named)
            del args, named
            await self._send_made(call, made)
            self._result(call, None)
        except BaseException as error:
            self._failed(call, error)
        self._release()

    async def _send_made(self, call: Call, made: Any) -> None:
        """Send what node code has returned: the values of a generator, or its one value.

        ``None`` is no value, unless a generator has yielded it.
        """
        if type(made) is AsyncGeneratorType:
            try:
                async for value in made:
                    if self._over:
                        break  # the generator has suppressed its cancellation
                    await self._send_item(call, value)
                    del value  # it is not needed while the next one is made
            finally:
                await made.aclose()
        elif type(made) is GeneratorType:
            try:
                for value in made:
                    await self._send_item(call, value)
                    del value
            finally:
                made.close()
        else:
            value = await made if type(made) is CoroutineType else made
            if value is not None:
                await self._send_item(call, value)

    async def _send_item(self, call: Call, value: Any) -> None:
        """Send one item of a call, when its window has room."""
        if call.window.full:
            await self._wait_for_room(call)
        self._item(call, value)

    async def _wait_for_room(self, call: Call) -> None:
        """Wait until the call's window has room."""
        call.room = self._loop.create_future()
        try:
            await call.room
        finally:
            call.room = None

    def _release(self) -> None:
        """Begin the next queued call, after one has ended."""
        if self._over:
            return
        if self._waiting:
            self._context.copy().run(self._begin, self._waiting.popleft())
        else:
            self._free += 1
        if self._ending and not self._calls:
            self._stop()

    # Answers.

    def _item(self, call: Call, value: Any) -> None:
        """Send one item of a call."""
        if self._over:
            return
        stage, call.stage = call.stage, "encode"
        call.window.sent(self._answers.item(call.id, value))
        call.stage = stage
        call.since = time.monotonic()
        self._settle_soon()

    def _result(self, call: Call, value: Any) -> None:
        """Answer a call with its result."""
        if self._over:
            return
        call.stage = "encode"
        self._answers.result(call.id, value)
        self._answered(call.id)

    def _failed(self, call: Call, error: BaseException) -> None:
        """Answer a call with the exception of its task."""
        # type, because isinstance asks the exception, whose class may be hostile.
        kind = type(error)
        if self._over:
            return
        if kind is Closed or kind is ProtocolError:
            self._stop(error)
            return
        if call.canceled and issubclass(kind, asyncio.CancelledError):
            canceled = Cancelled("the supervisor canceled the call")
            canceled.__cause__ = error
            error = canceled.with_traceback(error.__traceback__)  # the node's frames
        self._fail(call.id, error, call.stage or "call")

    def _fail(self, number: int, error: BaseException, stage: str) -> None:
        """Send an error frame, and stop the loop if the error is fatal."""
        try:
            self._answers.fail(number, error, stage)
            self._answered(number)
        except BaseException as end:
            self._stop(end)

    def _answered(self, number: int) -> None:
        """Remove a call. If others run, its answer is sent together with theirs."""
        self._calls.pop(number).end()
        if self._calls or self._connection.shared is not None:
            self._settle_soon()
        else:
            self._connection.flush()

    def _settle_soon(self) -> None:
        """Make ``_settle`` run at the end of this turn of the event loop."""
        self._connection.flush_soon()  # the rest of this turn may take long
        if not self._settling:
            self._settling = True
            self._loop.call_soon(self._settle, context=self._context)

    def _settle(self) -> None:
        """Send what this turn has kept back, and handle the frames read meanwhile."""
        self._settling = False
        try:
            if self._answers.idle_tasks:
                self._answers.run_idle_tasks()
            self._connection.flush()
        except Closed as error:
            self._stop(error)
        if self._connection.has_arrived:
            self._read()


def _ended_turn(error: IndexError) -> bool:
    """Return whether a loop of asyncio found that its turn had been finished by another one.

    ``nest_asyncio`` replaces the method that makes a turn. If a node applies it for the first
    time inside a turn, and runs a loop there, that runs what the turn has counted, and the turn
    pops from an empty queue. Nothing is lost by it: the next turn is one of the new kind.
    """
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and at.tb_frame.f_code.co_name == "_run_once"
