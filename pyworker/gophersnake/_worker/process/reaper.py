"""The reaper: the parent of a worker, which ends everything that the worker leaves behind.

A process forks, and its child becomes the worker. The parent, the reaper, inherits the
worker's orphans, whatever session or group they moved to, because it is their subreaper.
It waits for one of two ends:

- The worker ends. The reaper reports its status, kills what is left, and exits.
- The supervisor ends, which closes the channel. The reaper kills the worker, too.

The channel is a socket in place of standard input. It preserves message boundaries, and
the kernel tells the supervisor which process sent a message:

    worker                     from the worker, before it becomes its program
    reaper                     from the reaper, once it inherits orphans
    ended STATUS USER SYSTEM MAXRSS   from the reaper: the result of wait4
    adopted                    to the reaper: the supervisor holds the worker's process open,
                               so the worker may be reaped; with a file that lists the
                               children of the reaper, if the kernel has one
    keep PID, drop PID         to the reaper: this child is a reaper itself, and may outlive
                               the worker; or no longer
    orphans                    to the reaper: kill what it has inherited so far

The reaper of a spawned worker is the interpreter from which the worker was forked, before
that imported anything of the package; that of a forked worker is a copy of the template. An
isolated worker, and one in a container, have an interpreter that runs only this text and that
of ``fork``, without site-packages. It avoids the modules that a plain interpreter imports
slowly, such as os: each worker has a reaper. In the template, the node may have replaced
functions of the modules; see ``originals``.
"""

from __future__ import annotations

import posix

IN_TEMPLATE = __name__ == "gophersnake._worker.process.reaper"
"""Whether this is a module of the template, and not the text alone."""

CHANNEL = 0
POLL = 20
"""Milliseconds until the reaper looks for orphans again, once the worker has ended."""


def run(worker: int, confined: bool) -> None:
    """Be the reaper of a child of this process, and exit.

    The process inherits orphans already, and has no descriptors that it does not need.

    Args:
        worker: the process id of the child.
        confined: whether the kernel lets this process signal only its descendants, so that
            all of them can be killed at once.
    """
    Reaper(worker, confined).run()


class Reaper:
    """The reaper of one worker."""

    def __init__(self, worker: int, confined: bool) -> None:
        """Create the reaper of a child of this process."""
        self._worker = worker
        self._confined = confined and _is_confined()
        self._adopted = False
        self._ending = False  # the worker or the supervisor has ended
        self._kept: set[int] = set()
        self._list = -1  # a file that lists the children of this process

    def run(self) -> None:
        """Wait for an end, and exit when nothing of the worker is left."""
        # The module signal takes longer to import than the others together.
        import _signal  # type: ignore[import-not-found]

        if IN_TEMPLATE:
            from gophersnake._worker.originals import select
        else:
            import select

        for each in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM"):
            _signal.signal(getattr(_signal, each), _signal.SIG_IGN)
        woken, wake = posix.pipe()
        posix.set_blocking(wake, False)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        events = select.poll()
        events.register(woken, select.POLLIN)
        events.register(CHANNEL, select.POLLIN)
        self._list = _open_list()
        self._send("reaper")
        if self._list < 0:
            self._list = _receive_list()
            self._adopted = True
        while True:
            for descriptor, _ in events.poll(POLL if self._ending else None):
                if descriptor == woken:
                    posix.read(woken, 1024)
                elif not self._obey(self._receive()):
                    events.unregister(CHANNEL)
            self._reap()

    def _send(self, message: str) -> None:
        try:
            posix.write(CHANNEL, message.encode())
        except OSError:
            pass  # the supervisor has ended

    def _receive(self) -> bytes:
        try:
            return posix.read(CHANNEL, 64)
        except OSError:
            return b""

    def _obey(self, message: bytes) -> bool:
        """Do what the supervisor says; return whether it lives."""
        order, _, child = message.partition(b" ")
        if order == b"adopted":
            self._adopted = True
        elif order == b"keep":
            self._kept.add(int(child))
        elif order == b"drop":
            self._kept.discard(int(child))
        elif order == b"orphans":
            self._kill_orphans()
        elif not message:
            self._adopted = self._ending = True
            self._kept.clear()
            if self._worker:
                posix.kill(self._worker, 9)
            return False
        return True

    def _reap(self) -> None:
        """Reap the children that have ended; after an end, kill the others."""
        try:
            while ended := posix.waitid(
                posix.P_ALL, 0, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT
            ):
                if ended.si_pid == self._worker and not self._adopted:
                    return
                child, status, usage = posix.wait4(ended.si_pid, 0)
                self._kept.discard(child)
                if child == self._worker:
                    self._worker, self._ending = 0, True
                    used = f"{usage.ru_utime:.6f} {usage.ru_stime:.6f} {usage.ru_maxrss}"
                    self._send(f"ended {status} {used}")
        except ChildProcessError:
            posix._exit(0)  # there are no children, so nothing is left
        if self._ending:
            self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Kill the children other than the worker and those that are kept.

        A child's own children become children of this process when it has ended.
        """
        if self._confined and self._ending:
            _kill(-1)
            return
        for child in self._children():
            if child != self._worker and child not in self._kept:
                _kill(child)

    def _children(self) -> list[int]:
        """Return the children of this process, maybe not all of them."""
        if self._list >= 0:
            posix.lseek(self._list, 0, 0)
            return [int(each) for each in _read(self._list).split()]
        return _search_children()


def _open_list() -> int:
    """Open the kernel's list of the children of this process; -1 if there is none."""
    try:
        return posix.open(f"/proc/self/task/{posix.getpid()}/children", posix.O_RDONLY)
    except OSError:
        return -1


def _receive_list() -> int:
    """Receive the list from the supervisor; -1 if the kernel has none.

    A reaper whose worker is isolated cannot open it.
    """
    import _socket
    import sys

    channel = _socket.socket(fileno=CHANNEL)
    try:
        _, rights, _, _ = channel.recvmsg(64, _socket.CMSG_LEN(4))
        return int.from_bytes(rights[0][2], sys.byteorder) if rights else -1
    except OSError:
        return -1  # the supervisor has ended
    finally:
        channel.detach()


def _is_confined() -> bool:
    """Return whether the kernel refuses this process signals to its parent."""
    if posix.getpid() == 1:
        return True  # of a namespace of its own
    try:
        posix.kill(posix.getppid(), 0)
    except PermissionError:
        return True
    except OSError:
        pass  # the supervisor has ended
    return False


def _kill(process: int) -> None:
    try:
        posix.kill(process, 9)
    except OSError:
        pass  # it has ended, or runs a program of another user


def _search_children() -> list[int]:
    """Return the children of this process, on a kernel that does not list them."""
    own = posix.getpid()
    found = []
    try:
        processes = [int(each) for each in posix.listdir("/proc") if each.isdigit()]
    except OSError:
        return []
    for each in processes:
        try:
            stat = posix.open(f"/proc/{each}/stat", posix.O_RDONLY)
        except OSError:
            continue  # it has ended
        try:
            if int(_read(stat).rpartition(b")")[2].split()[1]) == own:
                found.append(each)
        except (OSError, IndexError):
            pass  # it has ended
        finally:
            posix.close(stat)
    return found


def _read(descriptor: int) -> bytes:
    parts = []
    while part := posix.read(descriptor, 1 << 16):
        parts.append(part)
    return b"".join(parts)
