"""The worker's part of the memory that it shares with the supervisor.

A descriptor (segment, offset, size) in a frame is one loan of that segment by the sender
of the frame. A buffer that the supervisor lends becomes an array, which has a lease of the
segment. Once that array and all its views are gone, the lease ends, and a release frame
releases the loan. A buffer that the worker lends lies in a segment of its own arena, or in
the segment of the supervisor in which the data arrived.
"""

from __future__ import annotations

import errno
import gc
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from gophersnake._worker.memory import releases, segments
from gophersnake._worker.memory.arena import MOST, OWN, Arena, mib
from gophersnake._worker.memory.segments import Lease, Mappings, Segment
from gophersnake._worker.originals import _thread, os, socket
from gophersnake._worker.values import arrays
from gophersnake._worker.values.format import ValueFault
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.frames import Bytes, Frame, Location, ProtocolError

MANY_FROM = 64 << 10
"""The size in bytes from which one buffer of several is shared. Each copy takes a segment, and a
worker may have few of them."""

_pack_descriptor = frames.DESCRIPTOR.pack


class SharedMemory:
    """The segments of one connection.

    The main thread borrows and lends; any thread may let arrays go or allocate. An array
    may be finalized at any point of any thread, even in the middle of a method of this
    class, so its callback only appends the lease to a deque. ``_settle_locked`` ends the
    lease later. Methods that end in ``_locked`` are called with the lock held.

    Attributes:
        ended: the leases of the supervisor's segments whose arrays are gone.
        released: how many loans of each of the supervisor's segments the next release
            frame names.
        discarded: the numbers of the worker's segments that the next forget frame names.
            If any of these three is not empty, ``pending_frames`` may return frames.
    """

    def __init__(
        self, channel: socket.socket, start: int, limit: int, wait: float, most: int = MOST
    ) -> None:
        """Create the shared memory that the setup frame describes.

        Args:
            channel: the socket over which descriptors are transferred.
            start: the size, in bytes, from which a buffer is shared.
            limit: how many bytes the worker's own segments may take.
            wait: how many seconds a result may wait for room.
            most: how many segments the worker may own.
        """
        channel.setblocking(False)
        self._channel = channel
        self._start, self._wait = start, wait
        self._mappings = Mappings()
        self._arena = Arena(limit, self._mappings, most)
        self._borrowed: dict[int, Segment] = {}  # the supervisor's segments
        # By the array's identity, which a later array may have once this one is gone.
        self._leases: dict[int, Lease] = {}
        self.ended: deque[Lease] = deque()
        self._ended_own: deque[Lease] = deque()  # the same for the worker's own segments
        self._end_own, self._end_borrowed = self._ended_own.append, self.ended.append
        self.released: dict[int, int] = {}
        self.discarded = self._arena.discarded
        self._lock = _thread.allocate_lock()
        self._warned = False
        self._closed = False
        os.register_at_fork(after_in_child=self._close_in_child)

    def _close_in_child(self) -> None:
        # The child has copies of arrays whose loans its parent releases.
        self._closed = True
        self._lock = _thread.allocate_lock()
        self._channel.close()

    # Borrowing: buffers of received frames.

    def borrow(self, number: int, offset: int, size: int) -> Any:
        """Return a buffer of a received frame as a read-only array of bytes.

        This may wait for the segment's descriptor. Without NumPy the buffer is copied,
        and its loan is released at once.

        Raises:
            ProtocolError: there is no such segment, or the buffer exceeds it.
            MemoryError: there is not enough memory to map or copy it.
        """
        np = arrays.numpy()
        with self._lock:
            segment = self._borrowed.get(number) or self._receive_locked(number)
            if offset + size > segment.size:
                raise ProtocolError(
                    f"a buffer of {size} bytes at {offset} in segment {number:#x}, "
                    f"which has {segment.size}"
                )
            if np is None or not size:
                self.released[number] = self.released.get(number, 0) + 1
                return segment.memory[offset : offset + size]
            array = np.frombuffer(segment.memory, np.uint8, size, offset)
            segment.loans += 1
            self._lease_locked(array, segment, offset)
        return array

    def borrow_mapped(self, number: int, reserved: int, offset: int, size: int) -> Any:
        """Return the same as ``borrow`` if the segment is mapped already.

        Returns ``None``, and borrows nothing, if it is not, or if the descriptor is invalid.
        """
        segment = self._borrowed.get(number)
        if segment is None or reserved or not size or offset + size > segment.size:
            return None
        np = arrays.numpy()
        if np is None:
            return None
        with self._lock:
            array = np.frombuffer(segment.memory, np.uint8, size, offset)
            segment.loans += 1
            self._lease_locked(array, segment, offset)
        return array

    def _receive_locked(self, number: int) -> Segment:
        """Return one of the supervisor's segments, whose descriptor must have been sent."""
        until = time.monotonic() + segments.TRANSFER_TIMEOUT
        try:
            if number & OWN:
                raise ProtocolError("the number is one of this worker's own segments")
            while number not in self._borrowed:
                segment = segments.receive(self._channel, until - time.monotonic())
                if segment.number & OWN or not segment.number or segment.number in self._borrowed:
                    raise ProtocolError(f"a segment with the number {segment.number:#x} came")
                self._borrowed[segment.number] = segment
        except ProtocolError as error:
            raise ProtocolError(f"a frame names the segment {number:#x}: {error}") from None
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError from error
            raise ProtocolError(f"the segment {number:#x} cannot be mapped: {error}") from error
        return self._borrowed[number]

    def _lease_locked(self, array: Any, segment: Segment, offset: int) -> None:
        """Record that an array lies in a segment, at an offset."""
        key = id(array)
        lease = Lease(array, self._end_own if segment.number & OWN else self._end_borrowed)
        lease.segment = segment
        lease.offset = offset
        lease.key = key
        self._leases[key] = lease
        if not segment.address:
            segment.address = arrays.address(array) - offset
            self._mappings.add(segment)

    def _settle_locked(self) -> None:
        """End the leases whose arrays are gone."""
        leases = self._leases
        while self._ended_own:
            lease = self._ended_own.popleft()
            if leases.get(lease.key) is lease:  # not that of a later array
                del leases[lease.key]
            segment = lease.segment
            segment.arrays -= 1
            if not segment.loans:
                self._arena.free_if_unused(segment)
        while self.ended:
            lease = self.ended.popleft()
            if leases.get(lease.key) is lease:
                del leases[lease.key]
            segment = lease.segment
            segment.loans -= 1
            number = segment.number
            self.released[number] = self.released.get(number, 0) + 1

    def collect(self) -> None:
        """Free arrays that only reference cycles keep, as failures of asyncio do."""
        with self._lock:
            self._settle_locked()
        if self._leases:
            gc.collect()

    # Allocating: memory for results, before they are made.

    def allocate(self, size: int) -> Any:
        """Return a writable array of ``size`` bytes in a segment.

        Returns ``None`` if it is too small to be shared, or if there is no room at once.
        """
        np = arrays.numpy()
        if size < self._start or np is None or self._closed:
            return None
        # This thread itself may hold the lock: a finalizer can run anywhere.
        lock = self._lock
        if not lock.acquire(blocking=False):
            return None
        try:
            if self._ended_own or self.ended:
                self._settle_locked()
            segment = self._arena.take(size)
            if segment is None:
                return None
            segment.loans = 0
            segment.arrays = 1
            array = np.frombuffer(segment.memory, np.uint8, size)
            self._lease_locked(array, segment, 0)
            return array
        except OSError:
            return None
        finally:
            lock.release()

    # Lending: buffers of frames to send.

    def lend_only(self, buffer: Bytes) -> bytes | None:
        """Lend the only buffer of a frame, and return its descriptor, as ``lend`` does.

        Returns ``None``, and lends nothing, if that takes more than one step or a copy. Then
        ``lend`` must be called. The frame must be sent next. Only the main thread calls this.
        """
        if self._closed or self.discarded:
            return None
        if type(buffer) is not memoryview:
            return self._lend_copy(buffer) if type(buffer) is bytes else None
        whole: Any = getattr(buffer.obj, "base", None)
        lease = self._leases.get(id(whole))
        if lease is None or lease() is not whole or whole is None:
            return None
        size = len(buffer)
        segment = lease.segment
        if len(whole) != size or segment.descriptor >= 0:
            return None
        number = segment.number
        if number & OWN:
            with self._lock:
                segment.loans += 1
        return _pack_descriptor(number, 0, lease.offset, size)

    def _lend_copy(self, data: bytes) -> bytes | None:
        """Lend a copy of data in a segment that the supervisor has; see ``lend_only``."""
        size = len(data)
        try:
            segment = self._take(size) if size >= self._start else None
        except OSError:
            return None
        if segment is None:
            return None
        if segment.descriptor >= 0 or self.discarded:
            self._undo_loan(segment)
            return None
        memoryview(segment.memory)[:size] = data
        return _pack_descriptor(segment.number, 0, 0, size)

    def lend(self, buffers: list[Bytes], wait: Callable[[float], None]) -> list[Bytes | Location]:
        """Lend the large buffers of a frame, and return their locations.

        Small buffers are returned as they are, and so are those that cannot be shared:
        they go inline. The frame must be sent next. Only the main thread calls this.

        Args:
            buffers: the frame's buffers. One that lies in no segment is copied into one.
            wait: called with the seconds left if there is no room; it handles frames of
                the supervisor meanwhile.

        Raises:
            Full: there was no room in time.
            ValueFault: the buffers are larger than the limit.
        """
        if self._closed:
            return list(buffers)
        if len(buffers) == 1 and len(buffers[0]) >= self._start:  # the most frequent case
            found = self._find(buffers[0])
            if found is not None:
                return [found[1] if self._transfer(found[0]) else buffers[0]]
        lent: list[tuple[Segment, Location] | None] = []
        copied = 0
        start = self._start if len(buffers) == 1 else max(self._start, MANY_FROM)
        try:
            for buffer in buffers:
                found = None
                if len(buffer) >= start and (found := self._find(buffer)) is None:
                    copied += len(buffer)
                    found = self._copy(buffer, copied, wait)
                lent.append(found)
        except BaseException:
            for found in filter(None, lent):
                self._undo_loan(found[0])
            raise
        return [
            found[1] if found is not None and self._transfer(found[0]) else buffer
            for found, buffer in zip(lent, buffers, strict=True)
        ]

    def _find(self, buffer: Bytes) -> tuple[Segment, Location] | None:
        """Return the segment that a buffer lies in, with one more loan, and the location."""
        if not self._mappings or isinstance(buffer, (bytes, bytearray)):
            return None
        size = len(buffer)
        # Most often the buffer is an entire array with a lease.
        whole = getattr(buffer.obj, "base", buffer)
        lease = self._leases.get(id(whole))
        with self._lock:
            if lease is not None and len(whole) == size and lease() is whole:
                segment, offset = lease.segment, lease.offset
            elif (found := self._mappings.find(arrays.address(buffer), size)) is not None:
                segment, offset = found
            else:
                return None
            if segment.number & OWN:
                segment.loans += 1
        return segment, Location(segment.number, offset, size)

    def _copy(
        self, buffer: Bytes, total: int, wait: Callable[[float], None]
    ) -> tuple[Segment, Location] | None:
        """Copy a buffer into a segment; return that, with one loan, and the location.

        Returns ``None`` if the system cannot create a segment. ``total`` is the size of the
        frame's copied buffers so far: if it exceeds the limit, waiting is of no use.
        """
        size, limit = len(buffer), self._arena.limit
        if total > limit:
            raise ValueFault(
                "result",
                f"its large buffers take {mib(total)}, more than all shared memory of the "
                f"worker, whose limit is {mib(limit)}",
            )
        try:
            segment = self._wait_for_room(size, wait)
        except OSError as error:
            self._warn(error)
            return None
        memoryview(segment.memory)[:size] = buffer
        return segment, Location(segment.number, 0, size)

    def _wait_for_room(self, size: int, wait: Callable[[float], None]) -> Segment:
        """Return one of the worker's segments with one loan."""
        if (segment := self._take(size)) is not None:
            return segment
        gc.collect()  # an exception in a reference cycle may keep arrays
        until = time.monotonic() + self._wait
        while (segment := self._take(size)) is None:
            left = until - time.monotonic()
            if left <= 0:
                raise self._arena.full(size, self._wait)
            wait(left)
        return segment

    def _take(self, size: int) -> Segment | None:
        with self._lock:
            self._settle_locked()
            return self._arena.take(size)

    def _transfer(self, segment: Segment) -> bool:
        """Transfer a segment if the supervisor does not have it; return False if that fails."""
        if segment.descriptor < 0:
            return True
        try:
            segments.transfer(self._channel, segment)
        except OSError as error:  # too many descriptors may be in flight
            self._undo_loan(segment)
            self._warn(error)
            return False
        return True

    def take_back(self, buffers: Sequence[Bytes | Location]) -> None:
        """End the loans of a frame that is not sent after all.

        Args:
            buffers: what ``lend`` returned.
        """
        for each in buffers:
            if isinstance(each, Location) and each.segment & OWN:
                self._undo_loan(self._arena.segments[each.segment])

    def _undo_loan(self, segment: Segment) -> None:
        if segment.number & OWN:
            with self._lock:
                segment.loans -= 1
                self._arena.free_if_unused(segment)

    def _warn(self, error: OSError) -> None:
        """Log, once, that shared memory is not available."""
        if not self._warned:
            self._warned = True
            logging.getLogger("gophersnake").warning(
                "a large buffer was sent through the socket, for lack of shared memory: %s", error
            )

    # Frames about segments.

    def pending_frames(self, blocking: bool) -> bytes:
        """Return the frames that release loans and announce discarded segments.

        Args:
            blocking: whether to wait for the lock. A thread that may hold it already,
                because a finalizer can run anywhere, must not.
        """
        lock = self._lock
        if self._closed or not lock.acquire(blocking):
            return b""
        try:
            self._settle_locked()
            released = self.released
            pending = b""
            if len(released) == 1:
                pending = releases.frame_of_one(*released.popitem())
            elif released:
                pending = frames.whole(frames.RELEASE, releases.pack(released))
                released.clear()
            if self.discarded:
                pending += frames.whole(frames.FORGET, msgpack.packb(self.discarded))
                self.discarded.clear()
            return pending
        finally:
            lock.release()

    def handle_frame(self, frame: Frame) -> bool:
        """Handle a release or forget frame; return False for any other frame.

        Raises:
            ProtocolError: the frame is invalid.
        """
        if frame.type == frames.RELEASE:
            self.handle_releases(frame.body)
        elif frame.type == frames.FORGET:
            numbers = _array(frames.FORGET, frame.body, msgpack.unpackb)
            with self._lock:
                self._settle_locked()
                for number in numbers:
                    self._forget_locked(number)
        else:
            return False
        return True

    def handle_releases(self, body: Bytes) -> None:
        """End the loans that the body of a release frame names.

        A body without any asks an idle worker to discard the segments that it does not need.

        Raises:
            ProtocolError: the body is invalid, or releases a segment that was not lent.
        """
        if (only := releases.only_pair(body)) is not None:
            with self._lock:
                self._end_loans_locked(only)
            return
        pairs = _array(frames.RELEASE, body, releases.unpack)
        with self._lock:
            self._settle_locked()
            for pair in pairs:
                self._end_loans_locked(pair)
            if not pairs:
                self._arena.discard_unused()

    def _end_loans_locked(self, pair: Any) -> None:
        """End loans of one segment, which becomes free with its last loan and array.

        Its arrays that are gone without being settled are settled later.
        """
        try:
            number, count = pair
            segment = self._arena.segments[number]
            if type(count) is int and 0 < count <= segment.loans:
                segment.loans -= count
                if not segment.loans:
                    self._arena.free_if_unused(segment)
                return
        except (KeyError, TypeError, ValueError):  # not a pair, or not a known number
            pass
        raise ProtocolError(f"a release frame gives back {pair!r:.80}, which was not lent")

    def _forget_locked(self, number: Any) -> None:
        segment = self._borrowed.get(number) if isinstance(number, int) else None
        if segment is None or segment.loans:
            raise ProtocolError(f"a forget frame names {number!r:.80}, which is lent or unknown")
        del self._borrowed[segment.number]
        self._mappings.remove(segment)


def _array(kind: int, body: Bytes, unpack: Callable[[Bytes], Any]) -> Sequence[Any]:
    """Return the content of a frame about segments, which is an array."""
    try:
        message = unpack(body)
    except Exception as error:
        raise ProtocolError(f"a {frames.name(kind)} frame that is not msgpack: {error}") from None
    if not isinstance(message, (list, tuple)):
        raise ProtocolError(f"a {frames.name(kind)} frame whose body is not an array")
    return message
