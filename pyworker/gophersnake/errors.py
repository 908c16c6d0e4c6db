"""The exceptions with which a node decides whether its call is retried."""

from __future__ import annotations

__all__ = ["Cancelled", "Permanent", "Transient"]


class Permanent(Exception):
    """Raise this if another attempt would fail as well: the call is not retried.

    The failure does not count against the node's circuit breaker, because the node
    works and only rejects this input.
    """

    __module__ = "gophersnake"


class Transient(Exception):
    """Raise this if another attempt may succeed: the call is retried.

    This also holds if the retry policy does not name the kind of this error.

    Args:
        *args: the usual arguments of an exception, most often a message.
        retry_after: the seconds to wait before the next attempt, instead of the policy's
            delay; ``None`` for the policy's delay. The supervisor waits for a minute at
            most, and not beyond the budget of the policy and the deadline of the caller.

    Attributes:
        retry_after: the seconds to wait, or ``None``.

    Raises:
        ValueError: ``retry_after`` is negative or not a finite number.
    """

    __module__ = "gophersnake"

    retry_after: float | None = None  # for subclasses that do not call this __init__

    def __init__(self, *args: object, retry_after: float | None = None) -> None:
        """Create the exception with a message and a delay."""
        super().__init__(*args)
        if retry_after is not None and not 0 <= retry_after < float("inf"):
            raise ValueError(f"retry_after must be a number of seconds from 0, not {retry_after!r}")
        self.retry_after = None if retry_after is None else float(retry_after)


class Cancelled(BaseException):
    """Raised in a node whose call the supervisor has canceled.

    Like ``KeyboardInterrupt`` it is not an ``Exception``, so ``except Exception`` does
    not catch it; ``finally`` blocks run. An ``async def`` node gets an
    ``asyncio.CancelledError`` instead. If the node continues anyway, the supervisor
    kills the process after a grace time.
    """

    __module__ = "gophersnake"
