"""Calls that their worker does not survive, or does not come back from."""

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
    """Be stopped, for good."""
    os.kill(os.getpid(), signal.SIGSTOP)
    return answer


def segfault(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Read where nothing is."""
    ctypes.string_at(0)


def aborts(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Die as a failed assertion in C does."""
    os.abort()


def leaves(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Leave as if all were well."""
    os._exit(0)


def exits(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Exit as a script would."""
    sys.exit(f"call {call['n']} is enough")


def stack_overflow(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Run out of stack in C."""
    # The C library's parser goes down a level for each bracket, which Python cannot see.
    depth = 1 << 20
    pattern = b"(" * depth + b")" * depth
    ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(1024), pattern, 1)


def eats_memory(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Take all memory that there is."""
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


# Hangs.


def hangs(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Wait for what never comes."""
    while True:
        time.sleep(0.01)


def hangs_in_c(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Wait in C, and let nobody else run."""
    threads = ctypes.PyDLL(None)  # PyDLL keeps the GIL
    mutex = ctypes.create_string_buffer(64)
    while True:  # no signal wakes who waits for a mutex
        threads.pthread_mutex_lock(mutex)


def stubborn(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Go on, whatever is said."""
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:  # the cancellation above all
            pass


def late(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Answer although the call has been given up."""
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        try:
            time.sleep(0.01)
        except BaseException:  # the cancellation
            break
    return answer
