"""Stateful nodes, which keep state along a stream: their sessions, and those of sync ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gophersnake._worker.adapters import DROPPED
from gophersnake._worker.definition.signature import session_copy
from gophersnake._worker.serving import invoker
from gophersnake._worker.serving.calls import Handler, Reporting
from gophersnake._worker.wire.frames import (
    DROP,
    FINISH,
    OPEN,
    SNAPSHOT,
    Bytes,
    Frame,
    ProtocolError,
)


class SessionTable:
    """The open sessions of a stateful node, by number: each has its own copy of the node."""

    def __init__(self, prototype: Any, restores: bool) -> None:
        """Create an empty table.

        Args:
            prototype: the node that was set up; sessions get copies of it.
            restores: whether it has ``snapshot`` and ``restore``.
        """
        self._prototype = prototype
        self._restores = restores
        self._open: dict[int, Any] = {}

    def find(self, session: int, frame: str) -> Any:
        """Return the node of an open session.

        Raises:
            ProtocolError: the session is not open; the message names the frame.
        """
        try:
            return self._open[session]
        except KeyError:
            raise ProtocolError(f"{frame} of session {session}, which is not open") from None

    def check_free(self, session: int) -> None:
        """Check that a session can be opened under a number.

        Raises:
            ProtocolError: the number is 0, or that of an open session.
        """
        if not session or session in self._open:
            raise ProtocolError(f"session {session} cannot be opened: it is open already, or 0")

    def check_state(self, session: int, state: Sequence[Any]) -> None:
        """Check that a session can begin with a state, which is empty if there is none.

        Raises:
            ProtocolError: there is one, and the node cannot restore it.
        """
        if state and not self._restores:
            raise ProtocolError(
                f"session {session} begins with a state, which the node cannot restore"
            )

    def check_snapshot(self) -> None:
        """Check that the state of a session can be saved.

        Raises:
            ProtocolError: it cannot.
        """
        if not self._restores:
            raise ProtocolError("a snapshot frame for a node without snapshot and restore")

    def copy(self) -> Any:
        """Return a copy of the node for a new session.

        Raises:
            Permanent: the node cannot be copied.
        """
        return session_copy(self._prototype)

    def add(self, session: int, node: Any) -> None:
        """Open a session with its copy of the node."""
        self._open[session] = node

    def drop(self, session: int) -> Any:
        """End a session, and return its node; ``None`` if it has ended already."""
        return self._open.pop(session, None)

    def clear(self) -> None:
        """End all sessions."""
        self._open.clear()


class Sessions(Handler):
    """Serves a sync stateful node: each stream is a session."""

    def __init__(self, table: SessionTable, *parts: Any) -> None:
        """Create the handler for a table; ``parts`` are the arguments of ``Handler``."""
        super().__init__(*parts)
        self._table = table

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call and answer it; see ``Handler``. If it fails, the session stays open."""
        node = self._table.find(session, "a call")
        self._send_items(call, node.process, body, buffers)

    def handle_session(self, frame: Frame) -> None:
        """Open, finish, snapshot or drop a session; see ``Handler``."""
        if frame.type == OPEN:
            self._open(frame)
        elif frame.type == FINISH:
            self._finish(frame)
        elif frame.type == SNAPSHOT:
            self._snapshot(frame)
        elif frame.type == DROP:
            node = self._table.drop(frame.session)
            drop = getattr(type(node), DROPPED, None)  # a node may have a __getattr__
            if drop is not None:
                invoker.run(drop(node))

    def end(self) -> None:
        """Drop all sessions; see ``Handler``."""
        self._table.clear()

    def _open(self, frame: Frame) -> None:
        self._table.check_free(frame.session)
        self._begun.add()
        with Reporting(self._answers, frame.call, "decode") as report:
            state = self._decoder.state(frame.body, frame.buffers)
            self._table.check_state(frame.session, state)
            report.stage = "restore" if state else "begin"
            node = self._table.copy()
            if state:
                self._invoker.value(frame.call, node.restore, state, {})
            elif callable(begin := getattr(node, "begin", None)):
                self._invoker.value(frame.call, begin, (), {})
            self._table.add(frame.session, node)
            self._answers.result(frame.call, None)

    def _finish(self, frame: Frame) -> None:
        node = self._table.find(frame.session, "a finish frame")
        self._begun.add()
        try:
            with Reporting(self._answers, frame.call, "finish"):
                if callable(finish := getattr(node, "finish", None)):
                    self._invoker.items(frame.call, finish, (), {}, self._items(frame.call))
                self._answers.result(frame.call, None)
        finally:
            self._table.drop(frame.session)

    def _snapshot(self, frame: Frame) -> None:
        node = self._table.find(frame.session, "a snapshot frame")
        self._table.check_snapshot()
        self._begun.add()
        with Reporting(self._answers, frame.call, "snapshot"):
            state = self._invoker.value(frame.call, node.snapshot, (), {})
            self._answers.snapshot(frame.call, state)
