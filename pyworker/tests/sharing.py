"""The supervisor's part in shared memory, written independently of the package's code."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgpack

OWN = 1 << 31
FROM = 64 << 10


class Host:
    """Lends segments to one worker, and is lent the worker's.

    Attributes:
        lent: by the supervisor's numbers, how many loans the worker has.
        borrowed: by the worker's numbers, how many loans the host has.
        keep: whether results are kept, instead of given back as soon as they are read.
        places: of the buffers of the last frame.
        forgotten: the worker's segments that are no more.
        told: the frames that the worker sent, in their order, by type.
    """

    def __init__(self) -> None:
        """Make the channel."""
        self.channel, self.worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(5)
        self.lent: Counter[int] = Counter()
        self.borrowed: Counter[int] = Counter()
        self.keep = False
        self.places: list[tuple[int, int, int]] = []
        self.forgotten: list[int] = []
        self.frame_types: list[int] = []
        self._maps: dict[int, mmap.mmap] = {}
        self._last = 0

    def make(self, number: int, size: int, seals: int = 23, claim: int | None = None) -> mmap.mmap:
        """Make a segment and hand it over, right or wrong."""
        fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        memory = mmap.mmap(fd, size)
        fcntl.fcntl(fd, 1033, seals)
        message = struct.pack("<IQ", number, size if claim is None else claim)
        socket.send_fds(self.channel, [message], [fd])
        os.close(fd)
        self._maps[number] = memory
        return memory

    def lend(self, data: bytes, offset: int = 0) -> tuple[int, int, int]:
        """Return where these bytes lie in a segment of the supervisor's, which is lent once more."""
        for number, memory in self._maps.items():
            if not number & OWN and not self.lent[number] and len(memory) >= offset + len(data):
                break
        else:
            self._last += 1
            number = self._last
            memory = self.make(number, offset + len(data))
        memory[offset : offset + len(data)] = data
        self.lent[number] += 1
        return number, offset, len(data)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return what the worker lends."""
        while number not in self._maps:
            message, fds, _, _ = socket.recv_fds(self.channel, 100, 4)
            found, length = struct.unpack("<IQ", message)
            (fd,) = fds
            assert found & OWN
            assert found not in self._maps
            assert os.fstat(fd).st_size == length
            assert fcntl.fcntl(fd, 1034) == 23
            self._maps[found] = mmap.mmap(fd, length, prot=mmap.PROT_READ)
            os.close(fd)
        if number & OWN:
            self.borrowed[number] += 1
        else:  # only what the worker has can be returned
            assert self.lent[number] > 0, f"segment {number} was given back before it was returned"
        assert offset + size <= len(self._maps[number])
        return self.look(number, offset, size)

    def look(self, number: int, offset: int, size: int) -> bytes:
        """Return what lies in a known segment."""
        return self._maps[number][offset : offset + size]

    def end_free(self, send: Callable[..., None]) -> None:
        """Have the worker forget the supervisor's segments that are not lent."""
        free = [each for each in self._maps if not each & OWN and not self.lent[each]]
        for number in free:
            del self._maps[number]
        if free:
            send(14, 0, msgpack.packb(free))

    def hear(self, kind: int, body: bytes) -> None:
        """Do as a release or forget frame says."""
        message: list[Any] = msgpack.unpackb(body)
        assert message
        for each in message:
            if kind == 13:
                number, count = each
                assert 0 < count <= self.lent[number], "given back more often than lent"
                self.lent[number] -= count
            else:
                assert not self.borrowed[each], "a segment ends that the host still reads"
                del self._maps[each]
                self.forgotten.append(each)

    def give_back(self) -> bytes:
        """Return the body of a release frame for all loans."""
        pairs = [[number, count] for number, count in self.borrowed.items() if count]
        self.borrowed.clear()
        return bytes(msgpack.packb(pairs)) if pairs else b""

    @property
    def outstanding(self) -> int:
        """How many loans the worker has."""
        return sum(self.lent.values())

    def close(self) -> None:
        """End the channel."""
        self.channel.close()
        self.worker_end.close()
