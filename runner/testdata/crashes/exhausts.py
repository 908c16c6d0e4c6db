"""Ways for a node to take more than the supervisor allows, as that counts it."""

from __future__ import annotations

import _thread
import os
import time

# The last line of each holds all that takes long: the worker is ended in the middle of it,
# or behind it.


def start_threads_without_end() -> None:
    starts = [time.sleep] * 300, [(3600,)] * 300
    _started = sum(map(_thread.start_new_thread, *starts)), time.sleep(3600)


def fill_a_memfd() -> None:
    files, data = [os.memfd_create("hoard")] * 300, [b"x" * (1 << 20)] * 300
    _written = sum(map(os.write, files, data)), time.sleep(3600)
