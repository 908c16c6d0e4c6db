"""Lets the supervisor interrupt a node that is at work.

A synchronous node works on the thread that reads the socket, so nobody reads it
meanwhile. The supervisor therefore sends SIGUSR1 behind a cancel frame: the
handler reads the mail, and raises ``Cancelled`` where the node is.

The signal may come at any moment; the frame was written before it.

- Before the call is begun, or while nothing may be interrupted: the handler takes
  down that somebody knocked. ``begin``, ``resume`` or the end of ``held`` reads the
  mail then.
- While the node works: the handler reads the mail. If that gives up this call,
  ``Cancelled`` is raised; if it gives up one that waits in the mailbox, reading it
  has put that call into ``connection.cancelled``, where its own ``begin`` finds it.
- While mail is being read: it is read once more, since the frame may have come too
  late for the first time.
- After the call's end: the next ``begin`` finds nothing that it is concerned with,
  and the cancel frame is dropped when it is received in its turn.

So a call without a knock, and with nothing in ``connection.cancelled``, need not look
at the socket. The handler forgets the call as it raises: it does so once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from gophersnake._worker.wire.connection import Connection
from gophersnake.errors import Cancelled


class Interrupts:
    """Cancellation of the call that the node is working on.

    Attributes:
        call: the call that may be interrupted, 0 for none.
        knocked: a signal came when nothing could be done about it.
        cancelled: the calls that are given up.
    """

    def __init__(self, connection: Connection) -> None:
        """Take the connection whose mail is to be read, and install the handler."""
        self._connection = connection
        self.cancelled = connection.cancelled
        self.call = 0
        self._cancel: Callable[[], None] | None = None
        self._held = 0  # blocks, one inside another, that put an interruption off
        self._reading = False
        self.knocked = False
        self._main = threading.get_ident()
        signal.signal(signal.SIGUSR1, self._handle)
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN))

    def begin(self, call: int, cancel: Callable[[], None] | None = None) -> None:
        """Say that from here on the call may be interrupted, once.

        Args:
            call: the call.
            cancel: called instead of raising ``Cancelled``, where that would hit
                something else than the node, an event loop for instance.

        Raises:
            Cancelled: the cancellation has come already, and there is no ``cancel``.
        """
        self._cancel = cancel
        self.resume(call)

    def end(self) -> None:
        """Say that the node is done. A cancellation from here on comes too late."""
        self.call = 0
        self._cancel = None  # it keeps a task, and that the node's input

    def pause(self) -> int:
        """Put interruptions off, and return the call that ``resume`` takes."""
        call, self.call = self.call, 0
        return call

    def resume(self, call: int) -> None:
        """Say that the call may be interrupted, from here on or again.

        Raises:
            Cancelled: the cancellation has come already, and ``begin`` was given no ``cancel``.
        """
        self.call = call
        if self.knocked or self.cancelled:
            self.look_up()

    def check(self, call: int) -> None:
        """Look whether a call was given up, while none may be interrupted.

        Raises:
            Cancelled: it was.
        """
        if self.knocked:
            self._read_mail()
        if call in self.cancelled:
            raise Cancelled("the supervisor gave the call up")

    def wait(self, call: int, timeout: float) -> None:
        """Wait for mail and read it, at most that many seconds, while none may be interrupted.

        Raises:
            Cancelled: the call was given up.
            Closed: there will be no mail.
            ProtocolError: what came is no frame.
        """
        self._connection.wait(timeout)
        self._read_mail()
        self.check(call)

    def look(self) -> None:
        """Read the mail that is there, if this is the main thread with the node at work.

        Raises:
            Cancelled: the call was given up.
        """
        if threading.get_ident() == self._main and self.call and not (self._held or self._reading):
            self.knocked = True
            self.look_up()

    def held(self) -> Interrupts:
        """Return what puts an interruption off to the end of its ``with`` block.

        It is for what must not be cut in half, such as a frame that is being
        sent; in other threads than the main one it does nothing.
        """
        return self

    def __enter__(self) -> None:
        """Begin a block; see ``held``."""
        if threading.get_ident() == self._main:
            self._held += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End a block, and let the interruption come that it has put off."""
        if threading.get_ident() == self._main:
            self._held -= 1
            if not self._held and self.knocked and self.call:
                self.look_up()

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self.knocked = True
        if self.call and not (self._held or self._reading):
            self.look_up()

    def look_up(self) -> None:
        """Read the mail if somebody knocked, and interrupt the call if it was given up."""
        if self.knocked:
            self._read_mail()
        call = self.call
        if call and call in self.cancelled:
            self.call = 0  # once
            if self._cancel is None:
                raise Cancelled("the supervisor gave the call up")
            self._cancel()

    def _read_mail(self) -> None:
        # A signal may come in the middle of it: to read a frame while another one
        # is being read would tear both.
        while True:
            self._reading = True
            self.knocked = False
            try:
                self._connection.mail()
            finally:
                self._reading = False
            if not self.knocked:
                return
