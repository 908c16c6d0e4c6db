"""Nodes that try what an isolated node must not do."""

import asyncio
import ctypes
import faulthandler
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from gophersnake import node


@node
def read(path: str) -> str:
    return Path(path).read_text()


@node
def write(path: str) -> str:
    Path(path).write_text("written")
    return Path(path).read_text()


@node
def connect(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port)):
        return "connected"


@node
def sockets(_: None) -> list[str]:
    """Try each kind of socket, and say which of them it was given."""
    given = []
    families = [
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_UNIX,
        socket.AF_NETLINK,
        socket.AF_PACKET,
    ]
    for family in families:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                socket.socket(family, kind).close()
                given.append(f"{family.name} {kind.name}")
            except OSError:
                pass
    return given


@node
def connect_unix(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    return "connected"


@node
def resolve(name: str) -> str:
    return str(socket.getaddrinfo(name, 80))


@node
def fork(times: int) -> int:
    for _ in range(times):
        if os.fork() == 0:
            signal.pause()
    return times


@node
def run(program: str) -> str:
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout


@node
def system(command: str) -> int:
    return os.system(command)


@node
def allocate(size: int) -> int:
    return len(bytearray(size))


@node
def kill(pid: int) -> str:
    os.kill(pid, 0)
    return "signalled"


@node
def limit(pid: int) -> list[str]:
    """Try to set what a process has, by its number, and say what was refused."""
    refused = []
    for name, attempt in {
        "limits": lambda: resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0)),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
        "priorities": lambda: os.setpriority(os.PRIO_USER, pid, 19),
        "affinity": lambda: os.sched_setaffinity(pid, os.sched_getaffinity(0)),
        "scheduler": lambda: os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0)),
    }.items():
        try:
            attempt()
        except PermissionError:
            refused.append(name)
    return refused


@node
def mode(path: str) -> str:
    os.chmod(path, 0o777)
    return "changed"


@node
def call(number: int) -> str:
    """Make a system call that has no Python function, and say how it ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), 0, 0, 0, 0, 0, 0)
    return "done" if result >= 0 else os.strerror(ctypes.get_errno())


@node
def environment(names: list[str]) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}


@node
def variable(name: str) -> str:
    return os.environ[name]


@node
def process(_: None) -> dict[str, object]:
    """What a legitimate node does with its process."""
    threads = [threading.Thread(target=len, args=("",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hits: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, _: hits.append(number))
    os.kill(os.getpid(), signal.SIGUSR2)
    signal.raise_signal(signal.SIGUSR2)
    ends = socket.socketpair()
    ends[0].send(b"x")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a").write_text("a")
        os.rename(Path(folder, "a"), Path(folder, "b"))
        os.symlink("b", Path(folder, "c"))
        with Path(folder, "b").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[0:1] = b"z"
        text = Path(folder, "c").read_text()
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file)
    return {
        "text": text,
        "received": ends[1].recv(1).decode(),
        "signals": len(hits),
        "cpus": len(os.sched_getaffinity(0)),
        "slept": asyncio.run(asyncio.sleep(0, "slept")),
        "temp": tempfile.gettempdir(),
        "python": sys.version_info[:2],
    }


@node
def affinity(_: None) -> int:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    return len(os.sched_getaffinity(0))


@node
def leave(path: str) -> str:
    """Leave something in the temporary folder, and die."""
    Path(tempfile.gettempdir(), path).mkdir()
    Path(tempfile.gettempdir(), path, "file").write_text("left")
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@node
def temp(_: None) -> str:
    return tempfile.gettempdir()


@node
def count(n: int) -> Iterator[int]:
    yield from range(n)


@node
def crash(_: None) -> None:
    ctypes.string_at(0)


@node
def wait(_: None) -> None:
    threading.Event().wait()


@node
def status(_: None) -> dict[str, str]:
    """What the kernel says of this process, where it may read that."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
