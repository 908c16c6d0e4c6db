"""A node that fails as it is told, to show what the supervisor makes of it."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypedDict
from urllib.parse import quote

from gophersnake import Permanent, Transient, node


class Order(TypedDict, total=False):
    """How to fail: ``mode`` is a key of ``MODES``.

    ``times`` is how often; without it, each time. ``id`` tells apart orders
    that one supervisor works on at once, where both have ``times``.
    """

    mode: str
    times: int
    id: str


@node
def fragile(order: Order) -> object:
    """Fail as ``order`` says, or else tell how many failures came before.

    Raises:
        Permanent: there is no such mode, or ``times`` is not a number.
    """
    mode, times = read(order)
    if times is None:
        return MODES[mode]()
    failures = Failures(str(order.get("id", mode)))
    if failures.count() < times:
        failures.add()
        return MODES[mode]()
    return {"status": "fine", "failures": failures.forget(), "worker": os.getpid()}


def read(order: Order) -> tuple[str, int | None]:
    """Return the mode and the number of times, if there is one."""
    mode = order.get("mode") if isinstance(order, dict) else None
    if not isinstance(mode, str) or mode not in MODES:
        raise Permanent(
            f'an input such as {{"mode": "crash", "times": 1}} is needed, not {order!r}; '
            f"the modes are {', '.join(MODES)}"
        )
    times = order.get("times")
    if times is not None and (not isinstance(times, int) or times < 0):
        raise Permanent(f"times is how often to fail, a number such as 1, not {times!r}")
    return mode, times


class Failures:
    """How often an order has failed.

    A worker that takes the place of a dead one remembers nothing, so the count
    is kept in a file: one byte a failure. The parent process, the supervisor,
    is part of its name, so each run of the command line starts at nought.
    """

    def __init__(self, order: str) -> None:
        """Take the order's id."""
        name = f"gophersnake-resilient-{os.getppid()}-{quote(order, safe='')}"
        self.file = Path(tempfile.gettempdir(), name)

    def count(self) -> int:
        """Return the number of failures so far."""
        return self.file.stat().st_size if self.file.exists() else 0

    def add(self) -> None:
        """Count one more, before it happens: afterwards nobody is left to count."""
        with self.file.open("ab") as file:
            file.write(b".")

    def forget(self) -> int:
        """Return the number of failures, and start again at nought."""
        count = self.count()
        self.file.unlink(missing_ok=True)
        return count


def fine() -> object:
    """Do not fail."""
    return {"status": "fine", "worker": os.getpid()}


def crash() -> None:
    """Die as a C extension does that reads through a bad pointer."""
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> NoReturn:
    """End the process without a word, as a library might do behind Python's back."""
    os._exit(3)


def hang() -> NoReturn:
    """Never come back; the node's ``timeout`` ends it."""
    while True:
        pass


def fail() -> int:
    """Raise what Python raises, from one call further down."""
    return parse_price("12,50 EUR")


def parse_price(text: str) -> int:
    """Return the price in cents."""
    amount, currency = text.split()
    if "," in amount:
        raise ValueError(f"{text!r} has a decimal comma: write 12.50 {currency}")
    return round(float(amount) * 100)


def busy() -> NoReturn:
    """Ask for a retry, and say when."""
    raise Transient("the price service is busy", retry_after=0.2)


def refuse() -> NoReturn:
    """Say that a retry is of no use."""
    raise Permanent("article 4711 is not in the catalog")


def value() -> object:
    """Return what no other process can have: an open file, deep inside."""
    return {"items": [{"name": "readme"}, {"name": "log", "handle": open(os.devnull)}]}


MODES: dict[str, Callable[[], object]] = {
    "fine": fine,
    "crash": crash,
    "exit": leave,
    "hang": hang,
    "raise": fail,
    "transient": busy,
    "permanent": refuse,
    "value": value,
}
