"""Nodes that take threads or memory without end, each in a way of its own."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from gophersnake import node

MEGA = 1 << 20
MOST = 3_000
"""Threads after which a node waits, so that a test that fails leaves the machine usable."""

libc = ctypes.CDLL(None, use_errno=True)
kept: list[Any] = []


def start_threads(most: int) -> int:
    """Start threads that only wait, as fast as possible; return how many there are."""
    attributes = ctypes.create_string_buffer(64)
    libc.pthread_attr_init(attributes)
    libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(16 << 10))
    pause, thread = ctypes.cast(libc.pause, ctypes.c_void_p), ctypes.c_ulong()
    for count in range(most):
        if libc.pthread_create(ctypes.byref(thread), attributes, pause, None):
            return count
    return most


@node
def threads(how: dict[str, Any]) -> int:
    """Start threads and wait, or return how many were started."""
    count = start_threads(how.get("count", MOST))
    if "count" not in how:
        time.sleep(600)
    return count


@node
def threads_later(gate: str | None) -> str:
    """Return, and start threads without end once a file exists."""

    def run() -> None:
        while not os.path.exists(gate or ""):
            time.sleep(0.01)
        start_threads(MOST)

    if gate:
        threading.Thread(target=run, daemon=True).start()
    return "returned"


@node
def processes(file: str) -> None:
    """Start processes that each have threads, in sessions of their own; list them in a file."""
    for _ in range(20):
        if not os.fork():
            with open(file, "a") as children:
                children.write(f"{os.getpid()}\n")
            os.setsid()
            start_threads(20)
            time.sleep(60)
            os._exit(0)
    time.sleep(600)


def fill(descriptor: int, megabytes: int) -> None:
    """Write to a file without mapping it."""
    block = b"x" * MEGA
    for _ in range(megabytes):
        os.write(descriptor, block)


def in_memfds(megabytes: int) -> None:
    for _ in range(0, megabytes, 64):
        kept.append(os.memfd_create("data"))
        fill(kept[-1], 64)


def in_a_mapping_whose_file_is_closed(megabytes: int) -> None:
    """Map one page of each file, which nothing touches, and close the file."""
    libc.mmap.restype, libc.mmap.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long],
    )
    for _ in range(0, megabytes, 64):
        descriptor = os.memfd_create("data")
        fill(descriptor, 64)
        kept.append(libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0))
        os.close(descriptor)


def in_shared_pages_that_are_dropped(megabytes: int) -> None:
    """Fill anonymous shared memory, and take it out of the page tables."""
    for _ in range(0, megabytes, 64):
        memory = mmap.mmap(-1, 64 * MEGA)
        memory.write(b"x" * (64 * MEGA))
        memory.madvise(mmap.MADV_DONTNEED)
        kept.append(memory)


def in_a_sockets_queue(megabytes: int) -> None:
    """Send files to itself, and close them."""
    kept.append(socket.socketpair())
    for _ in range(0, megabytes, 64):
        descriptor = os.memfd_create("data")
        fill(descriptor, 64)
        socket.send_fds(kept[0][0], [b"x"], [descriptor])
        os.close(descriptor)


def without_its_first_thread(megabytes: int) -> None:
    """Fill private memory in a thread, after the first thread has ended."""

    def run() -> None:
        for _ in range(megabytes):
            kept.append(b"x" * MEGA)
            time.sleep(0.001)
        time.sleep(600)

    threading.Thread(target=run).start()
    libc.syscall(ctypes.c_long(60), 0)  # exit, of this thread only


WAYS: dict[str, Callable[[int], None]] = {
    "memfds": in_memfds,
    "a mapping whose file is closed": in_a_mapping_whose_file_is_closed,
    "shared pages that are dropped": in_shared_pages_that_are_dropped,
    "a socket's queue": in_a_sockets_queue,
    "no first thread": without_its_first_thread,
}


@node
def memory(way: str) -> str:
    """Take 2 GiB in a way, and wait."""
    WAYS[way](2048)
    time.sleep(600)
    return "kept"


@node
def work(megabytes: int) -> float:
    """What a node within its limits does: NumPy, 64 threads, files in memory."""
    import numpy

    with tempfile.TemporaryFile() as file:
        file.write(b"x" * MEGA)
    if not kept:
        kept.append(start_threads(64))
    with open(os.memfd_create("data"), "r+b") as file:
        file.truncate(megabytes * MEGA)
        with mmap.mmap(file.fileno(), 0) as memory:
            for start in range(0, len(memory), MEGA):
                memory[start : start + MEGA] = b"x" * MEGA
            time.sleep(0.5)
    return float(numpy.ones((300, 300)).dot(numpy.ones((300, 300))).sum())


@node
def ignore(value: Any) -> int:
    """Keep an array for a while, without reading it."""
    time.sleep(1)
    return len(value)


@node
def hide(_: None) -> list[str]:
    """Try to hide from the supervisor, and say what was refused."""
    refused = []
    for name, number, *arguments in (
        ("dumpable", 157, 4, 0),
        ("close_range", 436, 1000, 1001, 2),
        ("a thread with other files", 56, 0x50F00 & ~0x400, 0),
        ("vmsplice", 278, 0, 0, 0, 0),
    ):
        if libc.syscall(ctypes.c_long(number), *[ctypes.c_long(each) for each in arguments]) < 0:
            refused.append(f"{name}: {os.strerror(ctypes.get_errno())}")
    return refused
