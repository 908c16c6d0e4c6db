"""The reaper of a forked worker, which is honest, or does what a seed makes of it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker import Worker

CHANNEL, LIFELINE = 0, 3
F_SETSIG = 10
PR_SET_CHILD_SUBREAPER = 36


def fork_worker(hostile: Worker) -> None:
    """Fork, and return in the worker; the calling process becomes its reaper, and exits."""
    child = os.fork()
    if child:
        try:
            run(hostile, child)
        finally:
            os._exit(1)
    hostile.at("template worker")
    os.setpgid(0, 0)
    say(hostile, b"worker")
    if hostile.is_due("channel kept"):
        os.dup(CHANNEL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, CHANNEL)
    os.close(null)
    fcntl.fcntl(LIFELINE, fcntl.F_SETOWN, -os.getpid())
    fcntl.fcntl(LIFELINE, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(LIFELINE, fcntl.F_SETFL, fcntl.fcntl(LIFELINE, fcntl.F_GETFL) | os.O_ASYNC)


def run(hostile: Worker, worker: int) -> None:
    """Wait for the end of the worker, or of the channel, and exit when nothing is left."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    hostile.at("template reaper")
    if not hostile.is_due("pipes kept"):
        os.closerange(CHANNEL + 1, 64)
    say(hostile, b"reaper")
    pidfd = os.pidfd_open(worker)
    watched = [CHANNEL, pidfd]
    adopted = False
    while pidfd in watched or not adopted:
        ready, _, _ = select.select(watched, [], [])
        if pidfd in ready:
            watched.remove(pidfd)
        if CHANNEL in ready:
            order = os.read(CHANNEL, 64)
            hostile.at("template order")
            if not order:  # the supervisor has ended, or wants no such worker
                watched.remove(CHANNEL)
                os.kill(worker, signal.SIGKILL)
            elif order == b"orphans":
                kill_children(worker)
            adopted = adopted or order in (b"", b"adopted")
    hostile.at("template ended")
    _, status, usage = os.wait4(worker, 0)
    report = f"ended {status} {usage.ru_utime} {usage.ru_stime} {usage.ru_maxrss}"
    say(hostile, report.encode())
    hostile.at("template reported")
    while True:
        kill_children(0)
        try:
            os.wait()
        except ChildProcessError:
            os._exit(0)


def kill_children(but: int) -> None:
    """Kill the children of this process but one."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        children = [int(each) for each in file.read().split()]
    for each in children:
        if each != but:
            os.kill(each, signal.SIGKILL)


def say(hostile: Worker, message: bytes) -> None:
    """Send a message to the supervisor, or another one, or more."""
    chance = hostile.chance
    if hostile.is_due("another message"):
        message = chance.choice(
            [
                b"",
                b"reaper",
                b"worker",
                b"adopted",
                message * 40,
                b"ended 0 0 0 0",
                b"ended 9 nan inf -1",
                b"ended 4294967295 1e300 -1e300 9223372036854775807",
                b"ended 99999999999999999999 0 0 0",
                chance.randbytes(200),
            ]
        )
    times = chance.choice([0, 2, 200]) if hostile.is_due("another count") else 1
    try:
        for _ in range(times):
            if hostile.is_due("descriptors"):
                with socket.socket(fileno=os.dup(CHANNEL)) as channel:
                    socket.send_fds(channel, [message], [CHANNEL] * chance.choice([1, 100]))
            else:
                os.write(CHANNEL, message)
    except OSError:
        pass  # the supervisor has ended
