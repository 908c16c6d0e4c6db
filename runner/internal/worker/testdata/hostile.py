"""A node that leaves processes behind, and does what it can so that they survive."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from typing import Any

from gophersnake import node

LIFELINE = 3


@node
def hostile(how: dict[str, Any]) -> None:
    """Do what the list ``ways`` names, create the file, and do not return."""
    ready = os.open(how["file"] + ".new", os.O_WRONLY | os.O_CREAT)
    os.write(ready, str(os.getpid()).encode())
    ways = how["ways"]
    for way in ways:
        if way not in ("close", "stop", "end", "reaper"):
            globals()[way]()
    os.rename(how["file"] + ".new", how["file"])
    if "close" in ways:
        os.closerange(3, 1 << 16)
    if "stop" in ways:
        os.kill(os.getpid(), signal.SIGSTOP)
    if "reaper" in ways:
        os.kill(os.getppid(), signal.SIGKILL)
    if "end" in ways:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        time.sleep(3600)


def nothing() -> None:
    pass


def clear() -> None:
    """Make the lifeline signal nothing."""
    fcntl.fcntl(LIFELINE, fcntl.F_SETFL, 0)
    fcntl.fcntl(LIFELINE, fcntl.F_SETOWN, 0)


def ignore() -> None:
    """Ignore all signals that can be ignored."""
    for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(each, signal.SIG_IGN)


def sessions() -> None:
    """Start children in sessions of their own."""
    for _ in range(3):
        subprocess.Popen(["sleep", "3600"], start_new_session=True)


def daemons() -> None:
    """Start processes whose parent has ended, with a child each."""
    for _ in range(3):
        if os.fork():
            os.wait()
            continue
        os.setsid()
        if os.fork() == 0:
            ignore()
            os.closerange(3, 1 << 16)
            os.fork()
            _stay()
        os._exit(0)


def stopped() -> None:
    """Start a daemon that stops itself."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            _stay()
        os._exit(0)
    os.wait()


def forks() -> None:
    """Start a daemon that forks for ever: each process ends when it has forked."""
    if os.fork():
        return
    os.setsid()
    while True:
        if os.fork():
            os._exit(0)
        time.sleep(0.001)


def _stay() -> None:
    while True:
        time.sleep(3600)


@node
def echo(value: Any) -> Any:
    """Return the input."""
    return value
