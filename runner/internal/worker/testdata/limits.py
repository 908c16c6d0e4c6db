"""Nodes that exceed their limits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from gophersnake import node

MEGA = 1 << 20

hoard: list[Any] = []


def grow() -> None:
    while True:
        hoard.append(b"x" * MEGA)
        time.sleep(0.001)


GROW = "import time; hoard = []\nwhile True: hoard.append(b'x' * (1 << 20)); time.sleep(0.001)"


@node
def take(megabytes: int) -> str:
    """Keep so much memory."""
    hoard.append(b"x" * (megabytes * MEGA))
    return "taken"


@node
def take_all(how: str) -> None:
    """Allocate memory without end, in this process or in a child."""
    if how == "alone":
        grow()
    subprocess.run([sys.executable, "-c", GROW], check=True)


@node
class TakesAllInSetup:
    """Allocate memory without end while it is set up."""

    def setup(self) -> None:
        grow()

    def process(self, value: Any) -> Any:
        return value


@node
def share(how: dict[str, Any]) -> str:
    """Fork children that share this process's memory, and wait until a gate is opened."""
    hoard.append(b"x" * (how["megabytes"] * MEGA))
    let_go, held = os.pipe()
    children = []
    for _ in range(how["children"]):
        child = os.fork()
        if not child:
            os.close(held)
            os.read(let_go, 1)
            os._exit(0)
        children.append(child)
    os.open(how["gate"], os.O_RDONLY)  # waits for a writer
    os.close(held)
    for child in children:
        os.waitpid(child, 0)
    return "shared"


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@node
def burns(how: str) -> None:
    """Use CPU time without end."""
    if how == "python":
        burn(3600)
    elif how == "c":
        re.match("(a|aa)+$", "a" * 200 + "b")
    else:
        subprocess.run([sys.executable, "-c", "while True: pass"], check=True)


@node
def burns_a_little(seconds: float) -> str:
    burn(seconds)
    return "done"


@node
def burns_between(values: int) -> Iterator[int]:
    for i in range(values):
        burn(0.3)
        yield i


@node
def sleeps(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@node
def opens(files: int) -> str:
    """Keep so many files open."""
    for _ in range(files):
        hoard.append(open(os.devnull))
    return "opened"


@node
def takes_an_array(value: Any) -> int:
    """Open as many files as possible, or return the length of an array."""
    if value == "open all":
        import numpy  # noqa: F401 - before there is no descriptor left to read it

        while True:
            try:
                hoard.append(open(os.devnull))
            except OSError:
                return len(hoard)
    return len(value)


@node
def gives(size: int) -> bytes:
    return b"x" * size


@node
def gives_an_array(size: int) -> Any:
    import numpy

    return numpy.zeros(size, "uint8")


@node
def gives_many(sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield b"x" * size


@node(stateful=True)
class Remembers:
    """Has a state that is larger than its results."""

    def begin(self) -> None:
        self.state = b"x" * 5000

    def process(self, value: Any) -> Any:
        return value

    def snapshot(self) -> bytes:
        return self.state

    def restore(self, state: bytes) -> None:
        self.state = state
