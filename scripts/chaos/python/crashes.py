"""Faults that end the worker, or keep it from answering in time."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any


def killed(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Die of SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def stopped(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Stop the process, and never continue it."""
    os.kill(os.getpid(), signal.SIGSTOP)
    return answer


def segfault(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Read from address 0."""
    ctypes.string_at(0)


def aborts(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Abort, as a failed assertion in C does."""
    os.abort()


def leaves(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Exit at once, with code 0."""
    os._exit(0)


def exits(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Exit as a script would, by SystemExit."""
    sys.exit(f"call {call['n']} is enough")


def stack_overflow(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Overflow the stack in C."""
    # The C library's parser recurses for each bracket, which Python's own limit does not see.
    depth = 1 << 20
    pattern = b"(" * depth + b")" * depth
    ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(1024), pattern, 1)


def eats_memory(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Allocate memory until none is left."""
    blocks = []
    while True:
        blocks.append(bytearray(16 << 20))


# Hangs.


def hangs(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Sleep for ever."""
    while True:
        time.sleep(0.01)


def hangs_in_c(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Block in C while holding the GIL."""
    threads = ctypes.PyDLL(None)  # PyDLL keeps the GIL
    mutex = ctypes.create_string_buffer(64)
    while True:  # a signal does not end the wait for a mutex
        threads.pthread_mutex_lock(mutex)


def stubborn(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Ignore the cancellation, and sleep for ever."""
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:  # the cancellation above all others
            pass


def late(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Answer after the caller has canceled."""
    deadline = time.monotonic() + 0.1
    while time.monotonic() < deadline:
        try:
            time.sleep(0.01)
        except BaseException:  # the cancellation
            break
    return answer
