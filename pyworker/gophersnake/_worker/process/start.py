"""Starts a worker process, up to the point at which it has its connection."""

from __future__ import annotations

import io
import sys
from typing import NoReturn

from gophersnake._worker.process import ending, exit_report, handlers, handshake


def run() -> NoReturn:
    """Serve one node until the supervisor ends the worker, and exit.

    This imports only what every Python has, so that a missing msgpack is reported well.
    """
    exit_report.install(handshake.AUTOPSY)
    ending.release_in_children(handshake.LIFELINE, handshake.AUTOPSY)
    handlers.install()
    announced = handshake.announce()  # the supervisor connects while this imports the rest
    try:
        from gophersnake._worker.process.worker import Worker  # needs msgpack
    except ImportError as error:
        sys.exit(f"gophersnake: {error}; install it for {sys.executable}: pip install msgpack")
    make_streams_logs()
    worker = Worker(announced.connection())
    code = worker.run()
    end_process = worker.end_process
    del worker  # and with it, the node
    end_process(code)


def make_streams_logs() -> None:
    """Make standard output and error line-buffered, and able to write any text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
