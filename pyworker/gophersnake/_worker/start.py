"""The start of a worker process, before it is certain that it can serve."""

from __future__ import annotations

import io
import sys
from typing import NoReturn

from gophersnake._worker import handshake, lastwords


def run() -> NoReturn:
    """Serve one node until the supervisor says that it is enough."""
    lastwords.record(handshake.AUTOPSY)
    try:
        from gophersnake._worker.serve import Worker  # it needs msgpack
    except ImportError as error:
        sys.exit(f"gophersnake: {error}; install it for {sys.executable}: pip install msgpack")
    connection = handshake.connect()
    write_line_by_line()
    lastwords.leave_at_once(Worker(connection).live())


def write_line_by_line() -> None:
    """Make the standard streams logs."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
