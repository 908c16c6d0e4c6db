"""Forks many workers from one process that has imported all modules.

A worker of its own takes a tenth of a second to start; one of these takes a few
milliseconds, so that hypothesis can have hundreds of them.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

PATIENCE = 60.0
"""Seconds after which a worker that does not end fails the test."""

PROGRAM = """
import fcntl, os, socket, struct, sys
from gophersnake._worker.serving import batches
from gophersnake._worker.serving import eventloop
from gophersnake._worker.values import faults
from gophersnake._worker.types import hints
from gophersnake._worker.serving import sessions
from gophersnake._worker.process.worker import Worker

try:
    import numpy
except ImportError:
    pass
control = socket.socket(fileno=0)
while True:
    message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    if not message:
        break
    child = os.fork()
    if not child:
        control.close()
        os.open(os.devnull, os.O_RDONLY)
        code = 99
        # Away from 3 to 5, which a worker that was spawned has for its pipe and its files.
        link = fcntl.fcntl(descriptors[0], fcntl.F_DUPFD_CLOEXEC, 10)
        os.close(descriptors[0])
        try:
            code = Worker(socket.socket(fileno=link)).run()
        finally:
            os._exit(code)
    os.close(descriptors[0])
    control.sendall(struct.pack("<i", child))
    status = os.waitpid(child, 0)[1]
    control.sendall(struct.pack("<i", os.waitstatus_to_exitcode(status)))
"""


class Forker:
    """The process that forks workers, one at a time."""

    def __init__(self) -> None:
        """Start it."""
        self.control, theirs = socket.socketpair()
        self.control.settimeout(PATIENCE)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ
            | {"PYTHONPATH": str(Path(__file__).parent.parent), "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()

    def worker(self) -> socket.socket:
        """Fork a worker, and return this side of its connection."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.control, [b"w"], [theirs.fileno()])
        self.pid = self._number()
        ours.settimeout(PATIENCE)
        return ours

    def exit_code(self) -> int:
        """Wait for the end of the worker that was forked last; a signal's is negative.

        Raises:
            TimeoutError: it does not end by itself; it is killed then.
        """
        if not select.select([self.control], [], [], PATIENCE)[0]:
            os.kill(self.pid, 9)
            self._number()
            raise TimeoutError("the worker does not end")
        return self._number()

    def _number(self) -> int:
        number: int = struct.unpack("<i", self.control.recv(4, socket.MSG_WAITALL))[0]
        return number

    def close(self) -> None:
        """End the process."""
        self.control.close()
        self.process.wait()
