"""A node that fails as its input says, to show how the supervisor handles failures."""

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
    """How to fail.

    ``mode`` is a key of ``MODES``. ``times`` is the number of failures; without it, the
    node fails each time. Orders with ``times`` that one supervisor processes at the same
    time need different values of ``id``.
    """

    mode: str
    times: int
    id: str


@node
def fragile(order: Order) -> object:
    """Fail as ``order`` says, or return the number of failures before this success.

    Raises:
        Permanent: if there is no such mode, or ``times`` is not a number.
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
    """Return the mode and the number of failures, which is ``None`` if it is not limited."""
    mode = order.get("mode") if isinstance(order, dict) else None
    if not isinstance(mode, str) or mode not in MODES:
        raise Permanent(
            f'the input must be like {{"mode": "crash", "times": 1}}, not {order!r}; '
            f"the modes are {', '.join(MODES)}"
        )
    times = order.get("times")
    if times is not None and (not isinstance(times, int) or times < 0):
        raise Permanent(f"times is the number of failures, such as 1, not {times!r}")
    return mode, times


class Failures:
    """The number of times that an order has failed.

    A worker that replaces a dead one starts without any state, so the count is kept in
    a file with one byte per failure. The name of the file contains the process id of
    the supervisor, so the count starts at zero for each run of the command line.
    """

    def __init__(self, order: str) -> None:
        """Use the count of the order with this id."""
        supervisor = os.environ.get("GOPHERSNAKE_SUPERVISOR", os.getppid())
        name = f"gophersnake-resilient-{supervisor}-{quote(order, safe='')}"
        self.file = Path(tempfile.gettempdir(), name)

    def count(self) -> int:
        """Return the number of failures so far."""
        return self.file.stat().st_size if self.file.exists() else 0

    def add(self) -> None:
        """Count a failure before it happens, since afterwards the process may be dead."""
        with self.file.open("ab") as file:
            file.write(b".")

    def forget(self) -> int:
        """Return the number of failures, and reset it to zero."""
        count = self.count()
        self.file.unlink(missing_ok=True)
        return count


def fine() -> object:
    """Succeed."""
    return {"status": "fine", "worker": os.getpid()}


def crash() -> None:
    """Die like a C extension that dereferences an invalid pointer."""
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> NoReturn:
    """End the process without a message, as a C library might."""
    os._exit(3)


def hang() -> NoReturn:
    """Loop forever; the node's ``timeout`` ends the worker."""
    while True:
        pass


def fail() -> int:
    """Raise an ordinary exception in a nested call."""
    return parse_price("12,50 EUR")


def parse_price(text: str) -> int:
    """Return the price in cents."""
    amount, currency = text.split()
    if "," in amount:
        raise ValueError(f"{text!r} has a decimal comma: write 12.50 {currency}")
    return round(float(amount) * 100)


def busy() -> NoReturn:
    """Ask for a retry after a delay."""
    raise Transient("the price service is busy", retry_after=0.2)


def refuse() -> NoReturn:
    """Say that a retry is useless."""
    raise Permanent("article 4711 is not in the catalog")


def value() -> object:
    """Return a value that contains an open file, which no other process can use."""
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
