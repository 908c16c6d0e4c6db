"""The worker's end of the socket: frames in, frames out."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from typing import Any

import msgpack

from gophersnake.worker import frames
from gophersnake.worker.frames import DESCRIPTOR, HEADER, Bytes, Frame, Limits, ProtocolError

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
        mailbox: the frames that ``mail`` has read and ``receive`` not yet returned.
    """

    def __init__(self, sock: socket.socket, limits: Limits | None = None) -> None:
        """Take a connected, blocking socket."""
        self.limits = limits or Limits()
        self._sock = sock
        self._ahead = memoryview(bytearray(READ_AHEAD))
        self._start = self._end = 0  # _ahead[_start:_end] has been read and not yet taken
        self.mailbox: deque[Frame] = deque()
        self._broken: Closed | ProtocolError | None = None  # found by mail, raised by receive
        self._sending = threading.Lock()
        self._pid = os.getpid()
        # A forked child has the socket too; what it wrote would be garbage to the host.
        os.register_at_fork(after_in_child=self._leave)

    def _leave(self) -> None:
        self._sending = threading.Lock()
        self._pid = 0
        self._sock.close()

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
        return self._read()

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
                self.mailbox.append(self._read())
        except (Closed, ProtocolError) as error:
            self._broken = error

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
        sizes = []
        if count:
            table = self._take(count * DESCRIPTOR.size)
            sizes = frames.check_descriptors(kind, table, self.limits)
        try:
            body = self._take(size)
            return Frame(kind, call, body, [self._take(each) for each in sizes])
        except MemoryError:
            raise NoRoom(call, size + sum(sizes)) from None

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

    def send(self, kind: int, call: int, body: Bytes, buffers: list[Bytes] | None = None) -> None:
        """Send one frame. Body and buffers can be changed once it returns.

        Raises:
            Closed: the supervisor is gone.
        """
        try:
            with self._sending:
                if not buffers and len(body) <= JOIN:
                    self._sock.sendall(frames.head(kind, call, body, []) + body)
                else:
                    buffers = buffers or []
                    self._gather([frames.head(kind, call, body, buffers), body, *buffers])
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
