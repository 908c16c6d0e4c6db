"""Sends the values of calls that give many, as far as the supervisor takes them."""

from __future__ import annotations

from typing import Any

import msgpack

from gophersnake._worker.serving.answers import Answers
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.serving.window import Window
from gophersnake._worker.wire.connection import Closed, Connection
from gophersnake._worker.wire.frames import CREDIT, Frame, ProtocolError
from gophersnake.errors import Cancelled


class Unsent(Exception):
    """A node gave something that cannot be sent.

    Attributes:
        error: what encoding it raised.
    """

    def __init__(self, error: BaseException) -> None:
        """Take what encoding it raised."""
        super().__init__(error)
        self.error = error


class Items:
    """The items of one call; it is what a node's values are emitted to."""

    def __init__(
        self,
        call: int,
        connection: Connection,
        interrupts: Interrupts,
        answers: Answers,
        window: Window,
    ) -> None:
        """Take the call, what it is answered with, and how far it may be ahead."""
        self._call = call
        self._connection = connection
        self._interrupts = interrupts
        self._answers = answers
        self._window = window

    def __call__(self, value: Any) -> None:
        """Send a value as the call's next item, when there is credit for it.

        Raises:
            Cancelled: the call was given up.
            Unsent: the value cannot be carried.
            Closed: the supervisor is gone.
        """
        call = self._interrupts.pause()  # no frame is to be cut in half
        self._interrupts.check(self._call)
        if self._window.full:
            self._wait()
        try:
            self._window.sent(self._answers.item(self._call, value))
        except (Closed, ProtocolError, Cancelled):
            raise
        except BaseException as error:
            raise Unsent(error) from error
        self._interrupts.resume(call)

    def _wait(self) -> None:
        """Wait for credit. Other frames are left for later."""
        while self._window.full:
            self._interrupts.check(self._call)  # it may read mail, so it comes first
            credit = self._connection.pick(CREDIT, self._call)
            if credit is None:
                self._connection.more()
            else:
                self._window.credit(credited(credit))


def credited(frame: Frame) -> int:
    """Return how many more items a credit frame lets through.

    Raises:
        ProtocolError: it does not say so.
    """
    try:
        items = msgpack.unpackb(frame.body)
    except Exception as error:
        raise ProtocolError(f"a credit frame is no msgpack: {error}") from None
    if type(items) is not int or items < 1:
        raise ProtocolError(f"a credit frame for {items!r:.80} items")
    return items
