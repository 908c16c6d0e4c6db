"""Handlers of calls: what all of them share, and those of nodes without state."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from gophersnake._worker.serving.answers import Answers
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.serving.invoker import Invoker
from gophersnake._worker.serving.items import Items, Unsent, Window, window_limits
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.wire.connection import Closed, Connection, NoRoom
from gophersnake._worker.wire.frames import Bytes, Frame, ProtocolError, name


class Handler:
    """Serves the calls of one kind of node, one at a time."""

    def __init__(
        self,
        connection: Connection,
        interrupts: Interrupts,
        answers: Answers,
        decoder: Decoder,
        setup: dict[str, Any],
    ) -> None:
        """Create a handler from the worker's parts and the body of the setup frame."""
        self._connection = connection
        self._interrupts = interrupts
        self._answers = answers
        self._begun = connection.begun
        self._decoder = decoder
        self._invoker = Invoker(interrupts)
        self._window_limits = window_limits(setup)

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call and answer it.

        Args:
            call: the call's id.
            session: the id of its session, 0 for none.
            body: its arguments. The body is valid until more is received.
            buffers: the buffers of the arguments.

        Raises:
            ProtocolError: this kind of node does not take such a call.
            Closed: the connection has ended.
            WorkerExit: the interpreter can no longer be trusted.
        """
        raise NotImplementedError

    def handle_session(self, frame: Frame) -> None:
        """Handle a frame that opens, finishes, snapshots or drops a session.

        Raises:
            ProtocolError: the node has no sessions, or this one is not open.
            Closed: the connection has ended.
            WorkerExit: the interpreter can no longer be trusted.
        """
        raise ProtocolError(f"a {name(frame.type)} frame for a node that is not stateful")

    def end(self) -> None:
        """Release what is open, when the worker shuts down."""

    def _refuse_session(self, session: int) -> None:
        if session:
            raise ProtocolError(f"a call of session {session} for a node that is not stateful")

    def _send_items(
        self, call: int, process: Callable[..., Any], body: Bytes, buffers: list[Any]
    ) -> None:
        """Serve a call whose node yields many values, and answer it."""
        self._begun.add()
        with Reporting(self._answers, call, "decode") as report:
            args, named = self._decoder.arguments(body, buffers)
            report.stage = "call"
            self._invoker.items(call, process, args, named, self._items(call))
            self._answers.result(call, None)

    def _items(self, call: int) -> Items:
        """Return the sender of a call's items."""
        window = Window(*self._window_limits)
        return Items(call, self._connection, self._interrupts, self._answers, window)


class Reporting:
    """A ``with`` block that answers a call with the exception that it raises.

    Exceptions that end the worker are not caught.

    Attributes:
        stage: the stage that the block has reached, for the error frame.
    """

    def __init__(self, answers: Answers, call: int, stage: str) -> None:
        """Create the block for a call and its first stage."""
        self._answers = answers
        self._call = call
        self.stage = stage

    def __enter__(self) -> Reporting:
        """Begin the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """End the block, and answer the call if it raised."""
        if error is None or kind is None or issubclass(kind, (Closed, NoRoom, ProtocolError)):
            return False
        if kind is Unsent and isinstance(error, Unsent):
            self._answers.fail(self._call, error.error, "encode")
        else:
            self._answers.fail(self._call, error, self.stage)
        return True


class Values(Handler):
    """Serves a node that returns one value for each call.

    Small calls spend their time in ``call`` and what it calls, so every step counts.
    """

    def __init__(self, process: Callable[..., Any], *parts: Any) -> None:
        """Create the handler of a function; ``parts`` are the arguments of ``Handler``."""
        super().__init__(*parts)
        self._process = process

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call and answer it; see ``Handler``."""
        if session:
            self._refuse_session(session)
        self._begun.cell[0] += 1
        stage = "decode"
        try:
            args, named = self._decoder.arguments(body, buffers)
            stage = "call"
            value = self._invoker.value(call, self._process, args, named)
            del args, named  # shared memory need not wait until the result is sent
            stage = "encode"
            self._answers.result(call, value)
        except (Closed, ProtocolError):
            raise
        except BaseException as error:
            self._answers.fail(call, error, stage)


class Generators(Handler):
    """Serves a node that yields any number of values for each call."""

    def __init__(self, process: Callable[..., Any], *parts: Any) -> None:
        """Create the handler of a function; ``parts`` are the arguments of ``Handler``."""
        super().__init__(*parts)
        self._process = process

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call and answer it; see ``Handler``."""
        self._refuse_session(session)
        self._send_items(call, self._process, body, buffers)
