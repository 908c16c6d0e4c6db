"""Calls of nodes that keep state along a stream."""

from __future__ import annotations

import copy
from typing import Any

from gophersnake._worker.serving.handler import Handler
from gophersnake._worker.wire.frames import (
    DROP,
    FINISH,
    OPEN,
    SNAPSHOT,
    Bytes,
    Frame,
    ProtocolError,
)
from gophersnake.errors import Permanent


class Sessions(Handler):
    """A stateful node: each stream is a session, with an object of its own."""

    def __init__(self, prototype: Any, restores: bool, *parts: Any) -> None:
        """Take the object that sessions are copies of, and what ``Handler`` takes.

        Args:
            prototype: the node's class, set up.
            restores: whether it has ``snapshot`` and ``restore``.
            *parts: see ``Handler``.
        """
        super().__init__(*parts)
        self._prototype = prototype
        self._restores = restores
        self._sessions: dict[int, Any] = {}

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call, and answer it; see ``Handler``. The session goes on if it fails."""
        node = self._find(session, "a call")
        self._give_many(call, node.process, body, buffers)

    def of_session(self, frame: Frame) -> None:
        """Do what a frame about a session says; see ``Handler``."""
        if frame.type == OPEN:
            self._open(frame)
        elif frame.type == FINISH:
            self._finish(frame)
        elif frame.type == SNAPSHOT:
            self._snapshot(frame)
        elif frame.type == DROP:
            self._sessions.pop(frame.session, None)

    def end(self) -> None:
        """Drop all sessions; see ``Handler``."""
        self._sessions.clear()

    def _find(self, session: int, what: str) -> Any:
        try:
            return self._sessions[session]
        except KeyError:
            raise ProtocolError(f"{what} of session {session}, which is not open") from None

    def _open(self, frame: Frame) -> None:
        number = frame.session
        if not number or number in self._sessions:
            raise ProtocolError(f"session {number} cannot be opened: it is open, or no number")
        self._begun.count()
        with self._telling(frame.call, "decode") as told:
            state = self._answers.state(frame.body, frame.buffers)
            if state and not self._restores:
                raise ProtocolError(f"session {number} begins with a state; the node restores none")
            told.stage = "restore" if state else "begin"
            node = self._copy()
            if state:
                self._invoke.value(frame.call, node.restore, state, {})
            elif callable(begin := getattr(node, "begin", None)):
                self._invoke.value(frame.call, begin, (), {})
            self._sessions[number] = node
            self._answers.result(frame.call, None)

    def _copy(self) -> Any:
        try:
            return copy.copy(self._prototype)
        except Exception as error:
            name = type(self._prototype).__name__
            raise Permanent(
                f"a session is a copy of the {name} that was set up, and copy.copy of that "
                f"failed: {error!r:.500}; give the class a __copy__"
            ) from error

    def _finish(self, frame: Frame) -> None:
        node = self._find(frame.session, "a finish frame")
        self._begun.count()
        try:
            with self._telling(frame.call, "finish"):
                if callable(finish := getattr(node, "finish", None)):
                    self._invoke.items(frame.call, finish, (), {}, self._items(frame.call))
                self._answers.result(frame.call, None)
        finally:
            del self._sessions[frame.session]

    def _snapshot(self, frame: Frame) -> None:
        node = self._find(frame.session, "a snapshot frame")
        if not self._restores:
            raise ProtocolError("a snapshot frame for a node without snapshot and restore")
        self._begun.count()
        with self._telling(frame.call, "snapshot") as told:
            state = self._invoke.value(frame.call, node.snapshot, (), {})
            told.stage = "encode"
            self._answers.snapshot(frame.call, state)
