"""Nodes for the tests of package serve: they behave, or misbehave as told."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gophersnake import Audio, Permanent, node


@node
def echo(value: Any) -> Any:
    """Give back what was given."""
    return value


@node
def pid(value: Any) -> int:
    return os.getpid()


@node
def add(value: int) -> int:
    """Add one."""
    return value + 1


@node
def text_of(value: Any) -> str:
    return str(value)


@node
def join(left: Any, right: Any) -> list[Any]:
    """Take the values of two ports."""
    return [left, right]


@node
def kind(value: Any) -> str:
    """Name the type of a value, with its shape if it has one."""
    return f"{type(value).__name__} {getattr(value, 'shape', getattr(value, 'size', ''))}"


@node
def misbehave(how: str) -> Any:
    """Fail in the way that is named."""
    if how == "raise":
        raise ValueError(f"cannot open '/srv/secret models/weights.bin' next to {__file__}")
    if how == "permanent":
        raise Permanent("this input is wrong")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        time.sleep(600)
    if how == "carry":
        return object()
    return how


@node
def chatty(times: int) -> None:
    """Log so many records, or one of 1 MB."""
    log = logging.getLogger("shop")
    if times < 0:
        log.info("x" * 1_000_000)
    for i in range(times):
        log.info("\x1b[2Jsaid %d", i)


def note(folder: str, what: str) -> None:
    """Write what happened to a file of that name."""
    (Path(folder) / what).write_text("")


@node
def wait(value: Any, folder: str) -> Any:
    """Wait for the file "go"; a cancellation is noted."""
    try:
        note(folder, "began")
        while not (Path(folder) / "go").exists():
            time.sleep(0.01)
    except BaseException:
        note(folder, "canceled")
        raise
    finally:
        note(folder, "ended")
    return value


@node
def ticks(value: Any, folder: str) -> Iterator[int]:
    """Yield numbers without end; the end of the generator is noted."""
    try:
        note(folder, "began")
        number = 0
        while True:
            yield number
            number += 1
            time.sleep(0.01)
    finally:
        note(folder, "canceled")
        note(folder, "ended")


@node
def count(n: int) -> Iterator[int]:
    """Yield numbers; a negative one fails after the first value."""
    if n < 0:
        yield 0
        raise Permanent("too few")
    yield from range(n)


@node
class Broken:
    """Cannot be set up while the file exists."""

    def __init__(self, file: str) -> None:
        self.file = file

    def setup(self) -> None:
        if Path(self.file).exists():
            raise RuntimeError("the model is missing")

    def process(self, value: Any) -> Any:
        return value


@node
def flood(value: Any, folder: str) -> Iterator[str]:
    """Yield large values without end; the end of the generator is noted."""
    try:
        note(folder, "began")
        while True:
            yield "x" * 1_000_000
    finally:
        note(folder, "canceled")
        note(folder, "ended")


@node
def tone(seconds: float) -> Audio:
    """Make a recording of silence."""
    return Audio(samples=memoryview(bytes(4 * int(8000 * seconds))).cast("f"), rate=8000)


@node(stateful=True)
class Total:
    """Adds numbers, and returns the sum at the end of the stream."""

    def begin(self) -> None:
        self.total = 0

    def process(self, value: int) -> None:
        self.total += value

    def finish(self) -> int:
        return self.total


@node
class Endless:
    """Is never set up."""

    def setup(self) -> None:
        time.sleep(600)

    def process(self, value: Any) -> Any:
        return value


@dataclass
class Label:
    """A list of names."""

    name: str
    next: Label | None


@node
def labels(label: Label) -> str:
    """Return the first name."""
    return label.name


@node
def order(value: str, folder: str) -> str:
    """Note each value in a file; "block" waits for the file "go" before."""
    if value == "block":
        note(folder, "began")
        while not (Path(folder) / "go").exists():
            time.sleep(0.01)
    with (Path(folder) / "order").open("a") as file:
        file.write(value + "\n")
    return value
