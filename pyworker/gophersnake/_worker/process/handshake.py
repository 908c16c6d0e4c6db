"""How a worker gets its connection: a socket, one line, a peer that knows the secret."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
import threading

from gophersnake._worker import PROTOCOL
from gophersnake._worker.process.callers import Callers

LIFELINE, AUTOPSY, CHANNEL = 3, 4, 5
"""The descriptors that a worker is born with, beside the standard three.

The last one is there only where the supervisor shares memory; setup says so.
"""

SECRET_SIZE = 32

QUEUE = 64
"""How many may wait to be heard, so that a few strangers do not keep the supervisor out."""


def connect() -> socket.socket:
    """Announce a socket on standard output, and return the supervisor's connection to it.

    The secret comes through the lifeline, a pipe whose write end the supervisor
    alone holds. The socket is gone when this returns.
    """
    secret = _read_secret()
    _watch_lifeline()
    folder = os.environ.pop("PLUGIN_UNIX_SOCKET_DIR", "")
    if not folder:
        sys.exit("gophersnake: the supervisor names no folder for the socket")
    for name in [name for name in os.environ if name.startswith("PLUGIN_")]:
        del os.environ[name]  # a node may be the host of plugins of its own
    path = os.path.join(folder, "worker")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(QUEUE)
        print(f"1|{PROTOCOL}|unix|{path}|msgpack", flush=True)
        connection = _accept(listener, secret)
    os.unlink(path)
    try:
        os.rmdir(folder)
    except OSError:
        pass  # the supervisor removes it, too
    return connection


def channel() -> socket.socket:
    """Return the socket on which descriptors of shared memory are handed over."""
    os.set_inheritable(CHANNEL, False)
    return socket.socket(fileno=CHANNEL)


def _read_secret() -> bytes:
    os.set_inheritable(LIFELINE, False)
    secret = b""
    while len(secret) < SECRET_SIZE:
        part = os.read(LIFELINE, SECRET_SIZE - len(secret))
        if not part:
            sys.exit("gophersnake: the supervisor is gone")
        secret += part
    return secret


def _watch_lifeline() -> None:
    """End this process and its children when the supervisor does.

    On Linux the supervisor has had the kernel do it: the end of the lifeline's
    write end is a SIGKILL to the process group, whatever Python is doing. Elsewhere
    a thread waits for it.
    """
    if fcntl.fcntl(LIFELINE, fcntl.F_GETFL) & getattr(os, "O_ASYNC", 0o20000):
        # It may have ended before it was set up so.
        if select.select([LIFELINE], [], [], 0)[0]:
            sys.exit("gophersnake: the supervisor is gone")
        return

    def wait() -> None:
        os.read(LIFELINE, 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, name="gophersnake-lifeline", daemon=True).start()


def _accept(listener: socket.socket, secret: bytes) -> socket.socket:
    """Return the supervisor's connection; whoever else connects is turned away."""
    return Callers(listener, os.geteuid(), secret).supervisor()
