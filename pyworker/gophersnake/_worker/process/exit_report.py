"""The exit report: the final message that a dying interpreter leaves for the supervisor.

The supervisor opens the autopsy file for the worker, and reads it once the process has
ended. ``faulthandler`` writes the Python stacks into it on a fatal signal, even while the
GIL is held. ``os._exit`` is replaced by a function that does the same.
"""

from __future__ import annotations

import faulthandler
import os as node_os
import sys
from types import FrameType
from typing import NoReturn

from gophersnake._worker.originals import os

_exit = os._exit

_descriptor = -1


def install(descriptor: int) -> None:
    """Make fatal signals and ``os._exit`` write a report to a descriptor."""
    os.set_inheritable(descriptor, False)
    faulthandler.enable(descriptor, all_threads=True)
    worker = os.getpid()
    global _descriptor  # noqa: PLW0603 - one worker a process
    _descriptor = descriptor

    def report_and_exit(status: int) -> NoReturn:
        if os.getpid() == worker:  # forked children often end this way
            write_end(f"os._exit({status})", sys._getframe(1))
        _exit(status)

    # It is pickled by its name, as the function that it replaces.
    report_and_exit.__module__, report_and_exit.__qualname__ = "os", "_exit"
    node_os._exit = report_and_exit
    os.register_at_fork(after_in_child=faulthandler.disable)


def write_end(call: str, frame: FrameType | None) -> None:
    """Write a report that a call in a frame of the node ends the process."""
    write(_descriptor, f"{call}\n\n{_stack(frame)}")


def write(descriptor: int, message: str) -> None:
    """Write a report with a message of the worker."""
    try:
        os.write(descriptor, f"gophersnake: {message}".encode(errors="backslashreplace"))
    except OSError:
        pass  # the node has closed the descriptor


def _stack(frame: FrameType | None) -> str:
    """Return a stack in the format of faulthandler."""
    lines = ["Stack (most recent call first):"]
    while frame is not None and len(lines) <= 100:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}')
        frame = frame.f_back
    return "\n".join(lines) + "\n"


def exit_now(status: int) -> NoReturn:
    """End the process without a report, and without running anything else."""
    flush_streams()
    _exit(status)


def flush_streams() -> None:
    """Flush the standard streams, which the node may have closed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
