"""The connection to the supervisor: this module receives frames, the outbox sends them.

Only the main thread receives. Bytes are read into a read-ahead buffer, so that small
frames which have arrived together take one system call. These methods return a frame from
there:

- ``next_call`` returns a small call that is complete in the read-ahead buffer, without
  copying it. Almost all calls are received like this.
- ``receive`` waits for the next frame of any type and size, and copies it out.
- ``arrived`` returns the frames that have arrived, for the event loop of async nodes.

While node code runs or waits, ``read_available`` and ``receive_into_mailbox`` put frames
into ``mailbox``. The three above return those first, so the order is kept.

Frames about shared memory (release, forget) are never returned: they are handled as soon
as they are read. When a cancel frame is read, its call id is added to ``canceled`` at once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from gophersnake._worker.originals import os, select, socket
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.begun import BegunCount
from gophersnake._worker.wire.frames import (
    BRIEF,
    CALL,
    CANCEL,
    CONTEXT,
    CONTEXT_SIZE,
    DESCRIPTOR,
    DESCRIPTOR_SIZE,
    HAS_CONTEXT,
    HEADER,
    HEADER_SIZE,
    RELEASE,
    WORDS,
    Bytes,
    Context,
    Frame,
    Limits,
    Location,
    ProtocolError,
)
from gophersnake._worker.wire.outbox import JOIN, Closed, Outbox

if TYPE_CHECKING:
    from gophersnake._worker.memory.shared import SharedMemory

__all__ = ["Closed", "Connection", "NoRoom"]

READ_AHEAD = 128 << 10
"""The size of the read-ahead buffer. Larger frames are read into memory of their own."""

_CALL, _RELEASE = WORDS[CALL], WORDS[RELEASE]
_CALL_WITH_CONTEXT = _CALL | HAS_CONTEXT << 24

_unpack_brief = BRIEF.unpack_from

NO_BUFFERS: list[Any] = []
"""The buffers of a call that has none. It is never changed."""


class NoRoom(MemoryError):
    """There is not enough memory for a frame that is being received.

    Attributes:
        call: the frame's call id.
    """

    def __init__(self, call: int, size: int) -> None:
        """Create the error for a frame of ``size`` bytes."""
        super().__init__(f"no memory for an input of {size} bytes")
        self.call = call


class Connection:
    """Receives frames from a stream socket, and sends frames through its outbox.

    One thread receives, the main one. ``send`` and ``send_message`` may be called by any
    thread. After a fork, the child's connection is closed.

    Attributes:
        shared: the memory shared with the supervisor, if there is any; set it by ``share``.
        limits: the limits of received frames, and of results.
        mailbox: frames that were read while the worker waited for something else, and
            that no method has returned yet.
        start: the index of the first byte that has been read ahead and not yet consumed.
        end: the index after the last such byte; equal to ``start`` if there is none.
        canceled: the ids of calls whose cancel frame has been read, but not yet returned
            and handled.
        contexts: the contexts of calls that have been read and not answered, by the call
            id, for those calls that have one.
        begun: the begun count of this connection's frames.
        small: a body of up to this many bytes can be kept back by the outbox.
        largest: the limit of a result in bytes; 0 for no limit.
        largest_inline: the limit of a frame's inline buffers in bytes; 0 for no limit.
        send: ``Outbox.send``, bound here for speed, as are the next five. It sends a frame.
        send_lent: sends a small frame with one buffer in shared memory.
        send_message: sends a frame whose body is a message of the protocol.
        keep: sends a small frame together with later ones.
        flush: sends the frames that are kept back, and the releases of shared memory.
        flush_soon: makes a background thread send the frames that are kept back.
    """

    def __init__(self, sock: socket.socket, limits: Limits | None = None) -> None:
        """Create the connection on a connected, blocking socket."""
        self.largest = self.largest_inline = 0
        self.limit_frames(limits or Limits())
        self.shared: SharedMemory | None = None
        self.mailbox: deque[Frame] = deque()
        self.canceled: set[int] = set()
        self.contexts: dict[int, Context] = {}
        self.begun = BegunCount()
        self._sock = sock
        self._ahead = memoryview(bytearray(READ_AHEAD))
        self.start = self.end = 0
        self._broken: Closed | ProtocolError | None = None  # raised once the mailbox is empty
        self._outbox = outbox = Outbox(sock)
        self.send, self.send_message = outbox.send, outbox.send_message
        self.send_lent = outbox.send_lent
        self.keep, self.flush, self.flush_soon = outbox.keep, outbox.flush, outbox.flush_soon
        self._open = True
        # A forked child has the socket, too, and must not write into its parent's frames.
        os.register_at_fork(after_in_child=self._close_in_child)

    def _close_in_child(self) -> None:
        """Drop everything in a forked child: the connection is its parent's."""
        self._outbox.reset_after_fork()
        self.start = self.end = 0  # the calls read ahead are the parent's
        self.mailbox.clear()
        self.begun.unmap()
        self.close()

    @property
    def open(self) -> bool:
        """False once it was closed, and in a forked child, which has no connection."""
        return self._open

    @property
    def flusher_started(self) -> bool:
        """True once the thread runs that sends frames which were kept back for long."""
        return self._outbox.started

    def share(self, shared: SharedMemory) -> None:
        """Use memory that is shared with the supervisor, for received and sent frames."""
        self.shared = self._outbox.shared = shared

    def limit_frames(self, limits: Limits) -> None:
        """Set the limits of received frames, and of results."""
        self.limits = limits
        self.small = min(JOIN, limits.body)

    def limit_results(self, size: int) -> None:
        """Limit the size of a result, in bytes; 0 for no limit."""
        self.largest = size
        if size:
            self.small = min(self.small, size)  # frames that are kept back are not checked

    def fileno(self) -> int:
        """Return the socket's descriptor, for an event loop."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket. What is still to be sent is dropped."""
        self._open = False
        self._sock.close()

    # One frame after another, for nodes that serve one call at a time.

    def next_call(self) -> tuple[int, int, Bytes, list[Any]] | None:
        """Return the next call's id, session, body and buffers if that needs no waiting.

        This is so if the call is small, has been read ahead completely, and has no
        buffers or a single one in a segment that is mapped already. The body is valid
        until more is received. For anything else this returns ``None``, and ``receive``
        returns the next frame. Release frames ahead of the call are handled.

        Raises:
            ProtocolError: the context of the call, or a release frame ahead of it, is invalid.
        """
        while True:
            start = self.start
            table = start + HEADER_SIZE
            if table > self.end or self.mailbox:
                return None
            first, size, call, count, session = _unpack_brief(self._ahead, start)
            end = table + count * DESCRIPTOR_SIZE + size
            if end > self.end or size > self.small:
                return None
            buffers = NO_BUFFERS
            if first == _CALL_WITH_CONTEXT:
                if (end := end + CONTEXT_SIZE) > self.end:
                    return None
                context, trace = frames.context(self._ahead, table)
                table += CONTEXT_SIZE
                if trace:
                    if (end := end + trace) > self.end:
                        return None
                    context = frames.traced(context, bytes(self._ahead[table : table + trace]))
                    table += trace
                self.contexts[call] = context
                first = _CALL
            if first == _CALL:
                if count:
                    if self.shared is None or count > 1:
                        return None
                    location = DESCRIPTOR.unpack_from(self._ahead, table)
                    found = self.shared.borrow_mapped(*location)
                    if found is None:
                        return None
                    buffers = [found]
                self.start = end
                return call, session, self._ahead[end - size : end], buffers
            if first != _RELEASE or count or session or self.shared is None:
                return None
            self.start = end
            self.shared.handle_releases(self._ahead[table:end])

    def await_frame(self) -> None:
        """Wait until there is a frame to return; at least its header is read then.

        Call ``flush`` before: the supervisor may be waiting for frames that are kept back.

        Raises:
            Closed: the connection has ended.
            ProtocolError: the supervisor violated the protocol.
        """
        if self.mailbox:
            return
        if self._broken is not None:
            raise self._broken
        if self.start == self.end:  # nearly always, so this is written out
            self.start = self.end = 0
            self.end = self._recv(self._ahead)
        if self.end - self.start < HEADER_SIZE:
            self._fill(HEADER_SIZE)

    def receive(self) -> Frame:
        """Wait for the next frame and return it. Its memory is never used again.

        Raises:
            Closed: the connection has ended.
            ProtocolError: the supervisor violated the protocol.
            NoRoom: there is not enough memory for the frame.
        """
        while True:
            self.flush()
            self.await_frame()
            if self.mailbox:
                return self.mailbox.popleft()
            frame = self._read()
            if not self._handle_memory_frame(frame):
                return frame

    # The mailbox.

    def receive_into_mailbox(self) -> None:
        """Wait for one more frame and put it into the mailbox.

        Raises:
            Closed: the connection has ended.
            ProtocolError: the supervisor violated the protocol.
            NoRoom: there is not enough memory for the frame.
        """
        self.flush()
        if self._broken is not None:
            raise self._broken
        frame = self._read()
        if not self._handle_memory_frame(frame):
            self.mailbox.append(frame)

    def read_available(self) -> None:
        """Read the frames that have arrived into the mailbox, without waiting for more.

        The main thread calls this while node code runs, from a signal handler for
        instance, but not while it is reading a frame already. The errors ``Closed`` and
        ``ProtocolError`` are kept for the next ``receive``, because the node would take
        them for its own.
        """
        try:
            while self._broken is None and (
                self.start < self.end or select.select([self._sock], [], [], 0)[0]
            ):
                frame = self._read()
                if not self._handle_memory_frame(frame):
                    self.mailbox.append(frame)
        except (Closed, ProtocolError) as error:
            self._broken = error

    def pick(self, kind: int, call: int) -> Frame | None:
        """Remove and return the first frame of a type and call in the mailbox, if any."""
        for i, frame in enumerate(self.mailbox):
            if frame.type == kind and frame.call == call:
                del self.mailbox[i]
                return frame
        return None

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for something to read; return whether there is.

        Raises:
            Closed: the connection has ended.
            ProtocolError: the supervisor violated the protocol.
        """
        if self._broken is not None:
            raise self._broken
        return self.start < self.end or bool(select.select([self._sock], [], [], timeout)[0])

    # Many frames at once, for the event loop.

    def arrived(self) -> list[Frame]:
        """Return the frames that have arrived; call this when the socket may be readable.

        There may be none: a loop that runs inside a callback of the event loop also reads,
        and the callback of the outer loop follows. This may wait for the rest of a large
        frame, but not for that of a small one.

        Raises:
            Closed: the connection has ended.
            ProtocolError: the supervisor violated the protocol.
            NoRoom: there is not enough memory for a frame.
        """
        found = list(self.mailbox)
        self.mailbox.clear()
        try:
            if not found and not self._is_readable():
                if self._broken is not None:
                    raise self._broken
                self._fill_available()
            while self._is_readable():
                frame = self._read()
                if not self._handle_memory_frame(frame):
                    found.append(frame)
        except (Closed, ProtocolError) as error:
            self._broken = error
            if not found:
                raise
        for frame in found:
            if frame.type == CANCEL:
                self.canceled.discard(frame.call)
        return found

    @property
    def has_arrived(self) -> bool:
        """True if ``arrived`` can return or raise something without reading the socket."""
        return bool(self.mailbox) or self._is_readable() or self._broken is not None

    def _is_readable(self) -> bool:
        """Return whether ``_read`` can take the next frame from the read-ahead buffer.

        That is also so for an invalid header, which ``_read`` raises, and for the beginning
        of a large frame, whose rest it waits for.
        """
        available = self.end - self.start
        if available < HEADER_SIZE:
            return False
        first, size, _, buffers, _ = _unpack_brief(self._ahead, self.start)
        if first >> 24 == HAS_CONTEXT:
            if available < HEADER_SIZE + CONTEXT_SIZE:
                return False
            _, _, trace = CONTEXT.unpack_from(self._ahead, self.start + HEADER_SIZE)
            first, size = first & 0xFFFFFF, size + CONTEXT_SIZE + trace
        if first & ~(0xFF << 16) != WORDS[0]:
            return True
        return bool(buffers or size > READ_AHEAD // 2 or HEADER_SIZE + size <= available)

    # A frame, from the header to the buffers.

    def _read(self) -> Frame:
        """Read one whole frame, waiting for it if needed."""
        if self.end - self.start < HEADER_SIZE:
            self._fill(HEADER_SIZE)
        header = HEADER.unpack_from(self._ahead, self.start)
        frames.check_header(header, self.limits)
        _, _, kind, flags, size, call, count, session = header
        self.start += HEADER_SIZE
        if flags:
            context, trace = frames.context(self._read_part(CONTEXT_SIZE))
            if trace:
                context = frames.traced(context, bytes(self._read_part(trace)))
            self.contexts[call] = context
        if kind == CANCEL:
            self.canceled.add(call)
        locations = []
        if count:
            table = self._read_part(count * DESCRIPTOR_SIZE)
            shared = self.shared is not None
            locations = frames.check_descriptors(kind, table, self.limits, shared)
        try:
            body = self._read_part(size)
            return Frame(kind, call, body, [self._buffer(each) for each in locations], session)
        except MemoryError:
            raise NoRoom(call, size + sum(each.size for each in locations)) from None

    def _handle_memory_frame(self, frame: Frame) -> bool:
        """Handle a frame about shared memory; return False if it is about something else."""
        return frame.type >= RELEASE and self.shared is not None and self.shared.handle_frame(frame)

    def _buffer(self, location: Location) -> Any:
        """Return a buffer of a frame: borrowed from shared memory, or read from the socket."""
        if location.segment and self.shared is not None:
            return self.shared.borrow(*location)
        return self._read_owned(location.size)

    def _read_part(self, size: int) -> Bytes:
        """Return the next bytes of a frame, copied if they have been read ahead."""
        start, end = self.start, self.start + size
        if end > self.end:
            return self._read_owned(size)
        self.start = end
        return bytes(self._ahead[start:end])

    def _read_owned(self, size: int) -> Bytes:
        """Return the next bytes in memory of their own, received directly into it."""
        data = bytearray(size)
        view = memoryview(data)
        ready = min(size, self.end - self.start)
        view[:ready] = self._ahead[self.start : self.start + ready]
        self.start += ready
        while ready < size:
            ready += self._recv(view[ready:])
        return data

    def _fill(self, size: int) -> None:
        """Read ahead until at least ``size`` bytes are available."""
        self._make_room(size)
        while self.end - self.start < size:
            self.end += self._recv(self._ahead[self.end :])

    def _fill_available(self) -> None:
        """Read ahead what has arrived, if anything has, without waiting for more."""
        self._make_room(self.end - self.start + 1)
        self.end += self._recv(self._ahead[self.end :], socket.MSG_DONTWAIT)

    def _make_room(self, size: int) -> None:
        """Move what has been read ahead, if ``size`` bytes from its first one need that."""
        if self.start == self.end:
            self.start = self.end = 0
        elif READ_AHEAD - self.start < size:
            rest = bytes(self._ahead[self.start : self.end])
            self._ahead[: len(rest)] = rest
            self.start, self.end = 0, len(rest)

    def _recv(self, into: memoryview, flags: int = 0) -> int:
        """Receive at least one byte, and return how many were received.

        Returns 0 if there is none, and the flags say that this must not wait.
        """
        try:
            count = self._sock.recv_into(into, 0, flags)
        except OSError as error:
            if flags and isinstance(error, BlockingIOError):
                return 0
            raise Closed(f"the connection broke: {error}") from error
        if not count:
            raise Closed("end of file: the supervisor closed the connection")
        return count
