"""Nodes for the tests of package pool.

The import fails while the file that $BROKEN names exists, and blocks while the one
that $HELD names exists.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from gophersnake import node

while os.path.exists(os.environ.get("HELD", "")):
    time.sleep(0.001)
if os.path.exists(os.environ.get("BROKEN", "")):
    raise RuntimeError("the module is broken")


@node
def work(how: Any) -> Any:
    """Return a value once a file is gone, or die."""
    if not isinstance(how, dict):
        return how
    if "log" in how:
        with open(how["log"], "a") as log:
            log.write(f"{how['value']}\n")
    if "exit" in how:
        os._exit(how["exit"])
    if how.get("raise"):
        raise ValueError(how["raise"])
    gate = Path(how.get("gate", "/nowhere"))
    while gate.exists():
        time.sleep(0.001)
    if how.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    return how.get("value")


@node
async def wait(how: dict[str, Any]) -> int:
    """Wait until enough calls are running."""
    global running, most
    running += 1
    most = max(most, running)
    if running == how.get("log_at"):
        Path(how["log"]).touch()
    while most < how["until"]:
        if how.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.001)
    running -= 1
    return most


running = most = 0


@node
def count(to: int) -> Iterator[int]:
    """Count up to a number; if it is negative, die at its absolute value."""
    yield from range(abs(to))
    if to < 0:
        os.kill(os.getpid(), signal.SIGKILL)


@node(batch=4)
def together(values: list[Any]) -> list[Any]:
    """Return each value with the size of the batch, once a file is gone."""
    for gate in (each for each in values if isinstance(each, str)):
        Path(f"{gate}.begun").touch()
        while os.path.exists(gate):
            time.sleep(0.001)
    return [ValueError("thirteen") if each == 13 else [each, len(values)] for each in values]


@node(batch=2, max_wait_ms=60_000)
def pair(values: list[Any]) -> list[Any]:
    """Do the same as together, for two calls at a time."""
    return together(values)


@node(stateful=True)
class Sum:
    """Add numbers up, and return the sum with the process ID."""

    def begin(self) -> None:
        self.total = 0

    def process(self, number: Any) -> Any:
        if number == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == "raise":
            raise ValueError("no number")
        if isinstance(number, str):
            while os.path.exists(number):
                time.sleep(0.001)
            number = 0
        self.total += number
        return [self.total, os.getpid()]

    def finish(self) -> int:
        return self.total

    def snapshot(self) -> int:
        return self.total

    def restore(self, state: int) -> None:
        self.total = state


@node
def pid(how: Any) -> int:
    """Return the process ID, or die."""
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@node(concurrency=64)
async def meet(how: dict[str, Any]) -> int:
    """Return how many calls run, once a file is gone; a poison ends the interpreter then.

    A poison also ends it as soon as enough calls run.
    """
    global meeting
    meeting += 1
    try:
        while os.path.exists(how.get("gate", "/nowhere")):
            if how.get("poison") and meeting >= how["together"]:
                break
            await asyncio.sleep(0.001)
        if how.get("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        return meeting
    finally:
        meeting -= 1


@node(concurrency=64)
async def meet_and_yield(how: dict[str, Any]) -> AsyncIterator[int]:
    """Yield numbers after meeting the other calls."""
    await meet(how)
    for i in range(how["yields"]):
        yield i


meeting = 0
