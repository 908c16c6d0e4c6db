"""What all kinds of nodes have in common in how their calls are served."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from gophersnake._worker.serving.answers import Answers
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.serving.invoker import Invoker
from gophersnake._worker.serving.items import Items, Unsent
from gophersnake._worker.serving.window import Window, limits
from gophersnake._worker.wire.connection import Closed, Connection, NoRoom
from gophersnake._worker.wire.frames import Bytes, Frame, ProtocolError, name


class Handler:
    """Serves the calls of one kind of node."""

    def __init__(
        self,
        connection: Connection,
        interrupts: Interrupts,
        answers: Answers,
        setup: dict[str, Any],
    ) -> None:
        """Take the connection, what serves beside it, and the setup frame."""
        self._connection = connection
        self._interrupts = interrupts
        self._answers = answers
        self._begun = connection.begun
        self._invoke = Invoker(interrupts)
        self._window = limits(setup)

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call, and answer it.

        Args:
            call: its id.
            session: the session that it belongs to, 0 for none.
            body: its inputs. It is valid until more is received.
            buffers: the buffers of the inputs.

        Raises:
            ProtocolError: this node cannot be called so.
            Closed: the supervisor is gone.
            End: so is the trust in the interpreter.
        """
        raise NotImplementedError

    def of_session(self, frame: Frame) -> None:
        """Do what a frame about a session says: open, finish, snapshot or drop.

        Raises:
            ProtocolError: the node has no sessions, or not this one.
            Closed: the supervisor is gone.
            End: so is the trust in the interpreter.
        """
        raise ProtocolError(f"a {name(frame.type)} frame for a node that is not stateful")

    def end(self) -> None:
        """Let go of what is open, at the end of the worker."""

    def _stateless(self, session: int) -> None:
        if session:
            raise ProtocolError(f"a call of session {session} for a node that is not stateful")

    def _give_many(
        self, call: int, process: Callable[..., Any], body: Bytes, buffers: list[Any]
    ) -> None:
        """Serve a call that gives many values, and answer it."""
        self._begun.count()
        with self._telling(call, "decode") as told:
            args, named = self._answers.arguments(body, buffers)
            told.stage = "call"
            self._invoke.items(call, process, args, named, self._items(call))
            self._answers.result(call, None)

    def _items(self, call: int) -> Items:
        """Return what takes the values of a call that gives many."""
        window = Window(*self._window)
        return Items(call, self._connection, self._interrupts, self._answers, window)

    def _telling(self, call: int, stage: str) -> Telling:
        """Return a block whose exceptions are told to the supervisor."""
        return Telling(self._answers, call, stage)


class Telling:
    """A block that answers a call with what it raises.

    What says that nobody listens any more, or that the worker ends, is not caught.

    Attributes:
        stage: how far the block has come.
    """

    def __init__(self, answers: Answers, call: int, stage: str) -> None:
        """Take what answers the call, the call, and the first stage."""
        self._answers = answers
        self._call = call
        self.stage = stage

    def __enter__(self) -> Telling:
        """Begin the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """End the block, and tell of what it raised."""
        if error is None or kind is None or issubclass(kind, (Closed, NoRoom, ProtocolError)):
            return False
        if kind is Unsent and isinstance(error, Unsent):
            self._answers.fail(self._call, error.error, "encode")
        else:
            self._answers.fail(self._call, error, self.stage)
        return True
