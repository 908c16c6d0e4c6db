"""The loop of async stateful nodes, which serves the sessions of many streams at once.

The operations of one session run one after another, in the order of their frames. Those
of different sessions run concurrently, up to the node's limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from gophersnake._worker.adapters import DROPPED
from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.serving.answers import Answers
from gophersnake._worker.serving.eventloop import NO_WINDOW, Call, EventLoop
from gophersnake._worker.serving.sessions import SessionTable
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Connection
from gophersnake._worker.wire.frames import Frame


class _Session:
    """An open session: its copy of the node, and the lock of its operations."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.lock = asyncio.Lock()  # its waiters get it in the order in which they came


class SessionLoop(EventLoop):
    """Serves the sessions of an async stateful node, on the main thread."""

    def __init__(
        self,
        connection: Connection,
        answers: Answers,
        table: SessionTable,
        signature: Signature,
        setup: dict[str, Any],
    ) -> None:
        """Create the loop of a node that has been set up; see ``EventLoop``.

        Args:
            connection: the connection to the supervisor.
            answers: sends on that connection.
            table: the sessions of the node.
            signature: the node's signature.
            setup: the body of the setup frame.
        """
        super().__init__(connection, answers, signature.process, signature, setup)
        self._table = table
        self._drops: set[asyncio.Task[None]] = set()

    def serve(self) -> None:
        """Serve frames until the shutdown frame, and drop all sessions; see ``EventLoop``."""
        try:
            super().serve()
        finally:
            self._table.clear()

    def _accept(self, frame: Frame) -> None:
        """Accept a call of a session."""
        session: _Session = self._table.find(frame.session, "a call")
        self._admit(Call(frame, partial(self._serve, partial(self._feed, session)), self._window()))

    def _handle_session(self, frame: Frame) -> None:
        """Open, finish, snapshot or drop a session."""
        number = frame.session
        if frame.type == frames.DROP:
            self._drop(number)
        elif self._ending or frame.type not in frames.OF_SESSIONS:
            super()._handle_session(frame)
        elif frame.type == frames.OPEN:
            self._table.check_free(number)
            self._admit(Call(frame, partial(self._serve, partial(self._open, number)), NO_WINDOW))
        else:
            frame_name = f"a {frames.name(frame.type)} frame"
            self._handle_open_session(frame, self._table.find(number, frame_name))

    def _drop(self, number: int) -> None:
        """End a session; its node may have to release what it holds."""
        session = self._table.drop(number)
        if session is None:
            return
        drop = getattr(type(session.node), DROPPED, None)  # a node may have a __getattr__
        if drop is not None:
            task = self._loop.create_task(_dropped(session, drop))
            self._drops.add(task)  # the loop alone keeps no tasks
            task.add_done_callback(self._drops.discard)

    def _handle_open_session(self, frame: Frame, session: _Session) -> None:
        """Finish or snapshot a session."""
        if frame.type == frames.FINISH:
            self._table.drop(frame.session)  # now, so that it is over even if this is canceled
            operate, window = partial(self._finish, session), self._window()
        else:
            self._table.check_snapshot()
            operate, window = partial(self._snapshot, session), NO_WINDOW
        self._admit(Call(frame, partial(self._serve, operate), window))

    async def _serve(self, operate: Callable[[Call], Awaitable[None]], call: Call) -> None:
        """Serve an operation on a session; the body of its task."""
        if not self._enter(call):
            return
        try:
            await operate(call)
        except BaseException as error:
            self._failed(call, error)
        self._release()

    async def _open(self, number: int, call: Call) -> None:
        """Open a session, from a state or from the beginning."""
        state = self._decoder.state(call.body, call.buffers)
        self._table.check_state(number, state)
        call.stage = "restore" if state else "begin"
        node = self._table.copy()
        if state:
            await _gathered(node.restore(*state))
        elif callable(begin := getattr(node, "begin", None)):
            await _gathered(begin())
        self._table.add(number, _Session(node))
        self._result(call, None)

    async def _feed(self, session: _Session, call: Call) -> None:
        """Call the node of a session with an item."""
        args, named = self._decoder.arguments(call.body, call.buffers)
        call.body = b""
        async with session.lock:
            call.stage = "call"
            made = session.node.process(*args, **named)
            del args, named  # only the node decides how long it keeps its input
            await self._send_made(call, made)
        self._result(call, None)

    async def _finish(self, session: _Session, call: Call) -> None:
        """Make the node of a session send its last values."""
        call.stage = "finish"
        async with session.lock:
            if callable(finish := getattr(session.node, "finish", None)):
                await self._send_made(call, finish())
        self._result(call, None)

    async def _snapshot(self, session: _Session, call: Call) -> None:
        """Send the state of a session."""
        call.stage = "snapshot"
        async with session.lock:
            state = await _gathered(session.node.snapshot())
        if not self._over:
            self._answers.snapshot(call.id, state)
            self._answered(call.id)


async def _dropped(session: _Session, drop: Callable[[Any], Awaitable[None]]) -> None:
    async with session.lock:
        await drop(session.node)


async def _gathered(made: Any) -> Any:
    """Return the value that node code has made, or the list of a generator's values."""
    if type(made) is AsyncGeneratorType:
        return [each async for each in made]
    if type(made) is GeneratorType:
        return list(made)
    return await made if type(made) is CoroutineType else made
