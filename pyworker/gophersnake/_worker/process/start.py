"""The start of a worker process, before it is certain that it can serve."""

from __future__ import annotations

import io
import sys
from typing import NoReturn

from gophersnake._worker.process import exit_report, handshake


def run() -> NoReturn:
    """Serve one node until the supervisor says that it is enough."""
    exit_report.record(handshake.AUTOPSY)
    try:
        from gophersnake._worker.process.worker import Worker  # it needs msgpack
    except ImportError as error:
        sys.exit(f"gophersnake: {error}; install it for {sys.executable}: pip install msgpack")
    connection = handshake.connect()
    write_line_by_line()
    exit_report.leave_at_once(Worker(connection).live())


def write_line_by_line() -> None:
    """Make the standard streams logs."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
