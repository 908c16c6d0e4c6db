"""A worker's part in shared memory: what it was lent, and what it lends.

Each descriptor in a frame that names a segment is one loan by the frame's sender.
What a frame lends to this worker becomes an array; when that and all that view it
are gone, the loan is given back. What this worker lends lies in segments of its
own, or in the very segment that it came in.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import msgpack

from gophersnake._worker.memory import releases, segments
from gophersnake._worker.memory.arena import OWN, Arena
from gophersnake._worker.memory.mappings import Atlas
from gophersnake._worker.memory.segments import Segment
from gophersnake._worker.values import arrays
from gophersnake._worker.values.codec import ValueFault
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.frames import Bytes, Frame, Place, ProtocolError


class Full(Exception):
    """There was no room in shared memory within the time allowed.

    Attributes:
        hint: what would do.
    """

    hint = (
        "raise the limit of shared memory, or have those who get the node's results "
        "let go of them earlier"
    )


class _Lease(weakref.ref[Any]):
    """Knows where an array of bytes lies, and says when it is gone.

    Attributes:
        segment: in which segment.
        offset: where in it.
        key: the array's identity.
    """

    __slots__ = ("key", "offset", "segment")
    segment: Segment
    offset: int
    key: int


class SharedMemory:
    """The segments of one connection.

    The main thread reads and sends; any thread may let arrays go or ask for memory.
    An array may die at any point of any thread, in the middle of a method of this
    class, too: that is only taken down, and worked off where it does no harm.

    Attributes:
        ended: the leases of arrays over the host's segments that are gone. Where this,
            ``back`` or ``gone`` is not empty, there may be ``news`` for the host.
        back: how many loans of each of the host's segments are to be given back.
        gone: the numbers of this worker's segments that the host is to forget.
    """

    def __init__(self, channel: socket.socket, start: int, limit: int, wait: float) -> None:
        """Take the socket on which descriptors are handed over, and what setup says.

        Args:
            channel: the socket.
            start: the bytes from which a buffer is shared.
            limit: the bytes that this worker's own segments may take.
            wait: the seconds that who finds no room waits for it.
        """
        channel.setblocking(False)
        self._channel = channel
        self._start, self._wait = start, wait
        self._atlas = Atlas()
        self._arena = Arena(limit, self._atlas)
        self._lent: dict[int, Segment] = {}  # the host's
        # By the array's identity; that of one that is gone may be another's by now.
        self._leases: dict[int, _Lease] = {}
        self.ended: deque[_Lease] = deque()
        self._ended_own: deque[_Lease] = deque()  # the same, over its own segments
        self.back: dict[int, int] = {}
        self.gone = self._arena.gone
        self._lock = threading.Lock()
        self._told = False  # that shared memory cannot be had
        self._left = False
        os.register_at_fork(after_in_child=self._leave)

    def _leave(self) -> None:
        # The child has copies of arrays that its parent will give back.
        self._left = True
        self._lock = threading.Lock()
        self._channel.close()

    def borrow(self, number: int, offset: int, size: int) -> Any:
        """Return what a descriptor in a received frame names: a read-only array of bytes.

        Without NumPy it is a copy, and given back at once.

        Raises:
            ProtocolError: there is no such place.
            MemoryError: there is no memory for it.
        """
        np = arrays.numpy()
        with self._lock:
            segment = self._lent.get(number) or self._take_over(number)
            if offset + size > segment.size:
                raise ProtocolError(
                    f"a buffer of {size} bytes at {offset} in segment {number:#x}, "
                    f"which has {segment.size}"
                )
            if np is None or not size:
                self._give_back(segment)
                return segment.memory[offset : offset + size]
            return self._lease(np, segment, offset, size)

    def borrow_mapped(self, number: int, reserved: int, offset: int, size: int) -> Any:
        """Return what ``borrow`` returns, where that takes no time.

        ``None``, and nothing is borrowed, where it does or something is wrong.
        """
        segment = self._lent.get(number)
        if segment is None or reserved or not size or offset + size > segment.size:
            return None
        np = arrays.numpy()
        if np is None:
            return None
        with self._lock:
            return self._lease(np, segment, offset, size)

    def _lease(self, np: ModuleType, segment: Segment, offset: int, size: int) -> Any:
        lease = np.frombuffer(segment.memory, np.uint8, size, offset)
        segment.loans += 1
        self._let(lease, segment, offset)
        return lease

    def _take_over(self, number: int) -> Segment:
        until = time.monotonic() + segments.HAND_OVER_TIME
        try:
            if number & OWN:
                raise ProtocolError("that is a number of this worker's own segments")
            while number not in self._lent:
                segment = segments.take_over(self._channel, until - time.monotonic())
                if segment.number & OWN or not segment.number or segment.number in self._lent:
                    raise ProtocolError(f"a segment numbered {segment.number:#x} comes instead")
                self._lent[segment.number] = segment
        except ProtocolError as error:
            raise ProtocolError(f"a frame names the segment {number:#x}: {error}") from None
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError from error
            raise ProtocolError(f"the segment {number:#x} cannot be mapped: {error}") from error
        return self._lent[number]

    def _let(self, lease: Any, segment: Segment, offset: int) -> None:
        """Take down that an array lies in a segment, at an offset."""
        ended = self._ended_own if segment.number & OWN else self.ended
        reference = _Lease(lease, ended.append)
        reference.segment, reference.offset, reference.key = segment, offset, id(lease)
        self._leases[id(lease)] = reference
        if not segment.address:
            segment.address = arrays.address(lease) - offset
            self._atlas.add(segment)

    def _give_back(self, segment: Segment) -> None:
        self.back[segment.number] = self.back.get(segment.number, 0) + 1

    def _settle(self) -> None:
        """Work off which arrays are gone; the lock is held."""
        while self._ended_own:
            segment = self._strike_out(self._ended_own.popleft())
            segment.arrays -= 1
            self._arena.rest(segment)
        while self.ended:
            segment = self._strike_out(self.ended.popleft())
            segment.loans -= 1
            self._give_back(segment)

    def _strike_out(self, lease: _Lease) -> Segment:
        if self._leases.get(lease.key) is lease:
            del self._leases[lease.key]
        return lease.segment

    def collect(self) -> None:
        """Free what a failure left behind that holds itself, as one of asyncio's does."""
        with self._lock:
            self._settle()
        if self._leases:
            gc.collect()

    def empty(self, size: int) -> Any:
        """Return a writable array of bytes in a segment, ``None`` where there is no room."""
        np = arrays.numpy()
        if size < self._start or np is None or self._left:
            return None
        # Who holds the lock may be this very thread: a finalizer can run anywhere.
        lock = self._lock
        if not lock.acquire(blocking=False):
            return None
        try:
            self._settle()
            segment = self._arena.take(size)
            if segment is None:
                return None
            segment.loans, segment.arrays = 0, 1
            lease = np.frombuffer(segment.memory, np.uint8, size)
            self._let(lease, segment, 0)
            return lease
        except OSError:
            return None
        finally:
            lock.release()

    def place(self, buffers: list[Bytes], wait: Callable[[float], None]) -> list[Bytes | Place]:
        """Return where the buffers of a frame lie in shared memory; small ones stay as they are.

        The frame must be sent next. Only the main thread may call this.

        Args:
            buffers: of the frame. What lies in no segment is copied into one.
            wait: called where there is no room, with the seconds that are left: it
                reads what the host says meanwhile.

        Raises:
            Full: there was no room in time.
            ValueFault: the buffers are larger than the limit.
        """
        if self._left:
            return list(buffers)
        if len(buffers) == 1 and len(buffers[0]) >= self._start:  # most often it is one
            known = self._found(buffers[0])
            if known is not None:
                return [known[1] if self._is_handed_over(known[0]) else buffers[0]]
        placed: list[tuple[Segment, Place] | None] = []
        copied = 0
        try:
            for buffer in buffers:
                found = None
                if len(buffer) >= self._start and (found := self._found(buffer)) is None:
                    copied += len(buffer)
                    found = self._copied(buffer, copied, wait)
                placed.append(found)
        except BaseException:
            for found in filter(None, placed):
                self._take_back(found[0])
            raise
        return [
            found[1] if found is not None and self._is_handed_over(found[0]) else buffer
            for found, buffer in zip(placed, buffers, strict=True)
        ]

    def _found(self, buffer: Bytes) -> tuple[Segment, Place] | None:
        """Return the segment that a buffer lies in already, lent once more, and the place."""
        if not self._atlas or isinstance(buffer, (bytes, bytearray)):
            return None
        size = len(buffer)
        # Most often it is the whole of an array that was handed out here.
        whole = getattr(buffer.obj, "base", buffer)
        lease = self._leases.get(id(whole))
        with self._lock:
            if lease is not None and len(whole) == size and lease() is whole:
                segment, offset = lease.segment, lease.offset
            elif (found := self._atlas.find(arrays.address(buffer), size)) is not None:
                segment, offset = found
            else:
                return None
            if segment.number & OWN:
                segment.loans += 1
        return segment, Place(segment.number, offset, size)

    def _copied(
        self, buffer: Bytes, total: int, wait: Callable[[float], None]
    ) -> tuple[Segment, Place] | None:
        """Return a segment that a buffer was copied into, lent once, and the place.

        ``None`` where the system has none to give. The total is what the frame's
        buffers need so far: room for more than the limit would never come.
        """
        size, limit = len(buffer), self._arena.limit
        if total > limit:
            raise ValueFault(
                "result",
                f"its large buffers take {_mib(total)}, more than all shared memory of the "
                f"worker, whose limit is {_mib(limit)}",
            )
        try:
            segment = self._room(size, wait)
        except OSError as error:
            self._tell(error)
            return None
        memoryview(segment.memory)[:size] = buffer
        return segment, Place(segment.number, 0, size)

    def _room(self, size: int, wait: Callable[[float], None]) -> Segment:
        """Return a segment of this worker's, lent once."""
        if (segment := self._take(size)) is not None:
            return segment
        gc.collect()  # an exception that holds itself may hold arrays, too
        until = time.monotonic() + self._wait
        while (segment := self._take(size)) is None:
            left = until - time.monotonic()
            if left <= 0:
                raise Full(
                    f"shared memory is full: {_mib(self._arena.in_use)} of "
                    f"{_mib(self._arena.limit)} are lent and not given back, and there was "
                    f"no room for {_mib(size)} within {self._wait:g} s"
                )
            wait(left)
        return segment

    def _take(self, size: int) -> Segment | None:
        with self._lock:
            self._settle()
            return self._arena.take(size)

    def _is_handed_over(self, segment: Segment) -> bool:
        """Have the host know a segment; where that fails, the buffer goes inline."""
        if segment.descriptor < 0:
            return True
        try:
            segments.hand_over(self._channel, segment)
        except OSError as error:  # too many are on their way, perhaps
            self._take_back(segment)
            self._tell(error)
            return False
        return True

    def _take_back(self, segment: Segment) -> None:
        """Undo that a segment was lent."""
        if segment.number & OWN:
            with self._lock:
                segment.loans -= 1
                self._arena.rest(segment)

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            logging.getLogger("gophersnake").warning(
                "a large buffer went through the socket, for lack of shared memory: %s", error
            )

    def news(self, blocking: bool) -> bytes:
        """Return the frames that tell the host what is over.

        Args:
            blocking: whether to wait for other threads; a thread that may be in the
                middle of a method of this class already must not.
        """
        lock = self._lock
        if self._left or not lock.acquire(blocking):
            return b""
        try:
            self._settle()
            news = b""
            if self.back:
                news = frames.whole(frames.RELEASE, releases.pack(self.back))
                self.back.clear()
            if self.gone:
                news += frames.whole(frames.FORGET, msgpack.packb(self.gone))
                self.gone.clear()
            return news
        finally:
            lock.release()

    def heard(self, frame: Frame) -> bool:
        """Do as a frame of the host's says, if it is about segments.

        Raises:
            ProtocolError: it says what cannot be.
        """
        if frame.type == frames.RELEASE:
            self.released(frame.body)
        elif frame.type == frames.FORGET:
            numbers = _array(frames.FORGET, frame.body, msgpack.unpackb)
            with self._lock:
                self._settle()
                for number in numbers:
                    self._forget(number)
        else:
            return False
        return True

    def released(self, body: Bytes) -> None:
        """Take back what a release frame with this body gives back.

        One that gives nothing back has a worker at rest end what it does not need.

        Raises:
            ProtocolError: it says what cannot be.
        """
        pairs = _array(frames.RELEASE, body, releases.unpack)
        with self._lock:
            self._settle()
            for pair in pairs:
                self._released(pair)
            if not pairs:
                self._arena.tidy()

    def _released(self, pair: Any) -> None:
        try:
            number, count = pair
            segment = self._arena.segments[number]
            if type(count) is int and 0 < count <= segment.loans:
                segment.loans -= count
                self._arena.rest(segment)
                return
        except (KeyError, TypeError, ValueError):  # of what is no pair, or no number
            pass
        raise ProtocolError(f"a release frame gives back {pair!r:.80}, which was not lent")

    def _forget(self, number: Any) -> None:
        segment = self._lent.get(number) if isinstance(number, int) else None
        if segment is None or segment.loans:
            raise ProtocolError(f"a forget frame names {number!r:.80}, which is lent or unknown")
        del self._lent[segment.number]
        self._atlas.remove(segment)


def _array(kind: int, body: Bytes, unpack: Callable[[Bytes], Any]) -> Sequence[Any]:
    """Return the body of a frame about segments."""
    try:
        message = unpack(body)
    except Exception as error:
        raise ProtocolError(f"a {frames.name(kind)} frame is no msgpack: {error}") from None
    if not isinstance(message, (list, tuple)):
        raise ProtocolError(f"a {frames.name(kind)} frame whose body is no array")
    return message


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"
