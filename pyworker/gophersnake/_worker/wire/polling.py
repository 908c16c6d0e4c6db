"""Polling: the worker looks for the next call for a moment before it sleeps.

To fall asleep in ``recv`` and to be woken costs both processes more than a small call. If
the next call comes soon, the worker therefore polls its socket for at most 60 µs after an
answer. A miss is a poll that ends without a frame in that time. It has used a processor for
nothing, so few misses are allowed:

=========  =====================================  =========================================
state      each time that the worker must wait    next
=========  =====================================  =========================================
trying     it polls; a hit adds 1 to the credit,  resting, once the credit is below 0
           up to 64, and a miss takes 16 off it
resting    it sleeps at once                      trying without credit, after so many waits
                                                  as the rest is long
=========  =====================================  =========================================

Each rest is twice as long as the one before, from 64 to 16,384 waits, until the credit has
been full again. So a worker whose calls come seldom, or on a machine without a free processor
for both processes, polls once in thousands of calls. The socket alone decides whether there
is a frame: polling never changes what the worker receives.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from gophersnake._worker.originals import _thread, os, select, time

POLL_TIME = 60e-6
"""The longest time, in seconds, for which the worker polls before it sleeps."""

LONG_CALL = 1e-3
"""After a call that took this many seconds the worker sleeps at once: its caller does, too."""

FULL, MISS = 64, 16
"""The most credit, and what a miss takes off it."""

SHORTEST, LONGEST = 64, 16_384
"""The bounds of a rest."""

_monotonic = time.monotonic
_count = _thread._count


class Polling:
    """Decides whether to poll a socket before each wait, and polls it.

    Only the main thread uses it.

    Attributes:
        rest: how many further times the worker sleeps at once.
    """

    def __init__(self, descriptor: int, own_threads: Callable[[], int]) -> None:
        """Create the polling of a socket.

        Args:
            descriptor: the socket's descriptor.
            own_threads: returns how many threads of the process are the worker's own, the
                main thread not counted.
        """
        self._own_threads = own_threads
        self._own = own_threads()
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        self._poll = poller.poll
        self._credit = MISS
        self._next_rest = SHORTEST
        self.rest = 0

    def before_wait(self, since: float) -> None:
        """Poll until there is a frame, for a moment, unless that is unlikely to pay.

        It does not poll while node code has threads: they could not run meanwhile.

        Args:
            since: when the last call was begun, by ``time.monotonic``.
        """
        if self.rest:
            self.rest -= 1
            return
        poll, monotonic = self._poll, _monotonic
        now = monotonic()
        if now - since > LONG_CALL or (_count() > self._own and self._others_run()):
            return
        until = now + POLL_TIME
        while True:
            found = poll(0)
            if monotonic() >= until:  # a frame, too, if the system ran something else meanwhile
                self._missed()
                return
            if found:
                break
        if self._credit < FULL:
            self._credit += 1
            if self._credit == FULL:
                self._next_rest = SHORTEST

    def _others_run(self) -> bool:
        """Return whether there are threads of the node."""
        self._own = self._own_threads()  # a worker starts one of its own later
        return _count() > self._own

    def _missed(self) -> None:
        self._credit -= MISS
        if self._credit < 0:
            self._credit = 0
            self.rest = self._next_rest
            self._next_rest = min(self._next_rest * 2, LONGEST)


def can_pay() -> bool:
    """Return whether polling can pay on this system, which needs two processors."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1
