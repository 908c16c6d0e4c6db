"""What a node can do to the connection that its worker answers on."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

from gophersnake._worker.wire import frames


def connection() -> socket.socket:
    """Find the socket: the one stream among what is open."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        try:
            sock = socket.socket(fileno=os.dup(descriptor))
        except OSError:
            continue
        if sock.family == socket.AF_UNIX and sock.type == socket.SOCK_STREAM:
            return sock
        sock.close()
    raise AssertionError("there is no connection")


def send(data: bytes) -> None:
    connection().sendall(data)


def rest() -> None:
    """Live on, without a word."""
    time.sleep(3600)


def close_the_socket() -> None:
    connection().shutdown(socket.SHUT_RDWR)
    rest()


def close_all_descriptors() -> str:
    os.closerange(0, 1 << 16)
    return "fine"


def write_garbage() -> None:
    send(b"garbage" * 100)
    rest()


def close_the_socket_and_return() -> str:
    connection().shutdown(socket.SHUT_RDWR)
    return "fine"


def write_garbage_and_return() -> str:
    send(b"garbage" * 100)
    return "fine"


def cut_a_frame_short() -> None:
    send(frames.head(frames.RESULT, 1, b"\xc0", [])[:10])
    connection().shutdown(socket.SHUT_WR)
    rest()


def cut_a_frame_short_and_die() -> None:
    send(frames.head(frames.RESULT, 1, b"x" * 100, []) + b"x")
    os._exit(7)


def claim_a_body_of_4_gib() -> None:
    send(frames.HEADER.pack(frames.MAGIC, frames.VERSION, frames.RESULT, 0, 0xFFFFFFFF, 1, 0, 0))
    rest()


def claim_4_billion_buffers() -> None:
    send(frames.HEADER.pack(frames.MAGIC, frames.VERSION, frames.RESULT, 0, 0, 1, 0xFFFFFFFF, 0))
    rest()


def answer_a_call_that_nobody_made() -> None:
    send(frames.head(frames.RESULT, 1 << 60, b"\xc0", []) + b"\xc0")
    rest()


def answer_with_another_version() -> None:
    send(frames.HEADER.pack(frames.MAGIC, 99, frames.RESULT, 0, 0, 1, 0, 0))
    rest()


def answer_with_an_unknown_frame() -> None:
    send(frames.HEADER.pack(frames.MAGIC, frames.VERSION, 200, 0, 0, 1, 0, 0))
    rest()


def name_a_segment_that_is_not() -> None:
    body = b"\xc0"
    table = frames.DESCRIPTOR.pack(0x80000007, 0, 0, 4096)
    head = frames.HEADER.pack(frames.MAGIC, frames.VERSION, frames.RESULT, 0, len(body), 1, 1, 0)
    send(head + table + body)
    rest()


def say_hello_again() -> None:
    send(frames.head(frames.HELLO, 0, b"\x80", []) + b"\x80")
    rest()


def fork_and_return_twice(file: Path) -> str:
    """Both go on as if they were the worker; the test ends what is left of the child."""
    child = os.fork()
    if child:
        file.write_text(str(child))
    return "fine"


def count_too_much() -> None:
    """Overwrite the count of begun calls, and die."""
    os.pwrite(4, struct.pack("<Q", 1 << 63), 0)
    os._exit(7)


def deny_the_call() -> None:
    """Reset the count of begun calls, and die."""
    os.pwrite(4, struct.pack("<Q", 1), 0)
    os._exit(7)
