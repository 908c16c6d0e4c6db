"""Lets the supervisor see whether Python code can run in this process.

A node that does not answer is blocked in Python, where other threads go on, or in C
code that holds the GIL, where none can. To tell which, the supervisor writes two bytes
into a pipe of this process, and looks whether they are taken out. A thread takes them
one by one: the kernel hands it the first, but for the second it must have had the GIL.

The thread waits in the kernel and costs nothing. It is no thread of the node's:
``threading`` does not know it, it takes no signals, and it is gone while the process
forks, so that a child finds no more threads than its node has made.
"""

from __future__ import annotations

import _thread
import fcntl
import os
import signal
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable

PLACE = 8
"""Where in the autopsy file the pipe's inode number stands, 8 bytes; 0 is no pipe."""

FROM = 10
"""The lowest descriptor that the pipe gets."""

QUIT = b"q"

STACK = 256 << 10
"""Bytes are enough for the thread; a memory limit counts them."""

PATIENCE = 1.0
"""Seconds in which the thread has to end before a fork."""

COUNTED_LATE = sys.version_info >= (3, 13)
"""Python warns of threads once the hooks have run that follow a fork, no more before them."""


def _pipe() -> tuple[int, int]:
    """Return a pipe whose numbers are none that a supervisor gives something to."""
    ends = os.pipe()
    try:
        read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, FROM) for end in ends)
    finally:
        for end in ends:
            os.close(end)
    return read, write


class Pulse:
    """The thread, and its pipe."""

    def __init__(self, later: Callable[[Callable[[], None]], None]) -> None:
        """Take what has something done once the worker is idle. Nothing is started yet."""
        self._later = later
        self._autopsy = -1
        self._read = self._write = -1
        self._inode = 0
        self._busy = threading.Lock()  # somebody starts or stops the thread
        self._running = False
        self._ended = _thread.allocate_lock()  # held while the thread runs
        self._thread = 0

    def start(self, autopsy: int) -> None:
        """Begin, and name the pipe in the autopsy file, if that has room for it."""
        try:
            if os.fstat(autopsy).st_size < PLACE + 8:
                return
            self._read, self._write = _pipe()
        except OSError:
            return  # the supervisor will not be able to tell, no more
        self._autopsy = autopsy
        self._inode = os.fstat(self._read).st_ino
        usual = threading.stack_size(STACK)  # of whoever starts a thread: nobody else does yet
        try:
            self._go()
        finally:
            threading.stack_size(usual)
        os.register_at_fork(
            before=self._stop, after_in_parent=self._resume, after_in_child=self._leave
        )

    def _go(self) -> None:
        self._ended.acquire()
        try:
            _thread.start_new_thread(self._listen, ())
        except RuntimeError:  # no thread is to be had
            self._ended.release()
            return
        self._running = True
        self._show(self._inode)

    def _show(self, inode: int) -> None:
        try:
            os.pwrite(self._autopsy, struct.pack("<Q", inode), PLACE)
        except OSError:
            pass  # the node has closed what it did not open

    def _listen(self) -> None:
        try:
            # The main thread is to get them all, that which ends a stopped process too.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            self._thread = threading.get_native_id()
            while os.read(self._read, 1) not in (QUIT, b""):
                pass
        except OSError:
            pass  # the node has closed it
        finally:
            self._ended.release()

    def _stop(self) -> None:
        """End the thread, before a fork."""
        self._busy.acquire()
        if not self._running:
            return
        self._running = False
        self._show(0)
        if self._is_ours(self._write):
            os.write(self._write, QUIT)
        if self._ended.acquire(timeout=PATIENCE):
            self._ended.release()
            # Python is done with it, the system a moment later.
            until = time.monotonic() + PATIENCE
            while os.path.exists(f"/proc/self/task/{self._thread}") and time.monotonic() < until:
                time.sleep(0)

    def _resume(self) -> None:
        """Start the thread again, after a fork."""
        if COUNTED_LATE:
            self._busy.release()
            self._later(self.revive)
            return
        try:
            self._restart()
        finally:
            self._busy.release()

    def revive(self) -> None:
        """Start the thread again if it is not there."""
        with self._busy:
            self._restart()

    def _restart(self) -> None:
        if self._running or self._ended.locked():
            return  # it is there, or has not ended in time
        if self._is_ours(self._read) and self._is_ours(self._write):
            self._go()

    def _leave(self) -> None:
        """Forget it all, in a forked child."""
        self._busy = threading.Lock()
        self._running = False
        for descriptor in (self._read, self._write):
            if self._is_ours(descriptor):
                os.close(descriptor)

    def _is_ours(self, descriptor: int) -> bool:
        """Return whether that is the pipe still: a node may close what it did not open."""
        try:
            found = os.fstat(descriptor)
        except OSError:
            return False
        return stat.S_ISFIFO(found.st_mode) and found.st_ino == self._inode
