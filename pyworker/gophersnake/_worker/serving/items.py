"""Items: the values of calls that return many, sent as fast as the consumer takes them."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgpack

from gophersnake._worker.serving.answers import Answers
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.wire.connection import Closed, Connection
from gophersnake._worker.wire.frames import CREDIT, Frame, ProtocolError
from gophersnake.errors import Cancelled

WINDOW_ITEMS, WINDOW_BYTES = 16, 32 << 20
"""The window of a call if the setup frame names none."""


class Window:
    """The items of one call that were sent and are not yet credited, oldest first.

    Attributes:
        full: whether the next item must wait for credit. A single item may always be in
            flight, whatever its size.
    """

    def __init__(self, items: int = WINDOW_ITEMS, size: int = WINDOW_BYTES) -> None:
        """Create a window of at most so many items, and so many bytes of them."""
        self._items, self._bytes = items, size
        self._sizes: deque[int] = deque()
        self._total = 0
        self.full = False

    def sent(self, size: int) -> None:
        """Record that an item of ``size`` bytes was sent."""
        sizes = self._sizes
        sizes.append(size)
        self._total += size
        self.full = len(sizes) >= self._items or self._total > self._bytes

    def credit(self, items: int) -> None:
        """Remove the oldest items, which the consumer has taken."""
        sizes = self._sizes
        for _ in range(min(items, len(sizes))):
            self._total -= sizes.popleft()
        self.full = bool(sizes) and (len(sizes) >= self._items or self._total > self._bytes)


def window_limits(setup: dict[str, Any]) -> tuple[int, int]:
    """Return the items and bytes of each call's window, from the body of the setup frame."""
    window = setup.get("window") or {}
    return int(window.get("items", WINDOW_ITEMS)), int(window.get("bytes", WINDOW_BYTES))


def credited_items(frame: Frame) -> int:
    """Return how many further items a credit frame allows.

    Raises:
        ProtocolError: the body is not a positive integer.
    """
    try:
        items = msgpack.unpackb(frame.body)
    except Exception as error:
        raise ProtocolError(f"a credit frame that is not msgpack: {error}") from None
    if type(items) is not int or items < 1:
        raise ProtocolError(f"a credit frame for {items!r:.80} items")
    return items


class Unsent(Exception):
    """A node yielded a value that cannot be sent.

    Attributes:
        error: the exception that encoding it raised.
    """

    def __init__(self, error: BaseException) -> None:
        """Wrap the exception that encoding raised."""
        super().__init__(error)
        self.error = error


class Items:
    """Sends the items of one call. The invoker calls it with each value."""

    def __init__(
        self,
        call: int,
        connection: Connection,
        interrupts: Interrupts,
        answers: Answers,
        window: Window,
    ) -> None:
        """Create the sender of a call's items."""
        self._call = call
        self._connection = connection
        self._interrupts = interrupts
        self._answers = answers
        self._window = window

    def __call__(self, value: Any) -> None:
        """Send a value as the call's next item, waiting for credit if the window is full.

        Raises:
            Cancelled: the call was canceled.
            Unsent: the value cannot be encoded.
            Closed: the connection has ended.
        """
        interrupts, window = self._interrupts, self._window
        call, interrupts.call = interrupts.call, 0  # so that no exception cuts a frame short
        if interrupts.woken or interrupts.canceled:
            interrupts.check(self._call)
        while window.full:
            self._wait()
        try:
            window.sent(self._answers.item(self._call, value))
        except (Closed, ProtocolError, Cancelled):
            raise
        except BaseException as error:
            raise Unsent(error) from error
        interrupts.resume(call)

    def _wait(self) -> None:
        """Wait for credit, or for another frame, which stays in the mailbox."""
        self._interrupts.check(self._call)  # it may read frames, so it must be first
        credit = self._connection.pick(CREDIT, self._call)
        if credit is None:
            self._connection.receive_into_mailbox()
        else:
            self._window.credit(credited_items(credit))
