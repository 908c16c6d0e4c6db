"""Progress reports from nodes whose setup takes long."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

__all__ = ["progress"]

Report = Callable[[str, "float | None"], None]

_report: Report | None = None


def progress(message: str, fraction: float | None = None) -> None:
    """Report the progress of long work, most often in ``setup``.

    The report is shown on the terminal, and Go programs receive it as ``SetupProgress``.
    Outside of a worker, in a test for instance, it is a log record at level debug.

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
