"""Lets the supervisor interrupt a node that is at work.

A synchronous node works on the thread that reads the socket, so nobody reads it
meanwhile. The supervisor therefore sends SIGUSR1 behind a cancel frame: the
handler reads the mail, and raises ``Cancelled`` where the node is.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from gophersnake.errors import Cancelled
from gophersnake.worker import frames
from gophersnake.worker.connection import Connection


class Interrupts:
    """Cancellation of the call that the node is working on."""

    def __init__(self, connection: Connection) -> None:
        """Take the connection whose mail is to be read, and install the handler."""
        self._connection = connection
        self._call = 0  # the call that may be interrupted, 0 for none
        self._cancel: Callable[[], None] | None = None
        self._held = False
        self._reading = False
        self._knocked = False  # a signal came when nothing could be done about it
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
        self._call = call
        # The cancel frame may have come before, right behind the call.
        if self._knocked or self._connection.ahead:
            self._look()

    def end(self) -> None:
        """Say that the node is done. A cancellation from here on comes too late."""
        self._call = 0
        self._cancel = None  # it keeps a task, and that the node's input

    def wait(self, call: int, timeout: float) -> None:
        """Wait for mail and read it, at most that many seconds, after the node is done.

        Raises:
            Cancelled: the call was given up.
            Closed: there will be no mail.
            ProtocolError: what came is no frame.
        """
        self.begin(call)
        try:
            with self.held():
                self._connection.wait(timeout)
            self._look()
        finally:
            self.end()

    def look(self) -> None:
        """Read the mail that is there, if this is the main thread with the node at work.

        Raises:
            Cancelled: the call was given up.
        """
        if threading.get_ident() == self._main and self._call and not (self._held or self._reading):
            self._look()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put an interruption off to the end of the block.

        It is for what must not be cut in half, such as a frame that is being
        sent; in other threads than the main one it does nothing.
        """
        if threading.get_ident() != self._main or self._held:
            yield
            return
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._knocked and self._call:
                self._look()

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        if not self._call or self._held or self._reading:
            self._knocked = True
        else:
            self._look()

    def _look(self) -> None:
        """Read the mail, and interrupt the call if that is what it says."""
        self._read_mail()
        call = self._call
        if not call:
            return
        for frame in self._connection.mailbox:
            if frame.type == frames.CANCEL and frame.call == call:
                self._call = 0  # once
                if self._cancel is None:
                    raise Cancelled("the supervisor gave the call up")
                self._cancel()
                return

    def _read_mail(self) -> None:
        # A signal may come in the middle of it: to read a frame while another one
        # is being read would tear both.
        while True:
            self._reading = True
            self._knocked = False
            try:
                self._connection.mail()
            finally:
                self._reading = False
            if not self._knocked:
                return
