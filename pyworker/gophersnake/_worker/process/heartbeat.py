"""The heartbeat: shows the supervisor whether Python code can run in this process.

A node that does not answer is blocked either in Python code, while other threads can run,
or in C code that holds the GIL, while none can. To distinguish the two, the supervisor
writes two bytes into a pipe of this process and checks whether they are read. A thread
reads them one by one: its first read is already waiting in the kernel and returns in any
case, but to make the second one it needs the GIL.

The thread waits in the kernel and costs nothing. It is hidden from the node: ``threading``
does not list it, it handles no signals, and it ends while the process forks, so that a
child finds only the threads of its node.
"""

from __future__ import annotations

import fcntl
import stat
import struct
import sys
from collections.abc import Callable

from gophersnake._worker.originals import _thread, os, signal, time

INODE_AT = 8
"""The offset in the autopsy file of the pipe's inode number, 8 bytes; 0 if there is no pipe."""

LOWEST = 10
"""The lowest descriptor that the pipe may have."""

QUIT = b"q"

STACK = 256 << 10
"""The stack size of the thread in bytes; a memory limit counts it."""

STOP_TIMEOUT = 1.0
"""How many seconds the thread has to end before a fork."""

COUNTED_LATE = sys.version_info >= (3, 13)
"""Whether Python counts threads, to warn of them, after the hooks that follow a fork."""


def _pipe() -> tuple[int, int]:
    """Return a pipe whose descriptors are above those that a supervisor assigns."""
    ends = os.pipe()
    try:
        read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, LOWEST) for end in ends)
    finally:
        for end in ends:
            os.close(end)
    return read, write


class Heartbeat:
    """The thread and its pipe.

    Attributes:
        running: whether the thread runs.
    """

    def __init__(self, when_idle: Callable[[Callable[[], None]], None]) -> None:
        """Create the heartbeat without starting it.

        Args:
            when_idle: calls a function once the worker is idle.
        """
        self._when_idle = when_idle
        self._autopsy = -1
        self._read = self._write = -1
        self._inode = 0
        self._busy = _thread.allocate_lock()  # held while the thread is being started or stopped
        self.running = False
        self._ended = _thread.allocate_lock()  # held while the thread runs
        self._thread = 0

    def start(self, autopsy: int) -> None:
        """Start the thread, and write the pipe's inode into the autopsy file.

        Without room in the file, a pipe or a thread there is no heartbeat.
        """
        try:
            if os.fstat(autopsy).st_size < INODE_AT + 8:
                return
            self._read, self._write = _pipe()
        except OSError:
            return
        self._autopsy = autopsy
        self._inode = os.fstat(self._read).st_ino
        usual = _thread.stack_size(STACK)  # a global setting; no other thread starts yet
        try:
            self._start_thread()
        finally:
            _thread.stack_size(usual)
        os.register_at_fork(
            before=self._stop, after_in_parent=self._resume, after_in_child=self._close_in_child
        )

    def _start_thread(self) -> None:
        self._ended.acquire()
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError:  # no further thread can be started
            self._ended.release()
            return
        self.running = True
        self._publish(self._inode)

    def _publish(self, inode: int) -> None:
        try:
            os.pwrite(self._autopsy, struct.pack("<Q", inode), INODE_AT)
        except OSError:
            pass  # the node has closed the autopsy file

    def _run(self) -> None:
        try:
            # The main thread must handle all signals, also those that stop and continue.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            self._thread = _thread.get_native_id()
            while os.read(self._read, 1) not in (QUIT, b""):
                pass
        except OSError:
            pass  # the node has closed the pipe
        finally:
            self._ended.release()

    def _stop(self) -> None:
        """End the thread, before a fork."""
        self._busy.acquire()
        if not self.running:
            return
        self.running = False
        self._publish(0)
        if self._is_ours(self._write):
            os.write(self._write, QUIT)
        if self._ended.acquire(timeout=STOP_TIMEOUT):
            self._ended.release()
            # The system removes the thread a moment after Python has finished it.
            until = time.monotonic() + STOP_TIMEOUT
            while os.path.exists(f"/proc/self/task/{self._thread}") and time.monotonic() < until:
                time.sleep(0)

    def _resume(self) -> None:
        """Restart the thread after a fork, or once the worker is idle."""
        if COUNTED_LATE:
            self._busy.release()
            self._when_idle(self.revive)
            return
        try:
            self._restart()
        finally:
            self._busy.release()

    def revive(self) -> None:
        """Start the thread if it does not run."""
        with self._busy:
            self._restart()

    def _restart(self) -> None:
        if self.running or self._ended.locked():
            return  # it runs, or has not ended in time
        if self._is_ours(self._read) and self._is_ours(self._write):
            self._start_thread()

    def _close_in_child(self) -> None:
        """Close the pipe, in a forked child."""
        self._busy = _thread.allocate_lock()
        self.running = False
        for descriptor in (self._read, self._write):
            if self._is_ours(descriptor):
                os.close(descriptor)

    def _is_ours(self, descriptor: int) -> bool:
        """Return whether a descriptor is still the pipe, which a node may have closed."""
        try:
            found = os.fstat(descriptor)
        except OSError:
            return False
        return stat.S_ISFIFO(found.st_mode) and found.st_ino == self._inode
