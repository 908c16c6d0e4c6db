"""Nodes for the tests of package runner: they behave, or misbehave as told."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from gophersnake import Permanent, Transient, node, progress


@node
def echo(value: Any) -> Any:
    """Give back what was given."""
    return value


@node
def pid(value: Any) -> int:
    return os.getpid()


@node
def add(value: int, amount: int = 1) -> int:
    """Add an amount."""
    return value + amount


@node
def mix(left: int, right: int, scale: float = 1.0) -> float:
    """Mix two inputs."""
    return (left + right) * scale


@node
def now() -> str:
    """Take no input."""
    return "now"


@node
def parse(text: str) -> Any:
    """Read JSON, or return what cannot be sent."""
    return object() if text == "object" else json.loads(text)


@node(permanent=ValueError)
def parse_strictly(text: str) -> Any:
    """Read JSON; text that is not JSON is the fault of the caller."""
    return json.loads(text)


@node
def count(n: int) -> Iterator[int]:
    yield from range(n)


@node
async def later(n: int) -> int:
    await asyncio.sleep(0)
    return n + 1


@node
async def count_later(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


@node
class Counter:
    """Count the calls of one worker."""

    def __init__(self, start: int = 0, log: str = "") -> None:
        self.calls = start
        self.log = log

    def setup(self) -> None:
        progress("loading", 0.5)

    def process(self, value: Any) -> int:
        self.calls += 1
        return self.calls

    def close(self) -> None:
        if self.log:
            Path(self.log).write_text("closed")


# How an interpreter can end or hang.


def kill_segv() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def kill_kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def abort() -> None:
    os.abort()


def exit_now() -> None:
    os._exit(3)


def sys_exit() -> None:
    sys.exit(4)


def null_pointer() -> None:
    ctypes.string_at(0)


def recurse_in_c() -> None:
    # The C library's parser goes down a level for each bracket; Python, which
    # counts its own levels, knows nothing of it.
    depth = 1 << 20
    pattern = b"(" * depth + b")" * depth
    extended = 1
    ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(1024), pattern, extended)


def eat_memory() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


def loop_for_ever() -> None:
    while True:
        pass


def hang_in_c() -> None:
    ctypes.PyDLL(None).sleep(3600)  # PyDLL keeps the GIL


def stop_self() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def deny() -> None:
    """Reset the count of begun calls, and die."""
    os.pwrite(4, struct.pack("<Q", 1), 0)
    os._exit(7)


def raise_value_error() -> None:
    raise ValueError("the answer is not 42")


WAYS = {
    f.__name__: f
    for f in (
        kill_segv, kill_kill, abort, exit_now, sys_exit, null_pointer, recurse_in_c,
        eat_memory, loop_for_ever, hang_in_c, stop_self, deny, raise_value_error,
    )
}  # fmt: skip


@node
def misbehave(how: dict[str, Any]) -> str:
    """Do as told; where a file is named, only as often as it has room for."""
    if (marker := how.get("marker")) is not None:
        done = Path(marker).read_text() if Path(marker).exists() else ""
        if len(done) >= how.get("times", 1):
            return "fine"
        Path(marker).write_text(done + ".")
    WAYS[how["way"]]()
    return "unreachable"


FAMILY: list[Any] = []


@node
def family(value: Any) -> Any:
    """Start children that outlive the call: one forked, one of another program."""
    if not FAMILY:
        child = os.fork()
        if child == 0:
            time.sleep(3600)
            os._exit(0)
        FAMILY.extend([child, subprocess.Popen(["sleep", "3600"])])
    return value


# Errors.


@node
def fail(how: dict[str, Any]) -> Any:
    match how["with"]:
        case "chain":
            try:
                raise_value_error()
            except ValueError as error:
                error.add_note("look at the question") if hasattr(error, "add_note") else None
                raise RuntimeError("could not answer") from error
        case "permanent":
            raise Permanent("never again")
        case "transient":
            raise Transient("come back", retry_after=how.get("after", 0.0))
        case "oserror":
            open("/does/not/exist")
    raise_value_error()


@node
def bad_value(which: str) -> Any:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: Any = "bottom"
    for _ in range(100):
        deep = [deep]
    values = {
        "file": {"items": [1, 2, 3, {"handle": open(os.devnull)}]},
        "set": {"labels": {"a"}},
        "int": [1 << 70],
        "cycle": cycle,
        "deep": deep,
        "keys": {"items": [{1: 2}]},
        "fine": "fine",
    }
    return values[which]


# Output.


@node
def noisy(what: str) -> str:
    match what:
        case "print":
            print("hello from print")
        case "fd 1":
            ctypes.CDLL(None).write(1, b"hello from C\n", 13)
        case "binary":
            os.write(1, bytes(range(256)) * 64)
        case "flood":
            os.write(2, b"x" * (10 << 20))
        case "stdout flood":
            os.write(1, b"y" * (10 << 20))
        case "input":
            try:
                input()
            except EOFError:
                return "end of file"
        case "logging":
            logging.getLogger("model").warning("loaded %d layers", 3, extra={"layers": 3})
        case "subprocess":
            subprocess.run(["echo", "hello from a child"], check=True)
    return "done"


# Cancellation.


@node
def wait(how: dict[str, Any]) -> str:
    started = Path(how["started"])  # written when the node is ready for a cancellation
    try:
        while how.get("stubborn"):
            try:
                started.write_text("started")
                while True:
                    time.sleep(0.01)
            except BaseException:
                pass
        started.write_text("started")
        time.sleep(how.get("seconds", 3600))
    finally:
        if "ended" in how:
            Path(how["ended"]).write_text("ended")
    return "waited"
