"""Lets the supervisor cancel a call while node code runs.

A synchronous node runs on the thread that reads the socket, so a cancel frame is not read
meanwhile. Therefore the supervisor sends a wake signal (SIGUSR1) after the frame. Its
handler reads the frames that have arrived, and raises ``Cancelled`` in the node code.

The signal may arrive at any time; the frame has been written before.

- Before node code runs, or while interruptions are deferred: the handler only sets
  ``woken``. ``begin``, ``resume`` or the end of the deferral reads the frames then.
- While node code runs: the handler reads the frames. If the cancel frame is for this
  call, it raises ``Cancelled``. If the frame is for a call that waits in the mailbox, the
  connection has added the call to ``canceled``, which the call's own ``begin`` checks.
- While frames are being read: they are read once more, since the cancel frame may have
  arrived too late for the first time.
- After node code has returned: the next ``begin`` reads the frames. The cancel frame is
  not for that call, and is dropped when the loop handles it.

So a call need not read the socket if there was no wake signal and ``canceled`` is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, Protocol

from gophersnake._worker.originals import _thread, os, signal, time
from gophersnake._worker.wire.connection import Connection
from gophersnake.errors import Cancelled

_get_ident = _thread.get_ident


class ThreadInterrupt(Protocol):
    """Cancels the call whose node code runs in another thread than the main one."""

    def defer(self) -> None:
        """Begin a deferral; see ``Interrupts.deferred``. Only that thread calls this."""

    def resume(self) -> None:
        """End a deferral, and raise the interruption that it has deferred."""


class Interrupts:
    """Cancels the call whose node code is running, at most once.

    Attributes:
        call: the id of the call that may be interrupted, 0 for none. To pause, set it to 0
            and pass its value to ``resume`` later.
        since: when the call, or its next item, was begun, by ``time.monotonic``.
        batch: the ids of the calls that run as one batch of several, which cannot be interrupted.
        woken: whether a wake signal has arrived after which no frames have been read.
        canceled: the ids of canceled calls; see ``Connection``.
        threads: what cancels the call of each thread that serves one, by the thread's id.
    """

    def __init__(self, connection: Connection) -> None:
        """Install the handler of the wake signal, which reads the connection's frames."""
        self._connection = connection
        self.canceled = connection.canceled
        self.call = 0
        self.since = 0.0
        self.batch: Sequence[int] = ()
        self.threads: dict[int, ThreadInterrupt] = {}
        self._cancel: Callable[[], None] | None = None
        self._deferred = 0  # the depth of nested deferrals
        self._reading = False
        self.woken = False
        self._main = _thread.get_ident()
        self._handler = self._handle  # one object, so that it can be recognized
        signal.signal(signal.SIGUSR1, self._handler)
        os.register_at_fork(after_in_child=self._uninstall)

    def _uninstall(self) -> None:
        """Give up the signal in a forked child, which finds it as in a plain interpreter."""
        if signal.getsignal(signal.SIGUSR1) is self._handler:
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)

    def begin(self, call: int, cancel: Callable[[], None] | None = None) -> None:
        """Allow the call to be interrupted from now on.

        Args:
            call: the call's id.
            cancel: called instead of raising ``Cancelled``, for code such as an event
                loop in which that must not be raised.

        Raises:
            Cancelled: the call has been canceled already, and there is no ``cancel``.
        """
        self._cancel = cancel
        self.resume(call)

    def end(self) -> None:
        """End the time in which the call may be interrupted."""
        self.call = 0
        self._cancel = None  # it keeps a task, and thereby the node's input

    def resume(self, call: int) -> None:
        """Allow the call to be interrupted again.

        Raises:
            Cancelled: the call has been canceled already, and ``begin`` got no ``cancel``.
        """
        self.call = call
        self.since = time.monotonic()
        if self.woken or self.canceled:
            self.interrupt()

    def check(self, call: int) -> None:
        """Check whether a call has been canceled, while no call may be interrupted.

        Raises:
            Cancelled: the call has been canceled.
        """
        if self.woken:
            self._read_frames()
        if call in self.canceled:
            raise Cancelled("the supervisor canceled the call")

    def wait(self, call: int, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for frames and read them, like ``check``.

        Raises:
            Cancelled: the call has been canceled.
            Closed: the connection has ended.
            ProtocolError: the supervisor violated the protocol.
        """
        self._connection.wait(timeout)
        self._read_frames()
        self.check(call)

    def read_now(self) -> None:
        """Read the frames that have arrived, if this is the main thread and node code runs.

        Raises:
            Cancelled: the call has been canceled.
        """
        if (
            _thread.get_ident() == self._main
            and self.call
            and not (self._deferred or self._reading)
        ):
            self.woken = True
            self.interrupt()

    def deferred(self) -> Interrupts:
        """Return a context manager that defers an interruption to its end.

        It protects code that must not be cut short, such as the sending of a frame. In a
        thread that serves no call it does nothing.
        """
        return self

    def deferring(self, function: Callable[[int], Any], argument: int) -> Any:
        """Call a function, and return its value; an interruption is deferred meanwhile.

        It is the same as ``deferred`` in fewer steps, for what most calls with arrays do.
        """
        if _get_ident() != self._main:
            with self:
                return function(argument)
        self._deferred += 1
        try:
            return function(argument)
        finally:
            self._deferred -= 1
            if self.woken and self.call and not self._deferred:
                self.interrupt()

    def __enter__(self) -> None:
        """Begin a deferral; see ``deferred``."""
        me = _thread.get_ident()
        if me == self._main:
            self._deferred += 1
        elif (thread := self.threads.get(me)) is not None:
            thread.defer()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End a deferral, and raise the interruption that it has deferred."""
        me = _thread.get_ident()
        if me == self._main:
            self._deferred -= 1
            if not self._deferred and self.woken and self.call:
                self.interrupt()
        elif (thread := self.threads.get(me)) is not None:
            thread.resume()

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self.woken = True
        if self.call and not (self._deferred or self._reading):
            self.interrupt()

    def interrupt(self) -> None:
        """Read frames after a wake signal, and interrupt the call if it is canceled.

        Raises:
            Cancelled: the call is canceled, and ``begin`` got no ``cancel``.
        """
        if self.woken:
            self._read_frames()
        call = self.call
        if call and call in self.canceled:
            self.call = 0  # so that it is interrupted once
            if self._cancel is None:
                raise Cancelled("the supervisor canceled the call")
            self._cancel()

    def _read_frames(self) -> None:
        # A handler that runs meanwhile must not read: both would get parts of a frame.
        while True:
            self._reading = True
            self.woken = False
            try:
                self._connection.read_available()
            finally:
                self._reading = False
            if not self.woken:
                return
