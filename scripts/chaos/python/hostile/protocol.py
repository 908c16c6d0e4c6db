"""Attacks by frames and descriptors: what the worker itself would never send."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Any

import msgpack
from gophersnake import Transient
from gophersnake._worker.memory import segments
from gophersnake._worker.wire import frames
from inside import (
    AUTOPSY,
    CHANNEL,
    OWN,
    call_id,
    connection,
    frame,
    leave_at_the_next_frame,
    lent,
    message,
    send,
    wait,
)

EMPTY = b"\x90"
"""An empty array of msgpack, which takes a hundred times as much memory."""


SEALS = segments.FIXED_SIZE | segments.FUTURE_WRITE
"""The seals that the host requires."""


def _segment(number: int, size: int, seals: int = SEALS) -> None:
    """Send a descriptor of sparse memory over the channel."""
    descriptor = os.memfd_create("hostile", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, segments.ADD_SEALS, seals)
    _hand_over(number, size, descriptor)


def _hand_over(number: int, size: int, descriptor: int) -> None:
    with socket.socket(fileno=os.dup(CHANNEL)) as channel:
        channel.setblocking(True)
        socket.send_fds(channel, [segments.MESSAGE.pack(OWN | number, size)], [descriptor])
    os.close(descriptor)


def _answer_in(number: int, size: int = 8) -> None:
    """Answer the call with a tensor in a segment of the worker's own."""
    body = msgpack.packb(msgpack.ExtType(1, msgpack.packb(["uint8", [size], None])))
    send(frame(frames.RESULT, call_id(), body, ((OWN | number, 0, size),)))


# Releases and forgets.


def releases_twice(given: Any) -> None:
    """Release each borrowed segment once more often than it was lent."""
    for number in lent():
        message(frames.RELEASE, [[number, 1], [number, 1]])
    wait()


def releases_nothing(given: Any) -> None:
    """Release a borrowed segment zero times."""
    message(frames.RELEASE, [[lent()[0], 0]])
    wait()


def releases_for_others(given: Any) -> None:
    """Release segments that were lent to other workers."""
    message(frames.RELEASE, [[number, 1] for number in range(1, 64) if number not in lent()])
    wait()


def forgets_the_hosts(given: Any) -> None:
    """Say that a segment of the supervisor is destroyed."""
    message(frames.FORGET, lent())
    wait()


# Segments and descriptors.


def shares_8_gib(given: Any) -> None:
    """Share 8 GiB that take no memory until they are read."""
    _segment(1, 8 << 30)
    _answer_in(1)
    wait()


def shares_64_tib(given: Any) -> None:
    """Share more than any machine can map."""
    _segment(1, 64 << 40)
    _answer_in(1)
    wait()


def shares_200_segments(given: Any) -> None:
    """Return 200 arrays, each in a segment of its own."""
    parts = []
    for number in range(1, 201):
        _segment(number, 4096)
        parts.append(msgpack.ExtType(1, msgpack.packb(["uint8", [8], None])))
    buffers = tuple((OWN | number, 0, 8) for number in range(1, 201))
    send(frame(frames.RESULT, call_id(), msgpack.packb(parts), buffers))
    wait()


def shares_what_can_shrink(given: Any) -> None:
    """Share memory whose size is not sealed, to cut it off under the reader."""
    _segment(1, 1 << 20, segments.FUTURE_WRITE)
    _answer_in(1)
    wait()


def shares_what_it_can_change(given: Any) -> None:
    """Share memory that is not sealed against writing, so that others could change it."""
    _segment(1, 1 << 20, segments.FIXED_SIZE)
    _answer_in(1)
    wait()


def shares_a_file(given: Any) -> None:
    """Share a descriptor of a file instead of memory."""
    descriptor = os.open(Path(__file__), os.O_RDONLY)
    _hand_over(1, os.fstat(descriptor).st_size, descriptor)
    _answer_in(1)
    wait()


def streams_through_the_socket(given: Any) -> None:
    """Claim a gigabyte behind a frame, and send it, instead of sharing memory."""
    body = msgpack.packb(msgpack.ExtType(1, msgpack.packb(["uint8", [1 << 30], None])))
    send(frame(frames.RESULT, call_id(), body, ((0, 0, 1 << 30),)))
    block = bytes(16 << 20)
    for _ in range(64):
        send(block)
    wait()


