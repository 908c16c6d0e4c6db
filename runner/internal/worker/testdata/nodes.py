"""Nodes for the tests of package worker: they behave, or misbehave in a given way."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gophersnake import node
from gophersnake.errors import Cancelled


@node
def echo(value: Any) -> Any:
    return value


@node(batch=4)
def echo_batch(values: list[Any]) -> list[Any]:
    return values


# Ways to end or to hang. A file reports that they have begun.


def hang() -> None:
    time.sleep(3600)


def hang_deep(depth: int = 300) -> None:
    if depth:
        hang_deep(depth - 1)
    time.sleep(3600)


def hang_beside_a_thread() -> None:
    threading.Thread(target=hang, daemon=True).start()
    time.sleep(3600)


def hold_the_gil() -> None:
    ctypes.PyDLL(None).sleep(3600)


def stop(file: str = os.devnull) -> None:
    # No cancellation is to interrupt it before it stops.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    Path(file).write_text("begun")
    os.kill(os.getpid(), signal.SIGSTOP)


def crash_in_a_thread() -> None:
    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()


def crash() -> None:
    ctypes.string_at(0)


def crash_beside_own_faulthandler() -> None:
    faulthandler.enable()
    crash()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    sys.exit(4)


def leave_from_c() -> None:
    print("the library gives up", file=sys.stderr, flush=True)
    ctypes.CDLL(None)._exit(5)


def out_of_memory() -> None:
    raise MemoryError


def raise_canceled() -> None:
    raise Cancelled("by myself")


def eat() -> None:
    hoard = []
    while True:
        hoard.append(b"x" * (8 << 20))


def escape(file: str) -> None:
    """Die while a process of another session holds the pipes."""
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    Path(file).write_text(str(child.pid))
    kill()


def stubborn(file: str = os.devnull) -> None:
    while True:
        try:
            Path(file).write_text("begun")
            time.sleep(3600)
        except BaseException:
            pass


def own_socket() -> socket.socket:
    """Find the worker's connection, which a node must not touch."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found = socket.socket(fileno=os.dup(int(name)))
                if found.getsockname():  # that for descriptors has no name
                    return found
        except OSError:
            pass
    raise LookupError("no connection")


def close_the_socket() -> None:
    found = own_socket()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.path.sameopenfile(int(name), found.fileno()) and int(name) != found.fileno():
                os.close(int(name))
        except OSError:
            pass
    found.close()


def shut_the_socket() -> None:
    own_socket().shutdown(socket.SHUT_RDWR)


def write_into_the_socket() -> None:
    own_socket().send(b"garbage" * 100)


def exit_with_0() -> None:
    os._exit(0)


def write_json(file: str) -> None:
    """Write lines that look like records of hclog, but are not."""
    for line in ('{"@message": 1}', '{"@level": 30, "@message": "m"}', ' {"@timestamp": null}'):
        print(line, file=sys.stderr)
    sys.stderr.flush()


WAYS = {f.__name__: f for f in list(globals().values()) if callable(f)}


@node
def misbehave(how: dict[str, Any]) -> str:
    """Misbehave in the given way."""
    file = how.get("file", os.devnull)
    way = WAYS[how["way"]]
    if way in (escape, write_json, stop, stubborn):
        way(file)
    else:
        Path(file).write_text("begun")
        way()
    return "done"


@node
class Closing:
    """Report its close in a file, and misbehave then if it is given a way."""

    def __init__(self, file: str = os.devnull, way: str = "") -> None:
        self.file = file
        self.way = way

    def process(self, value: Any) -> Any:
        return value

    def close(self) -> None:
        Path(self.file).write_text("closed")
        if self.way:
            WAYS[self.way]()


@node
class Slow:
    """Never get ready."""

    def __init__(self, file: str = os.devnull) -> None:
        self.file = file

    def setup(self) -> None:
        Path(self.file).write_text("begun")
        time.sleep(3600)

    def process(self, value: Any) -> Any:
        return value


@node
class Refusing:
    """Fail to set up."""

    def setup(self) -> None:
        raise RuntimeError("no weights")

    def process(self, value: Any) -> Any:
        return value
