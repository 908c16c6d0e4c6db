"""Nodes for the tests of package cluster. Files tell the tests what the nodes do."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from gophersnake import Permanent, node, progress


@node
def echo(value: Any) -> Any:
    """Give back what was given."""
    return value


@node
def hold(folder: str, name: str) -> dict[str, Any]:
    """Leave a file that says the call has begun, and wait for the file "release"."""
    begun = Path(folder, f"begun-{name}-{os.getpid()}")
    begun.write_text(str(os.getpid()))
    while not Path(folder, "release").exists():
        time.sleep(0.005)
    return {"name": name, "pid": os.getpid(), "machine": os.environ.get("MACHINE", "")}


@node
def fail(text: str) -> None:
    """Raise an exception with a cause and a note."""
    try:
        int(text)
    except ValueError as cause:
        error = Permanent(f"no number: {text}")
        error.add_note("a note")
        raise error from cause


@node
def die(value: Any) -> None:
    """End the interpreter."""
    os.kill(os.getpid(), 9)


@node(concurrency=64)
async def echo_async(value: Any) -> Any:
    """Give back what was given, with many calls at once."""
    return value


@node(stateful=True)
class Ledger:
    """Add the items up, and survive the machine."""

    def begin(self) -> None:
        self.total = 0

    def process(self, n: int) -> Any:
        self.total += n
        yield [n, self.total]

    def finish(self) -> Any:
        yield ["end", self.total]

    def snapshot(self) -> int:
        return self.total

    def restore(self, total: int) -> None:
        self.total = total


@node(stateful=True)
class Counter:
    """Count the items, and lose the count with the machine."""

    def begin(self) -> None:
        self.count = 0

    def process(self, value: Any) -> int:
        self.count += 1
        return self.count


@node
def twice(value: Any) -> Any:
    """Yield the value twice."""
    yield value
    yield value


@node
def where(value: Any) -> list[Any]:
    """Say on which machine the value is."""
    return [value, os.environ.get("MACHINE", "")]


@node
def die_on_a(folder: str, value: Any) -> str:
    """Leave a file for each call, and end the interpreter on the machine a."""
    name = os.environ.get("MACHINE", "")
    Path(folder, f"{name}-{time.monotonic_ns()}").touch()
    if name == "a":
        os.kill(os.getpid(), 9)
    return name


@node
def both(left: Any, right: Any) -> list[Any]:
    """Put two values into a list, with the machine."""
    return [left, right, os.environ.get("MACHINE", "")]


@node
def ledger(folder: str, job: str) -> dict[str, Any]:
    """Note in the machine's ledger that a job has begun and ended. A job fails if its name says so,
    and has a large result if its name says that. What follows the name is ignored."""
    job = job.split()[0]
    token = f"{os.environ.get('MACHINE', '')}-{os.getpid()}-{time.monotonic_ns()}"
    ledger = os.open(
        Path(folder, "ledger-" + os.environ.get("MACHINE", "")),
        os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    )
    try:
        os.write(ledger, f"begin {job} {token}\n".encode())
        time.sleep(0.001)
        if job.endswith("-fail"):
            raise Permanent("the job fails")
        os.write(ledger, f"end {job} {token}\n".encode())
    finally:
        os.close(ledger)
    return {"job": job, "token": token, "fill": bytes(200_000) if job.endswith("-large") else b""}


@node
def work(folder: str) -> str:
    """Report that half is done, and wait for the file "release"."""
    progress("half", 0.5)
    while not Path(folder, "release").exists():
        time.sleep(0.005)
    progress("all", 1.0)
    return "done"


@node
def chatter(seconds: float) -> int:
    """Report for some seconds as often as possible, and return how often."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        count += 1
        progress(f"step {count}")
    return count


@node
def big(size: int) -> bytes:
    """Return a value that is too large for a message."""
    return bytes(size)


@node
def size_of(value: bytes) -> list[Any]:
    """Say how large a value is, and on which machine."""
    return [len(value), os.environ.get("MACHINE", "")]
