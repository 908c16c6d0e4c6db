"""The worker's end of the socket: frames in, frames out."""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgpack

from gophersnake._worker.wire import frames
from gophersnake._worker.wire.begun import Begun
from gophersnake._worker.wire.frames import (
    BRIEF,
    CALL,
    CANCEL,
    DESCRIPTOR,
    DESCRIPTOR_SIZE,
    HEADER,
    HEADER_SIZE,
    RELEASE,
    WORDS,
    Bytes,
    Frame,
    Limits,
    Place,
    ProtocolError,
)
from gophersnake._worker.wire.outbox import Closed, Outbox

if TYPE_CHECKING:
    from gophersnake._worker.memory.shared import SharedMemory

__all__ = ["Closed", "Connection", "NoRoom"]

READ_AHEAD = 128 << 10
"""Small frames that have arrived together are read together; larger ones go
straight to the memory that they stay in."""

JOIN = 16 << 10
"""Up to so many bytes, a body is joined to its header rather than sent beside it."""

_CALL, _RELEASE = WORDS[CALL], WORDS[RELEASE]

_unpack_brief = BRIEF.unpack_from

NONE: list[Any] = []
"""The buffers of a call that has none."""


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
        shared: the shared memory, if the supervisor shares any.
        mailbox: the frames that were read while something else was waited for, and
            that ``receive`` has not yet returned.
        cancelled: the calls that a cancel frame in the mailbox gives up.
        keep: has a small frame sent together with later ones; see ``Outbox``.
        watch: has what is kept sent soon, whatever the main thread does.
        begun: counts those of its frames whose work is begun.
        small: up to so many bytes, a body without buffers can be kept back.
        largest: the bytes of the largest result; 0 is no bound.
    """

    def __init__(self, sock: socket.socket, limits: Limits | None = None) -> None:
        """Take a connected, blocking socket."""
        self.largest = 0
        self.limits = limits or Limits()
        self.shared: SharedMemory | None = None
        self._sock = sock
        self._ahead = memoryview(bytearray(READ_AHEAD))
        self._start = self._end = 0  # _ahead[_start:_end] has been read and not yet taken
        self.mailbox: deque[Frame] = deque()
        self.cancelled: set[int] = set()
        self.begun = Begun()
        self._broken: Closed | ProtocolError | None = None  # found by mail, raised by receive
        self._outbox = Outbox(sock)
        self._kept = self._outbox.kept
        self.keep, self.watch = self._outbox.keep, self._outbox.watch
        self._pid = os.getpid()
        # A forked child has the socket too; what it wrote would be garbage to the host.
        os.register_at_fork(after_in_child=self._leave)

    def _leave(self) -> None:
        self._outbox.leave()
        self._start = self._end = 0  # those calls are its parent's
        self.mailbox.clear()
        self._pid = 0
        self._sock.close()  # shared memory sees to itself

    @property
    def open(self) -> bool:
        """False in a forked child, which has no connection."""
        return self._pid != 0

    @property
    def limits(self) -> Limits:
        """What a received frame may claim, and a result, too."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self.small = min(JOIN, limits.body)

    def bound(self, size: int) -> None:
        """Bound a result, in bytes; 0 is no bound."""
        self.largest = size
        if size:
            self.small = min(self.small, size)  # what is kept back is not looked at

    def fileno(self) -> int:
        """Return the descriptor of the socket, for who watches it."""
        return self._sock.fileno()

    def next_call(self) -> tuple[int, int, Bytes, list[Any]] | None:
        """Return the next call's id, session, body and buffers, where that takes no time.

        That is: it is small, all of it has been read ahead, and its buffer, if it has
        one, lies in a segment that is mapped already. The body is valid until more is read.
        Otherwise this is ``None``, and ``receive`` returns whatever comes next.
        What comes before about shared memory is done.

        Raises:
            ProtocolError: what comes before cannot be.
        """
        while True:
            start = self._start
            table = start + HEADER_SIZE
            if table > self._end or self.mailbox:
                return None
            first, size, call, count, session = _unpack_brief(self._ahead, start)
            end = table + count * DESCRIPTOR_SIZE + size
            if end > self._end or size > self.small:
                return None
            buffers = NONE
            if first == _CALL:
                if count:
                    if self.shared is None or count > 1:
                        return None
                    place = DESCRIPTOR.unpack_from(self._ahead, table)
                    found = self.shared.borrow_mapped(*place)
                    if found is None:
                        return None
                    buffers = [found]
                self._start = end
                return call, session, self._ahead[end - size : end], buffers
            if first != _RELEASE or count or session or self.shared is None:
                return None
            self._start = end
            self.shared.released(self._ahead[table:end])

    def listen(self) -> None:
        """Send all that is kept, and wait for the next frame; at least its header is read.

        Raises:
            Closed: there will be none.
            ProtocolError: what came is no frame.
        """
        self.flush()
        if self.mailbox:
            return
        if self._broken is not None:
            raise self._broken
        if self._end - self._start < HEADER_SIZE:
            self._fill(HEADER_SIZE)

    def receive(self) -> Frame:
        """Return the next frame. Its memory is its own, and not used again.

        Raises:
            Closed: there will be none.
            ProtocolError: what came is no frame.
            NoRoom: there is no memory for it.
        """
        while True:
            self.listen()
            if self.mailbox:
                return self.mailbox.popleft()
            frame = self._read()
            if not self._is_heard(frame):
                return frame

    def more(self) -> None:
        """Wait for one more frame, and put it into the mailbox.

        Raises:
            Closed: there will be none.
            ProtocolError: what came is no frame.
            NoRoom: there is no memory for it.
        """
        self.flush()
        if self._broken is not None:
            raise self._broken
        frame = self._read()
        if not self._is_heard(frame):
            self.mailbox.append(frame)

    def pick(self, kind: int, call: int) -> Frame | None:
        """Take the first frame of this type and call out of the mailbox."""
        for i, frame in enumerate(self.mailbox):
            if frame.type == kind and frame.call == call:
                del self.mailbox[i]
                return frame
        return None

    def arrived(self) -> list[Frame]:
        """Return the frames that are there; it is called when the socket can be read.

        The rest of a large one may be waited for, that of a small one is not.

        Raises:
            Closed: there will be none.
            ProtocolError: what came is no frame.
            NoRoom: there is no memory for it.
        """
        found = list(self.mailbox)
        self.mailbox.clear()
        try:
            if not found and not self._whole:
                if self._broken is not None:
                    raise self._broken
                self._fill(self._end - self._start + 1)
            while self._whole:
                frame = self._read()
                if not self._is_heard(frame):
                    found.append(frame)
        except (Closed, ProtocolError) as error:
            self._broken = error
            if not found:
                raise
        for frame in found:
            if frame.type == CANCEL:
                self.cancelled.discard(frame.call)
        return found

    @property
    def ahead(self) -> bool:
        """True where ``arrived`` has something to return, or to raise, without more to read."""
        return bool(self.mailbox) or self._whole or self._broken is not None

    @property
    def _whole(self) -> bool:
        """True where a frame has been read ahead, the beginning of a large one, or what is none."""
        there = self._end - self._start
        if there < HEADER_SIZE:
            return False
        first, size, _, buffers, _ = _unpack_brief(self._ahead, self._start)
        if first & ~(0xFF << 16) != WORDS[0]:
            return True
        return bool(buffers or size > READ_AHEAD // 2 or HEADER_SIZE + size <= there)

    def _is_heard(self, frame: Frame) -> bool:
        """Do what a frame says that is not for who receives: it is about shared memory."""
        return frame.type >= RELEASE and self.shared is not None and self.shared.heard(frame)

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
                if not self._is_heard(frame):
                    self.mailbox.append(frame)
        except (Closed, ProtocolError) as error:
            self._broken = error

    def wait(self, timeout: float) -> bool:
        """Wait until there is something to be read, at most that many seconds.

        Raises:
            Closed: there will be none.
            ProtocolError: what came is no frame.
        """
        if self._broken is not None:
            raise self._broken
        return self._start < self._end or bool(select.select([self._sock], [], [], timeout)[0])

    def _read(self) -> Frame:
        if self._end - self._start < HEADER_SIZE:
            self._fill(HEADER_SIZE)
        header = HEADER.unpack_from(self._ahead, self._start)
        frames.check_header(header, self._limits)
        _, _, kind, _, size, call, count, session = header
        self._start += HEADER_SIZE
        if kind == CANCEL:
            self.cancelled.add(call)
        places = []
        if count:
            table = self._part(count * DESCRIPTOR_SIZE)
            places = frames.check_descriptors(kind, table, self._limits, self.shared is not None)
        try:
            body = self._part(size)
            return Frame(kind, call, body, [self._buffer(each) for each in places], session)
        except MemoryError:
            raise NoRoom(call, size + sum(each.size for each in places)) from None

    def _part(self, size: int) -> Bytes:
        """Return that many bytes of a frame; most often all of them are here."""
        start, end = self._start, self._start + size
        if end > self._end:
            return self._take(size)
        self._start = end
        # A copy: the memory is used again, perhaps while the value is in use.
        return bytes(self._ahead[start:end])

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
        head = frames.head(kind, call, body, buffers)
        news = self._news(blocking=False)
        inline = [each for each in buffers if not isinstance(each, Place)]
        if not inline and len(body) <= JOIN:
            self._outbox.write(head + body, news=news)
        else:
            self._outbox.write(head, [body, *inline], news)

    def flush(self) -> None:
        """Send what is kept, and which shared memory is over; the main thread does this.

        Raises:
            Closed: the supervisor is gone.
        """
        news = self._news(blocking=True)
        if news or self._kept:
            self._outbox.write(news=news)

    def _news(self, blocking: bool) -> bytes:
        shared = self.shared
        if shared is not None and (shared.ended or shared.back or shared.gone):
            return shared.news(blocking)
        return b""

    def send_message(self, kind: int, message: dict[str, Any], call: int = 0) -> None:
        """Send a frame whose body is a message of the protocol, not a node's value.

        Raises:
            Closed: the supervisor is gone.
        """
        self.send(kind, call, msgpack.packb(message, unicode_errors="backslashreplace"))

    def close(self) -> None:
        """End the connection."""
        self._sock.close()
