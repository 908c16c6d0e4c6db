"""A template that is honest, or does what a seed makes of it."""

from __future__ import annotations

import fcntl
import os
import socket
from typing import TYPE_CHECKING

import msgpack
import reaper

if TYPE_CHECKING:
    from worker import Worker

INHERITED = (0, 1, 2, 3, 4, 5)
"""The descriptors of a reaper and its worker, in the order in which they arrive."""


class Template:
    """The process on the other end of the fork server's socket."""

    def __init__(self, hostile: Worker) -> None:
        """Take the process that the workers are to be forked from."""
        self.hostile = hostile
        self.control = socket.socket(fileno=os.dup(5))
        self.reapers: list[int] = []

    def run(self) -> None:
        """Answer requests. Returns in each worker."""
        while True:
            data, descriptors, _, _ = socket.recv_fds(self.control, 1 << 16, 8)
            if not data:
                os._exit(0)
            request = msgpack.unpackb(data)
            kind = next(iter(request))
            self.hostile.at(f"template {kind}")
            if kind == "setup":
                self.answer(ready=True)
            elif kind == "fork":
                if self.fork(request["fork"], descriptors):
                    return
            elif kind == "reap":
                self.reap(request["reap"])
            for each in descriptors:
                os.close(each)

    def fork(self, environment: list[str], descriptors: list[int]) -> bool:
        """Fork a reaper, which forks a worker; return whether this process is the worker."""
        pid = os.fork()
        if pid:
            self.reapers.append(pid)
            self.answer(forked=pid)
            return False
        os.setpgid(0, 0)
        moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 20) for each in descriptors]
        for each in (*descriptors, self.control.detach()):
            os.close(each)
        for source, number in zip(moved, INHERITED, strict=False):
            os.dup2(source, number, inheritable=False)
            os.close(source)
        self.hostile.become(f"{self.hostile.seed}:{len(self.reapers)}")
        reaper.fork_worker(self.hostile)
        self.hostile.forked = True
        os.environ.update(each.split("=", 1) for each in environment)
        return True

    def reap(self, pid: int) -> None:
        """Reap a reaper that has ended."""
        ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended == 0:
            self.answer(error=f"the reaper {pid} has not ended")
        else:
            self.answer(reaped=True)

    def answer(self, **reply: object) -> None:
        """Send a reply, or something else."""
        chance = self.hostile.chance
        data = msgpack.packb(reply)
        if self.hostile.is_due("template"):
            pids = [0, -1, 1, os.getpid(), os.getppid(), 1 << 22, 1 << 40, *self.reapers[-3:]]
            wrong = [
                b"",
                b"\xc1",
                data * 2,
                msgpack.packb({}),
                msgpack.packb({"forked": chance.choice(pids)}),
                msgpack.packb({"reaped": chance.choice([False, 1, {"status": 1 << 31}])}),
                msgpack.packb({"error": "\x1b[2J\n" * 1000}),
                msgpack.packb({"unsafe": "it has threads"}),
                msgpack.packb({"failed": "x" * 60000}),
                b"\xdd\x7f\xff\xff\xff",
                b"\x91" * 60000,
                chance.randbytes(65000),
            ]
            data = chance.choice(wrong)
        if self.hostile.is_due("template descriptors"):
            socket.send_fds(self.control, [data], [0, 1, 2])
            return
        self.control.send(data)
        if self.hostile.is_due("template again"):
            self.control.send(data)
