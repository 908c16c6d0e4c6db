"""The sending half of the connection."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence

from gophersnake._worker.wire.frames import BRIEF, WORDS, Bytes

_pack_brief = BRIEF.pack

GATHER = 1000
"""How many pieces one sendmsg may take (IOV_MAX is 1024)."""

KEPT_BYTES, KEPT_FRAMES = 32 << 10, 64
"""So much is kept back at most, to be sent together."""

TICK = 0.005
"""Seconds after which what is kept back is sent, whatever the node is doing."""

IDLE = 20
"""So many ticks with nothing to do, and the flusher goes to sleep."""


class Closed(Exception):
    """The supervisor has closed the connection."""


class Outbox:
    """Writes whole frames to a socket, at once or together with later ones.

    Any thread may write; the main one alone keeps frames back. A thread of its own,
    the flusher, sends what has been kept back for a tick: a node that works long
    holds up no answer of a call before it.

    Attributes:
        kept: the frames that are kept back, oldest first.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Take a connected, blocking socket."""
        self._sock = sock
        self.kept: list[bytes] = []
        self._size = 0  # of what is kept, at least; no more than a measure
        self._sending = threading.Lock()
        self._writer = 0  # the thread that is writing
        self._later: deque[bytes] = deque()  # what it wants to write meanwhile
        self._writes = 0
        self._asleep = True  # the flusher is, or is not there yet
        self._wake = threading.Event()
        self._flusher: threading.Thread | None = None

    def leave(self) -> None:
        """Forget it all, in a forked child."""
        self._sending = threading.Lock()
        self.kept.clear()

    def keep(self, kind: int, call: int, body: Bytes) -> None:
        """Have a small frame sent with the next one, or with the next ``flush``.

        Raises:
            Closed: the supervisor is gone.
        """
        size = len(body)
        kept = self.kept
        kept.append(_pack_brief(WORDS[kind], size, call, 0, 0) + body)
        self._size += size
        if self._size >= KEPT_BYTES or len(kept) >= KEPT_FRAMES:
            self.write()

    def watch(self) -> None:
        """Have the flusher see to it that what is kept goes out within two ticks or so.

        It is called before something that may take long.

        Raises:
            Closed: the supervisor is gone.
        """
        if not self._asleep or not self.kept:
            return
        if self._flusher is None:
            flusher = threading.Thread(
                target=self._flush_late, name="gophersnake-flusher", daemon=True
            )
            try:
                flusher.start()
            except RuntimeError:  # no thread is to be had
                self.write()
                return
            self._flusher = flusher
        self._asleep = False
        self._wake.set()

    def _flush_late(self) -> None:
        # The main thread is to get that one, out of whatever it waits for.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        while True:
            self._wake.wait()
            self._wake.clear()
            idle = 0
            while idle < IDLE:
                before = self._writes
                time.sleep(TICK)
                idle += 1
                if self.kept:
                    idle = 0
                    if self._writes == before:
                        try:
                            self.write()
                        except Closed:
                            return  # the main thread will find out
            self._asleep = True
            if self.kept:  # perhaps since it was still awake
                self.watch()

    def write(self, data: bytes = b"", rest: Sequence[Bytes] = (), news: bytes = b"") -> None:
        """Write what is kept and whole frames behind it, one thread after the other.

        Args:
            data: frames.
            rest: what belongs to the last of them, written from where it lies.
            news: frames that go first.

        Raises:
            Closed: the supervisor is gone.
        """
        me = threading.get_ident()
        if self._writer == me:
            # A finalizer that logs, in the middle of another frame: it comes behind.
            self._later.append(b"".join((news, data, *rest)))
            return
        try:
            with self._sending:
                self._writer = me
                try:
                    data = news + self._taken() + data
                    if rest:
                        self._gather([data, *rest])
                    else:
                        self._sock.sendall(data)
                    while self._later:
                        self._sock.sendall(self._later.popleft())
                finally:
                    self._writer = 0
        except OSError as error:
            raise Closed(f"the connection broke: {error}") from error

    def _taken(self) -> bytes:
        """Return what is kept, which is no longer; the main thread may go on keeping."""
        self._writes += 1
        count = len(self.kept)
        data = b"".join(self.kept[:count])
        del self.kept[:count]
        self._size = 0
        return data

    def _gather(self, parts: list[Bytes]) -> None:
        """Write the parts from where they lie."""
        views = deque(memoryview(part) for part in parts if len(part))
        while views:
            sent = self._sock.sendmsg([views[i] for i in range(min(len(views), GATHER))])
            while sent:
                if sent < len(views[0]):
                    views[0] = views[0][sent:]
                    break
                sent -= len(views.popleft())
