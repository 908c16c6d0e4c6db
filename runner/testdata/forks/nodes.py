"""Nodes that fork children, and report how these end.

Each child runs a piece of code, given as text. The module also runs as a plain program, so
that a test can compare: ``python nodes.py value CODE`` prints the report of that node.
"""

import asyncio
import atexit
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from gophersnake import node


def fork(code: str) -> int:
    """Fork, and run code in the child, which returns 0."""
    atexit.register(print, "atexit of the parent", flush=True)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(read)
        os.close(write)
        exec(code, {"os": os, "sys": sys, "threading": threading, "atexit": atexit, "time": time})
        return 0
    os.close(write)
    reports[child] = read
    return child


reports: dict[int, int] = {}


def report(child: int) -> dict[str, Any]:
    """Wait for a child, and return how it ended and what it has written."""
    with os.fdopen(reports.pop(child), "rb") as file:
        written = file.read().decode()
    atexit.unregister(print)
    return {"code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "written": written}


@node
def value(code: str) -> Any:
    child = fork(code)
    return report(child) if child else "returned"


@node
def threaded(code: str) -> Any:
    found: list[Any] = []

    def run() -> None:
        child = fork(code)
        if child:
            found.append(report(child))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@node
def items(code: str) -> Iterator[Any]:
    child = fork(code)
    yield report(child) if child else "returned"


@node(batch=2)
def batched(codes: list[str]) -> list[Any]:
    return [value(code) for code in codes]


@node
async def awaited(code: str) -> Any:
    await asyncio.sleep(0)
    child = fork(code)
    if child:
        return report(child)
    await asyncio.sleep(0)
    return "returned"


@node
async def yielded(code: str) -> AsyncIterator[Any]:
    child = fork(code)
    yield report(child) if child else "returned"


@node(stateful=True)
class Session:
    def process(self, code: str) -> Any:
        return value(code)


@node
class InSetup:
    """Forks while it is set up, and reports later."""

    def __init__(self, code: str) -> None:
        self.code = code

    def setup(self) -> None:
        child = fork(self.code)
        self.report = report(child) if child else None

    def process(self, _: Any) -> Any:
        return self.report


def descriptors() -> dict[str, str]:
    """Return what the descriptors of this process refer to."""
    found = {}
    for each in os.listdir("/proc/self/fd"):
        try:
            found[each] = os.readlink(f"/proc/self/fd/{each}")
        except OSError:
            pass  # it was that of listdir
    return found


@node
def inherited(_: Any) -> list[str]:
    """Return the descriptors of its own that a child has, except its pipe.

    Those that programs inherit are the host's.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        own = os.readlink(f"/proc/self/fd/{write}")
        left = [
            f"{number}: {file}"
            for number, file in descriptors().items()
            if file != own and not os.get_inheritable(int(number))
        ]
        os.write(write, json.dumps(left).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        left = json.loads(file.read())
    os.waitpid(child, 0)
    return left


SIGNALS = """
import json, signal
lines = [line.split() for line in open("/proc/self/status") if line.startswith("Sig")]
own = 7 << 31  # of the C library, once there are threads
names = "SigBlk:", "SigIgn:", "SigCgt:"
state = {line[0]: f"{int(line[1], 16) & ~own:x}" for line in lines if line[0] in names}
print(json.dumps(state), flush=True)
"""


@node
def signals(how: str) -> Any:
    """Return the signals that a child blocks, ignores and handles."""
    return json.loads(starts[how]())


def run(**options: Any) -> str:
    import subprocess

    return subprocess.run(
        [sys.executable, "-c", SIGNALS], stdout=subprocess.PIPE, text=True, check=True, **options
    ).stdout


def executed() -> str:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.execv(sys.executable, [sys.executable, "-c", SIGNALS])
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text


def spawned() -> str:
    read, write = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, write, 1)]
    program = [sys.executable, "-c", SIGNALS]
    child = os.posix_spawn(sys.executable, program, os.environ, file_actions=actions)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text


def in_thread() -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    return found[0]


def forked() -> str:
    child = fork(SIGNALS)
    if child == 0:
        os._exit(0)
    return str(report(child)["written"])


def shell() -> str:
    """Return the state of the shell's own child; awk is no Python, which ignores SIGPIPE."""
    import subprocess

    text = subprocess.run(
        "awk '/^Sig(Blk|Ign|Cgt)/ {print $1, $2}' /proc/self/status",
        shell=True,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return json.dumps(dict(line.split() for line in text.splitlines()))


starts: dict[str, Callable[[], str]] = {
    "subprocess": run,
    "without restore_signals": lambda: run(restore_signals=False),
    "preexec_fn": lambda: run(preexec_fn=lambda: None),
    "start_new_session": lambda: run(start_new_session=True),
    "thread": in_thread,
    "exec": executed,
    "posix_spawn": spawned,
    "fork": forked,
    "shell": shell,
}

if __name__ == "__main__":
    result = globals()[sys.argv[1]](sys.argv[2])
    if isinstance(result, dict):
        print(json.dumps(result))
