"""Progress reports from nodes whose setup or calls take long."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

__all__ = ["progress"]

Report = Callable[[str, "float | None"], None]

_report: Report | None = None


def progress(message: str, fraction: float | None = None) -> None:
    """Report the progress of long work, in ``setup`` or in a call.

    In a call the report is for its caller: a terminal or a job shows it, and Go programs receive
    it by ``runner.WithProgress``. In a batch it is for the callers of all inputs. In ``setup``,
    and from code that works for no call, it is shown on the terminal, and Go programs receive it
    as ``SetupProgress``. Outside of a worker, in a test for instance, it is a log record at level
    debug.

    A node may report as often as it likes. Of reports that come faster than they can be shown,
    the latest counts.

    In a node with ``async def`` or ``threads``, a report belongs to the call whose context it is
    made in: a thread that the node itself has started needs ``contextvars.copy_context().run``,
    which ``asyncio.to_thread`` uses as well. In other nodes it belongs to the call that runs,
    whatever thread reports.

    Args:
        message: what is being done, for instance ``"loading the model"``.
        fraction: how much of the work is done, between 0 and 1; ``None`` if unknown.
            Other numbers are clamped to that range, and NaN means unknown.
    """
    if fraction is not None:
        fraction = float(fraction)
        fraction = None if math.isnan(fraction) else min(max(fraction, 0.0), 1.0)
    if _report is None:
        logging.getLogger("gophersnake").debug("%s", message)
    else:
        _report(str(message), fraction)


def report_to(report: Report | None) -> None:
    """Make ``progress`` call this function, ``None`` for none. The worker uses this."""
    global _report  # noqa: PLW0603 - a process has one worker
    _report = report
