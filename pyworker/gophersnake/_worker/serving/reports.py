"""Sends what a node reports of its progress, for the calls that it works for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gophersnake._worker.originals import time
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Connection

SOON, LITTLE = 0.05, 0.01
"""A report within this many seconds of the last one is left out if it says the same, and its
fraction differs by less than this."""

MAX_MESSAGE = 2 << 10
"""The most characters of a message; the supervisor takes no more than 8 KiB."""


class Reports:
    """Sends progress frames; nodes call ``send`` through ``gophersnake.progress``.

    Attributes:
        find_calls: returns the ids of the calls that the code works for. In ``setup`` there are
            none.
        member: returns the index of the node of a fused chain that reports; ``None`` without one.
    """

    def __init__(self, connection: Connection, interrupts: Interrupts) -> None:
        """Create the sender of a worker that has not been set up."""
        self._connection = connection
        self._interrupts = interrupts
        self.find_calls: Callable[[], Sequence[int]] = tuple
        self.member: Callable[[], int] | None = None
        self._last: tuple[tuple[int, ...], str, float | None, float] = ((), "", None, 0.0)

    def send(self, message: str, fraction: float | None) -> None:
        """Send a report, unless it says hardly more than the last one.

        A forked child, which has no connection, sends none.

        Raises:
            Closed: the connection has ended.
        """
        with self._interrupts.deferred():
            if not self._connection.open:
                return
            if len(message) > MAX_MESSAGE:
                message = message[: MAX_MESSAGE - 1] + "…"
            calls, now = tuple(self.find_calls()), time.monotonic()
            if self._says_nothing_new(calls, message, fraction, now):
                return
            self._last = calls, message, fraction, now
            body: dict[str, Any] = {"message": message, "fraction": fraction, "calls": list(calls)}
            if self.member is not None:
                body["member"] = self.member()
            self._connection.send_message(frames.PROGRESS, body)

    def _says_nothing_new(
        self, calls: tuple[int, ...], message: str, fraction: float | None, now: float
    ) -> bool:
        """Return whether a report need not be sent: a loop may report each of its steps."""
        last_calls, last_message, last_fraction, at = self._last
        if now - at >= SOON or message != last_message or calls != last_calls:
            return False
        if fraction is None or last_fraction is None:
            return fraction is last_fraction
        if fraction == last_fraction:
            return True
        return fraction < 1.0 and abs(fraction - last_fraction) < LITTLE
