"""The worker's end of the socket: frames in, frames out."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgpack

from gophersnake.worker import frames
from gophersnake.worker.frames import (
    DESCRIPTOR,
    HEADER,
    RELEASE,
    Bytes,
    Frame,
    Limits,
    Place,
    ProtocolError,
)

if TYPE_CHECKING:
    from gophersnake.worker.segments import SharedMemory

READ_AHEAD = 128 << 10
"""Small frames that have arrived together are read together; larger ones go
straight to the memory that they stay in."""

JOIN = 16 << 10
"""Up to so many bytes, a body is joined to its header rather than sent beside it."""

GATHER = 1000
"""How many pieces one sendmsg may take (IOV_MAX is 1024)."""


class Closed(Exception):
    """The supervisor has closed the connection."""


class NoRoom(MemoryError):
    """There is no memory for a frame that has been announced.

    Attributes:
        call: the frame's call id.
    """

    def __init__(self, call: int, size: int) -> None:
        """Take the frame's call id and the bytes that were asked for."""
        super().__init__(f"no memory for an input of {size} bytes")
        self.call = call


class Connection:
    """Frames over a stream socket.

    One thread receives, the main one. Any thread may send.

    Attributes:
        limits: what a received frame may claim.
        shared: the shared memory, if the supervisor shares any.
        mailbox: the frames that ``mail`` has read and ``receive`` not yet returned.
    """

    def __init__(self, sock: socket.socket, limits: Limits | None = None) -> None:
        """Take a connected, blocking socket."""
        self.limits = limits or Limits()
        self.shared: SharedMemory | None = None
        self._sock = sock
        self._ahead = memoryview(bytearray(READ_AHEAD))
        self._start = self._end = 0  # _ahead[_start:_end] has been read and not yet taken
        self.mailbox: deque[Frame] = deque()
        self._broken: Closed | ProtocolError | None = None  # found by mail, raised by receive
        self._sending = threading.Lock()
        self._writer = 0  # the thread that is writing
        self._later: deque[bytes] = deque()  # what it wants to write meanwhile
        self._pid = os.getpid()
        # A forked child has the socket too; what it wrote would be garbage to the host.
        os.register_at_fork(after_in_child=self._leave)

    def _leave(self) -> None:
        self._sending = threading.Lock()
        self._pid = 0
        self._sock.close()  # shared memory sees to itself

    @property
    def open(self) -> bool:
        """False in a forked child, which has no connection."""
        return self._pid != 0

    def receive(self) -> Frame:
        """Return the next frame. Its memory is its own, and not used again.

        Raises:
            Closed: there will be none.
            ProtocolError: what came is no frame.
            NoRoom: there is no memory for it.
        """
        if self.mailbox:
            return self.mailbox.popleft()
        if self._broken is not None:
            raise self._broken
        shared = self.shared
        if shared is None:
            return self._read()
        while True:
            if shared.ended or shared.back or shared.gone:
                self.flush()
            frame = self._read()
            if frame[0] < RELEASE or not shared.heard(frame):
                return frame

    @property
    def ahead(self) -> bool:
        """True where more than the frames received so far has been read."""
        return self._start < self._end or bool(self.mailbox)

    def mail(self) -> None:
        """Read the frames that have arrived into the ``mailbox``.

        It is called while the node works, by the thread that receives, and not
        while that is reading already. It raises neither ``Closed`` nor
        ``ProtocolError``, which the node would take for a failure of its own.
        """
        try:
            while self._broken is None and (
                self._start < self._end or select.select([self._sock], [], [], 0)[0]
            ):
                frame = self._read()
                if self.shared is None or not self.shared.heard(frame):
                    self.mailbox.append(frame)
        except (Closed, ProtocolError) as error:
            self._broken = error

    def wait(self, timeout: float) -> None:
        """Wait until there is mail to be read, at most that many seconds.

        Raises:
            Closed: there will be none.
            ProtocolError: what came is no frame.
        """
        if self._broken is not None:
            raise self._broken
        if self._start == self._end:
            select.select([self._sock], [], [], timeout)

    def _read(self) -> Frame:
        if self._end - self._start < HEADER.size:
            self._fill(HEADER.size)
        header = HEADER.unpack_from(self._ahead, self._start)
        frames.check_header(header, self.limits)
        _, _, kind, _, size, call, count, _ = header
        self._start += HEADER.size
        if not count and size <= self._end - self._start:  # most often all of it is here
            self._start += size
            # A copy: the memory is used again, perhaps while the value is in use.
            return Frame(kind, call, bytes(self._ahead[self._start - size : self._start]), [])
        places = []
        if count:
            table = self._take(count * DESCRIPTOR.size)
            places = frames.check_descriptors(kind, table, self.limits, self.shared is not None)
        try:
            body = self._take(size)
            return Frame(kind, call, body, [self._buffer(each) for each in places])
        except MemoryError:
            raise NoRoom(call, size + sum(each.size for each in places)) from None

    def _buffer(self, place: Place) -> Any:
        if place.segment and self.shared is not None:
            return self.shared.borrow(*place)
        return self._take(place.size)

    def _fill(self, size: int) -> None:
        """Read ahead until there are that many bytes."""
        if self._start == self._end:
            self._start = self._end = 0
        elif READ_AHEAD - self._start < size:
            rest = bytes(self._ahead[self._start : self._end])
            self._ahead[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        while self._end - self._start < size:
            self._end += self._receive(self._ahead[self._end :])

    def _take(self, size: int) -> Bytes:
        """Return that many bytes, in memory of their own."""
        data = bytearray(size)
        view = memoryview(data)
        ready = min(size, self._end - self._start)
        view[:ready] = self._ahead[self._start : self._start + ready]
        self._start += ready
        while ready < size:
            ready += self._receive(view[ready:])
        return data

    def _receive(self, into: memoryview) -> int:
        try:
            count = self._sock.recv_into(into)
        except OSError as error:
            raise Closed(f"the connection broke: {error}") from error
        if not count:
            raise Closed("end of file: the supervisor closed the connection")
        return count

    def send(
        self, kind: int, call: int, body: Bytes, buffers: Sequence[Bytes | Place] = ()
    ) -> None:
        """Send one frame. Body and buffers can be changed once it returns.

        Raises:
            Closed: the supervisor is gone.
        """
        shared = self.shared
        head = frames.head(kind, call, body, buffers)
        if shared is not None and (shared.ended or shared.back or shared.gone):
            head = shared.news(blocking=False) + head
        if not buffers and len(body) <= JOIN:
            self._write(self._sock.sendall, head + body)
        else:
            inline = [each for each in buffers if not isinstance(each, Place)]
            self._write(self._gather, [head, body, *inline])

    def flush(self) -> None:
        """Tell the supervisor which shared memory is over; the main thread does this.

        Raises:
            Closed: the supervisor is gone.
        """
        news = self.shared.news(blocking=True) if self.shared is not None else b""
        if news:
            self._write(self._sock.sendall, news)

    def _write(self, write: Callable[[Any], None], data: Any) -> None:
        """Write whole frames, one thread after the other."""
        me = threading.get_ident()
        if self._writer == me:
            # A finalizer that logs, in the middle of another frame: it comes behind.
            self._later.append(data if isinstance(data, bytes) else b"".join(data))
            return
        try:
            with self._sending:
                self._writer = me
                try:
                    write(data)
                    while self._later:
                        self._sock.sendall(self._later.popleft())
                finally:
                    self._writer = 0
        except OSError as error:
            raise Closed(f"the connection broke: {error}") from error

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

    def send_message(self, kind: int, message: dict[str, Any], call: int = 0) -> None:
        """Send a frame whose body is a message of the protocol, not a node's value.

        Raises:
            Closed: the supervisor is gone.
        """
        self.send(kind, call, msgpack.packb(message, unicode_errors="backslashreplace"))

    def close(self) -> None:
        """End the connection."""
        self._sock.close()
