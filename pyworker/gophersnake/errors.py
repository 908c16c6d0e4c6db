"""The exceptions with which a node tells the supervisor what to make of a failure."""

from __future__ import annotations

__all__ = ["Cancelled", "Permanent", "Transient"]


class Permanent(Exception):
    """Raise this where another attempt is of no use: the call is not retried.

    The failure does not count against the node's circuit breaker, because the
    node is well and refuses this one input.
    """

    __module__ = "gophersnake"


class Transient(Exception):
    """Raise this where another attempt is worth it, whatever the retry policy's kinds say.

    Args:
        *args: what an exception usually takes, most often a message.
        retry_after: seconds to wait before the next attempt, instead of the
            policy's delay; ``None`` leaves that to the policy.

    Raises:
        ValueError: ``retry_after`` is negative or not a finite number.
    """

    __module__ = "gophersnake"

    retry_after: float | None = None  # of a subclass whose __init__ does not come here, too

    def __init__(self, *args: object, retry_after: float | None = None) -> None:
        """Take a message and a delay."""
        super().__init__(*args)
        if retry_after is not None and not 0 <= retry_after < float("inf"):
            raise ValueError(f"retry_after is a number of seconds from 0, not {retry_after!r}")
        self.retry_after = None if retry_after is None else float(retry_after)


class Cancelled(BaseException):
    """Raised inside a node whose call the supervisor has given up.

    Like ``KeyboardInterrupt`` it is no ``Exception``, so that ``except Exception``
    does not stop it; ``finally`` blocks run. In an ``async def`` node it arrives
    as ``asyncio.CancelledError``. A node that goes on nevertheless is ended,
    interpreter and all, after a grace time.
    """

    __module__ = "gophersnake"
