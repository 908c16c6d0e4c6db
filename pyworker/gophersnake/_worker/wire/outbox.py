"""The sending half of the connection.

Small results are kept back for a moment, so that those of many small calls go out with
one system call. They are sent with the next frame, by ``flush`` before the worker waits,
or by a background thread (the flusher) if node code runs longer than a tick or two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgpack

from gophersnake._worker.originals import _thread, signal, socket, time
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.frames import BRIEF, WORDS, Bytes, Location

if TYPE_CHECKING:
    from gophersnake._worker.memory.shared import SharedMemory

JOIN = 16 << 10
"""A body of up to this many bytes is joined to its header before it is written."""

GATHER = 1000
"""The most pieces that one sendmsg may take (IOV_MAX is 1024)."""

KEPT_BYTES, KEPT_FRAMES = 32 << 10, 64
"""The most bytes and frames that are kept back."""

TICK = 0.005
"""The interval, in seconds, at which the flusher looks for frames that are kept back."""

IDLE = 20
"""The flusher goes to sleep after this many ticks without such frames."""

_pack_brief = BRIEF.pack


class Closed(Exception):
    """The connection to the supervisor has ended."""


class Outbox:
    """Writes whole frames to a socket, at once or together with later ones.

    Any thread may call ``send``, ``send_message`` and ``write``. Only the main thread
    calls ``keep``, ``flush_soon`` and ``flush``.

    Attributes:
        kept: the frames that are kept back, oldest first.
        shared: the shared memory whose releases are sent along, if there is any.
        started: whether the flusher's thread was started.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Create an outbox for a connected, blocking socket."""
        self._sock = sock
        self.shared: SharedMemory | None = None
        self.kept: list[bytes] = []
        self._size = 0  # of the kept frames; approximate, since the flusher resets it
        self._sending = _thread.allocate_lock()
        self._writer = 0  # the id of the thread that holds _sending
        self._later: deque[bytes] = deque()  # frames that this thread has to write afterwards
        self._writes = 0
        self._asleep = True  # the flusher sleeps, or has not been started
        self._wake = _thread.allocate_lock()  # released to wake the flusher, which acquires it
        self._wake.acquire()
        self.started = False  # the flusher

    def reset_after_fork(self) -> None:
        """Drop all frames; a forked child calls this."""
        self._sending = _thread.allocate_lock()
        self.kept.clear()

    def keep(self, kind: int, call: int, body: Bytes, taken: int | None = None) -> None:
        """Add a small frame that is sent with the next one or by the next ``flush``.

        ``taken`` is as in ``frames.head``.

        Raises:
            Closed: the connection has ended.
        """
        size = len(body)
        kept = self.kept
        if taken is None:
            kept.append(_pack_brief(WORDS[kind], size, call, 0, 0) + body)
        else:
            kept.append(frames.start(kind, call, size, 0, taken) + body)
        self._size += size
        if self._size >= KEPT_BYTES or len(kept) >= KEPT_FRAMES:
            self.write()

    def flush(self) -> None:
        """Send the frames that are kept back, and the releases of shared memory.

        Raises:
            Closed: the connection has ended.
        """
        shared = self.shared
        first = b""
        if shared is not None and (shared.ended or shared.released or shared.discarded):
            first = shared.pending_frames(blocking=True)
        if first or self.kept:
            self.write(first=first)

    def send(
        self,
        kind: int,
        call: int,
        body: Bytes,
        buffers: Sequence[Bytes | Location] = (),
        taken: int | None = None,
    ) -> None:
        """Send one frame, behind those that are kept back.

        Body and buffers may be changed once this returns. ``taken`` is as in ``frames.head``.

        Raises:
            Closed: the connection has ended.
        """
        head = frames.head(kind, call, body, buffers, taken)
        shared = self.shared
        first = b""
        if shared is not None and (shared.ended or shared.released or shared.discarded):
            first = shared.pending_frames(blocking=False)
        inline = [each for each in buffers if not isinstance(each, Location)]
        if not inline and len(body) <= JOIN:
            self.write(head + body, first=first)
        else:
            self.write(head, [body, *inline], first)

    def send_lent(self, kind: int, call: int, body: Bytes, descriptor: bytes) -> None:
        """Send one small frame with one buffer, which is in shared memory.

        Args:
            kind: the frame type.
            call: the call's id.
            body: the frame's body.
            descriptor: the packed location of the buffer.

        Raises:
            Closed: the connection has ended.
        """
        shared = self.shared
        first = b""
        if shared is not None and (shared.ended or shared.released):
            first = shared.pending_frames(blocking=False)
        self.write(_pack_brief(WORDS[kind], len(body), call, 1, 0) + descriptor + body, first=first)

    def send_message(
        self, kind: int, message: dict[str, Any], call: int = 0, taken: int | None = None
    ) -> None:
        """Send a frame whose body is a message of the protocol, not a node's value.

        ``taken`` is as in ``frames.head``.

        Raises:
            Closed: the connection has ended.
        """
        body = msgpack.packb(message, unicode_errors="backslashreplace")
        self.send(kind, call, body, taken=taken)

    def write(self, data: bytes = b"", rest: Sequence[Bytes] = (), first: bytes = b"") -> None:
        """Write the frames that are kept back and further ones behind them.

        Threads write one after another. A thread that calls this while it is already
        writing (from a finalizer that logs, say) has its frames written afterwards.

        Args:
            data: whole frames, the last of which ``rest`` may complete.
            rest: the remaining parts of the last frame, which are not copied.
            first: whole frames that go ahead of those that are kept back.

        Raises:
            Closed: the connection has ended.
        """
        me = _thread.get_ident()
        if self._writer == me:
            self._later.append(b"".join((first, data, *rest)))
            return
        try:
            with self._sending:
                self._writer = me
                try:
                    self._writes += 1
                    kept = self.kept
                    count = len(kept)  # the main thread may append meanwhile
                    if not count:
                        if first:
                            data = first + data
                    else:
                        if count == 1 and not (first or data):
                            data = kept[0]
                        else:
                            data = b"".join((first, *kept[:count], data))
                        del kept[:count]
                        self._size = 0
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

    def _gather(self, parts: list[Bytes]) -> None:
        """Write the parts without joining them first."""
        views = deque(memoryview(part) for part in parts if len(part))
        while views:
            sent = self._sock.sendmsg([views[i] for i in range(min(len(views), GATHER))])
            while sent:
                if sent < len(views[0]):
                    views[0] = views[0][sent:]
                    break
                sent -= len(views.popleft())

    def flush_soon(self) -> None:
        """Make the flusher send the frames that are kept back, within about two ticks.

        The main thread calls this before it does something that may take long.

        Raises:
            Closed: the connection has ended.
        """
        if not self._asleep or not self.kept:
            return
        if not self.started:
            try:
                _thread.start_new_thread(self._flush_late, ())
            except RuntimeError:  # no further thread can be started
                self.write()
                return
            self.started = True
        self._asleep = False
        with suppress(RuntimeError):  # main thread and flusher may both find it asleep
            self._wake.release()

    def _flush_late(self) -> None:
        # The wake signal must interrupt the main thread's system calls, not this thread's.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        while True:
            self._wake.acquire()
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
                            return  # the main thread's next write or read fails as well
            self._asleep = True
            if self.kept:  # kept back before _asleep was set
                self.flush_soon()
