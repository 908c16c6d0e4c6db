"""A node that hangs in a given way, in a call or while it is set up."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

from gophersnake import node


def sleep() -> None:
    time.sleep(3600)


def spin() -> None:
    while True:
        pass


def wait_for_a_lock() -> None:
    lock = threading.Lock()
    with lock:
        lock.acquire()


def sleep_in_c() -> None:
    ctypes.CDLL(None).sleep(3600)  # without the GIL


def sleep_in_c_with_the_gil() -> None:
    ctypes.PyDLL(None).sleep(3600)


def backtrack() -> None:
    re.match("(a|aa)+$", "a" * 200 + "b")


def hold_the_gil_in_a_thread() -> None:
    thread = threading.Thread(target=sleep_in_c_with_the_gil)
    thread.start()
    thread.join()


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def close_all_and_sleep() -> None:
    os.closerange(6, 256)
    sleep()


def wait_for_a_fork_with_the_gil() -> None:
    """Wait in the kernel, so that the thread neither sleeps nor runs, and only SIGKILL helps.

    The child shares this process's memory, and this process goes on when the child ends.
    """
    libc = ctypes.PyDLL(None)
    if libc.vfork() == 0:
        libc.pause()


def run_a_shell_with_the_gil(file: str) -> None:
    """Let a shell report the begin, while the GIL is held."""
    ctypes.PyDLL(None).system(f"printf begun >'{file}'; exec sleep 3600".encode())


WAYS = {f.__name__: f for f in list(globals().values()) if callable(f)}


def go(way: str, file: str = os.devnull) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # no cancellation comes before
    if way == run_a_shell_with_the_gil.__name__:
        run_a_shell_with_the_gil(file)
    Path(file).write_text("begun")
    WAYS[way]()


@node
def hang(how: dict[str, Any]) -> None:
    """Report the begin, then hang in a call."""
    go(how["way"], how.get("file", os.devnull))


@node(concurrency=4)
async def hang_later(how: dict[str, Any]) -> None:
    """Hang on the event loop."""
    go(how["way"])


@node
class HangsInSetup:
    """Hang while it is set up."""

    def __init__(self, way: str) -> None:
        self.way = way

    def setup(self) -> None:
        go(self.way)

    def process(self, value: Any) -> Any:
        return value


if "HANGS" in os.environ:
    go(os.environ["HANGS"])
