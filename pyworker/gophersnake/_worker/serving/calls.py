"""Calls of nodes that keep nothing from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gophersnake._worker.serving.handler import Handler
from gophersnake._worker.wire.connection import Closed
from gophersnake._worker.wire.frames import Bytes, ProtocolError


class Values(Handler):
    """A node that gives one value for each call.

    Small calls spend their time here and in what this calls: every step counts.
    """

    def __init__(self, process: Callable[..., Any], *parts: Any) -> None:
        """Take the node's function, and what ``Handler`` takes."""
        super().__init__(*parts)
        self._process = process

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call, and answer it; see ``Handler``."""
        if session:
            self._stateless(session)
        self._begun.count()
        stage = "decode"
        try:
            args, named = self._answers.arguments(body, buffers)
            stage = "call"
            value = self._invoke.value(call, self._process, args, named)
            del args, named  # the node's input is not needed while its result is sent
            stage = "encode"
            self._answers.result(call, value)
        except (Closed, ProtocolError):
            raise
        except BaseException as error:
            self._answers.fail(call, error, stage)


class Generators(Handler):
    """A node that gives any number of values for each call."""

    def __init__(self, process: Callable[..., Any], *parts: Any) -> None:
        """Take the node's function, and what ``Handler`` takes."""
        super().__init__(*parts)
        self._process = process

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call, and answer it; see ``Handler``."""
        self._stateless(session)
        self._give_many(call, self._process, body, buffers)