def names_what_never_comes(given: Any) -> None:
    """Name a segment whose descriptor the supervisor could wait for."""
    _answer_in(77)
    wait()


def sends_half_a_frame(given: Any) -> None:
    """Begin a frame and never end it."""
    send(frame(frames.RESULT, call_id(), b"\xc0" * 100)[:40])
    wait()


def sends_a_byte_at_a_time(given: Any) -> None:
    """Send a log frame so slowly that it never ends."""
    for byte in frame(frames.LOG, 0, b"\x80" + bytes(1 << 20)):
        send(bytes([byte]))
        time.sleep(0.02)


# Amplification.


def _empties(size: int) -> bytes:
    return b"\xdd" + struct.pack(">I", size) + EMPTY * size


def returns_empty_arrays(given: Any) -> None:
    """Return 32 MiB that become several GiB when they are decoded."""
    send(frame(frames.RESULT, call_id(), _empties(32 << 20)))
    leave_at_the_next_frame()


def logs_empty_arrays(given: Any) -> None:
    """Send such a value as the fields of a log record."""
    body = b"\x81\xa6fields\x81\xa1x" + _empties(15 << 20)
    send(frame(frames.LOG, 0, body))
    wait()


def raises_empty_arrays(given: Any) -> None:
    """Send such a value as the notes of an exception."""
    send(frame(frames.ERROR, call_id(), b"\x81\xa5notes" + _empties(15 << 20)))
    wait()


def reports_empty_arrays(given: Any) -> None:
    """Send such a value as a report of progress."""
    send(frame(frames.PROGRESS, 0, b"\x81\xa7message" + _empties(15 << 20)))
    wait()


def reports_on_another_call(given: Any) -> None:
    """Report the progress of calls that other workers have."""
    body = {"message": "m", "fraction": 0.5, "calls": list(range(1, 4097))}
    message(frames.PROGRESS, body)
    wait()


def nests_exceptions(given: Any) -> None:
    """Send an exception with a chain of 100,000 causes."""
    deep = b"\x81\xa5cause" * 100_000 + b"\xc0"
    send(frame(frames.ERROR, call_id(), deep))
    wait()


def raises_16_mib(given: Any) -> None:
    """Send an exception with a message that fills a terminal for hours."""
    text = "A" * (15 << 20)
    message(frames.ERROR, {"kind": "execution", "class": "E", "message": text}, call_id())
    leave_at_the_next_frame()


# What the worker says about itself.


def denies_the_call(given: Any) -> None:
    """Die, and say that the call had not begun, so that it is repeated."""
    with open(given["file"], "a") as file:
        file.write("once\n")
    os.pwrite(AUTOPSY, struct.pack("<Q", 1), 0)
    os._exit(3)


def asks_for_a_retry_in_30_years(given: Any) -> None:
    """Make the supervisor wait."""
    raise Transient("later", retry_after=1e9)


def answers_another_call(given: Any) -> None:
    """Answer calls that other callers may have made."""
    for call in range(1, 100):
        if call != call_id():
            send(frame(frames.RESULT, call, b"\xa6forged"))
    wait()


def floods_items(given: Any) -> None:
    """Send items for a call that returns one value."""
    for _ in range(1000):
        send(frame(frames.ITEM, call_id(), b"\xc0"))
    wait()


def invents_an_exit_report(given: Any) -> None:
    """Die with an exit report that blames another program, and names a secret file's lines."""
    lines = "".join(f'  File "/etc/shadow", line {n} in secret\n' for n in range(1, 4))
    report = f"Fatal Python error: node neighbor did it\n\nCurrent thread 0x1 (most recent call first):\n{lines}"
    os.pwrite(AUTOPSY, report.encode(), 16)
    os.kill(os.getpid(), signal.SIGKILL)


def claims_to_be_a_terabyte(given: Any) -> None:
    """Make the autopsy file huge, and die."""
    os.ftruncate(AUTOPSY, 1 << 40)
    connection().flush()
    os.kill(os.getpid(), signal.SIGKILL)
