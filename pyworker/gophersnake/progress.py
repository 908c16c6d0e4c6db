"""What a node says of long work while it is at it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

__all__ = ["progress"]

Report = Callable[[str, "float | None"], None]

_report: Report | None = None


def progress(message: str, fraction: float | None = None) -> None:
    """Tell the supervisor how far long work is, most often in ``setup``.

    It is shown on the terminal and told to Go programs as ``SetupProgress``.
    Outside of a worker, in a test for instance, it is a log record at level debug.

    Args:
        message: what is being done, for instance ``"loading the model"``.
        fraction: between 0 and 1, ``None`` where it is not known. What lies
            outside is taken as the nearest bound, NaN as not known.
    """
    if fraction is not None:
        fraction = float(fraction)
        fraction = None if math.isnan(fraction) else min(max(fraction, 0.0), 1.0)
    if _report is None:
        logging.getLogger("gophersnake").debug("%s", message)
    else:
        _report(str(message), fraction)


def report_to(report: Report | None) -> None:
    """Have ``progress`` tell this function; the worker does."""
    global _report  # noqa: PLW0603 - one worker a process
    _report = report
