"""The handler of stateful nodes, which keep state along a stream."""

from __future__ import annotations

import copy
from typing import Any

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
from gophersnake.errors import Permanent


class Sessions(Handler):
    """Serves a stateful node: each stream is a session with its own copy of the node."""

    def __init__(self, prototype: Any, restores: bool, *parts: Any) -> None:
        """Create the handler.

        Args:
            prototype: the node that was set up; sessions get copies of it.
            restores: whether it has ``snapshot`` and ``restore``.
            *parts: the arguments of ``Handler``.
        """
        super().__init__(*parts)
        self._prototype = prototype
        self._restores = restores
        self._sessions: dict[int, Any] = {}

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call and answer it; see ``Handler``. If it fails, the session stays open."""
        node = self._find(session, "a call")
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
            self._sessions.pop(frame.session, None)

    def end(self) -> None:
        """Drop all sessions; see ``Handler``."""
        self._sessions.clear()

    def _find(self, session: int, frame: str) -> Any:
        try:
            return self._sessions[session]
        except KeyError:
            raise ProtocolError(f"{frame} of session {session}, which is not open") from None

    def _open(self, frame: Frame) -> None:
        number = frame.session
        if not number or number in self._sessions:
            raise ProtocolError(f"session {number} cannot be opened: it is open already, or 0")
        self._begun.add()
        with Reporting(self._answers, frame.call, "decode") as report:
            state = self._decoder.state(frame.body, frame.buffers)
            if state and not self._restores:
                raise ProtocolError(
                    f"session {number} begins with a state, which the node cannot restore"
                )
            report.stage = "restore" if state else "begin"
            node = self._copy()
            if state:
                self._invoker.value(frame.call, node.restore, state, {})
            elif callable(begin := getattr(node, "begin", None)):
                self._invoker.value(frame.call, begin, (), {})
            self._sessions[number] = node
            self._answers.result(frame.call, None)

    def _copy(self) -> Any:
        try:
            return copy.copy(self._prototype)
        except Exception as error:
            name = type(self._prototype).__name__
            raise Permanent(
                f"each session gets a copy of the {name} that was set up, but copy.copy failed: "
                f"{error!r:.500}; give the class a __copy__ method"
            ) from error

    def _finish(self, frame: Frame) -> None:
        node = self._find(frame.session, "a finish frame")
        self._begun.add()
        try:
            with Reporting(self._answers, frame.call, "finish"):
                if callable(finish := getattr(node, "finish", None)):
                    self._invoker.items(frame.call, finish, (), {}, self._items(frame.call))
                self._answers.result(frame.call, None)
        finally:
            del self._sessions[frame.session]

    def _snapshot(self, frame: Frame) -> None:
        node = self._find(frame.session, "a snapshot frame")
        if not self._restores:
            raise ProtocolError("a snapshot frame for a node without snapshot and restore")
        self._begun.add()
        with Reporting(self._answers, frame.call, "snapshot") as report:
            state = self._invoker.value(frame.call, node.snapshot, (), {})
            report.stage = "encode"
            self._answers.snapshot(frame.call, state)
