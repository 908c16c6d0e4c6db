"""Sees to it that an interpreter that ends without a word leaves one.

The supervisor opens the autopsy file for the worker and reads it when the process
is gone. ``faulthandler`` writes the Python stacks into it as a fatal signal comes,
even while the GIL is held; ``os._exit`` is made to do the same.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from types import FrameType
from typing import NoReturn

_exit = os._exit


def record(descriptor: int) -> None:
    """Have last words written to a descriptor."""
    os.set_inheritable(descriptor, False)
    faulthandler.enable(descriptor, all_threads=True)
    worker = os.getpid()

    def leave(status: int) -> NoReturn:
        if os.getpid() == worker:  # a forked child leaves this way as a matter of course
            say(descriptor, f"os._exit({status})\n\n{_stack(sys._getframe(1))}")
        _exit(status)

    os._exit = leave
    os.register_at_fork(after_in_child=faulthandler.disable)


def say(descriptor: int, words: str) -> None:
    """Write last words that are the worker's own."""
    try:
        os.write(descriptor, f"gophersnake: {words}".encode(errors="backslashreplace"))
    except OSError:
        pass  # the node has closed what it did not open


def _stack(frame: FrameType | None) -> str:
    """Return a stack in faulthandler's form."""
    lines = ["Stack (most recent call first):"]
    while frame is not None and len(lines) <= 100:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}')
        frame = frame.f_back
    return "\n".join(lines) + "\n"


def leave_at_once(status: int) -> NoReturn:
    """End the process without running anything more, and without a last word."""
    flush()
    _exit(status)


def flush() -> None:
    """Write what is on its way to the standard streams, which a node may have closed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
