"""Attacks on memory: that of neighbors, and that of the host."""

from __future__ import annotations

import mmap
import os
import threading
from typing import Any

import numpy as np
from gophersnake._worker.memory import segments
from gophersnake._worker.memory.segments import Segment
from inside import connection, refused

MAGIC = b"\x93gophersnake secret\x93"
"""The beginning of each block of a neighbor's data, by which foreign memory is searched."""

BLOCK = 128
"""The size of a block: the magic, the name of its node, and bytes that only its sender knows."""

_kept: dict[int, int] = {}
"""The descriptors of the segments that were lent to this worker, by the segments' numbers."""

_receive = segments.receive


def pattern(secret: bytes, name: str, call: int, size: int) -> Any:
    """Return the data of a call, in blocks that name their node."""
    head = MAGIC + name.encode().ljust(8, b"\0") + call.to_bytes(8, "little") + secret
    block = np.frombuffer(head.ljust(BLOCK, b"\x55"), np.uint8)
    data = np.resize(block, size)
    data[BLOCK - 1 :: BLOCK] = np.arange(len(data[BLOCK - 1 :: BLOCK])).astype(np.uint8)
    return data


def keep_what_is_lent() -> None:
    """Keep a copy of each descriptor that the supervisor sends from now on."""

    def receive(channel: Any, timeout: float) -> Segment:
        worker_os = segments.os  # a copy of the module; see gophersnake._worker.originals
        close = worker_os.close
        copies = []

        def copy_and_close(descriptor: int) -> None:
            copies.append(os.dup(descriptor))
            close(descriptor)

        worker_os.close = copy_and_close
        try:
            segment = _receive(channel, timeout)
        finally:
            worker_os.close = close
        _kept[segment.number] = copies[0]
        return segment

    segments.receive = receive


def _views() -> list[Any]:
    """Return all shared memory that this worker can map, readable."""
    views = []
    for descriptor in _kept.values():
        size = os.fstat(descriptor).st_size
        views.append(mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ))
    shared = connection().shared
    if shared is not None:
        views += [each.memory for each in shared._borrowed.values()]
        views += [each.memory for each in shared._arena.segments.values()]
    return views


def seen(own: str) -> list[str]:
    """Return the names of other nodes whose data lies in memory that this worker can map."""
    names = set()
    for view in _views():
        at = view.find(MAGIC)
        while at >= 0:
            begin = at + len(MAGIC)
            names.add(view[begin : begin + 8].rstrip(b"\0").decode(errors="replace"))
            at = view.find(MAGIC, at + BLOCK)
    return sorted(names - {own})


# The memory of neighbors.


def reads_its_neighbors(given: Any) -> str:
    """Look for data that was sent to other nodes."""
    found = seen("attacker")
    if found:
        raise AssertionError(f"it reads data of {found}")
    return "it finds no data but its own"


def writes_to_its_neighbors(given: Any) -> str:
    """Change memory that it was lent, in every way that a descriptor allows."""

    def map_for_writing() -> None:
        descriptor = next(iter(_kept.values()))
        size = os.fstat(descriptor).st_size
        view = mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        view[:16] = b"\0" * 16

    def write() -> None:
        os.pwrite(next(iter(_kept.values())), b"\0" * 16, 0)

    def punch_a_hole() -> None:
        _fallocate(next(iter(_kept.values())), 3, 0, 4096)  # punch a hole, keep the size

    def shrink() -> None:
        os.ftruncate(next(iter(_kept.values())), 0)

    return refused(map_for_writing, write, punch_a_hole, shrink)


def scribbles(given: Any) -> str:
    """Overwrite all memory that it was lent, as long as the worker lives."""
    views = []
    for descriptor in _kept.values():
        size = os.fstat(descriptor).st_size
        try:
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            views.append(mmap.mmap(descriptor, size, mmap.MAP_SHARED, protection))
        except PermissionError:
            pass

    def write() -> None:
        while views:
            for view in views:
                view[:] = b"\xee" * len(view)

    threading.Thread(target=write, daemon=True).start()
    return "scribbling"


def changes_its_result(given: Any) -> Any:
    """Return an array, and go on writing to it."""
    import gophersnake

    out = gophersnake.empty((1 << 18,), "uint8")
    out[:] = 1

    def write() -> None:
        while True:
            out[:] = 2

    threading.Thread(target=write, daemon=True).start()
    return out


# The memory of the host.


def fills_a_file_in_memory(given: Any) -> None:
    """Take 2 GiB of memory that no mapping shows."""
    descriptor = os.memfd_create("hostile")
    block = bytes(16 << 20)
    for _ in range(128):
        os.write(descriptor, block)


def keeps_its_inputs(given: Any) -> str:
    """Never release what it is lent, from now on."""
    shared = connection().shared
    if shared is not None:
        shared._release_locked = lambda segment: None  # type: ignore[method-assign]
    return "it keeps all inputs"


def _fallocate(descriptor: int, mode: int, offset: int, size: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    if libc.fallocate(descriptor, mode, offset, size):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
