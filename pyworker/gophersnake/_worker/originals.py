"""The standard library's functions as they are before node code runs.

Libraries such as gevent and eventlet replace functions of the standard library
("monkey-patching"), so that a thread becomes a coroutine, and what waits in the kernel
becomes a switch to another coroutine. A node may rely on that. The worker must not: its
threads have to be real ones, and its waits, locks and forks those of the system.

This module copies the modules whose functions such libraries replace. Worker code imports
them from here. It uses ``_thread`` instead of ``threading``, because what is written in Python
looks functions up in its own module, which may have been changed. A worker and a template
import this module before the node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import _thread
    import os
    import select
    import selectors
    import signal
    import socket
    import time
else:
    from importlib import import_module
    from types import ModuleType

    def _copy(name: str) -> ModuleType:
        copied = ModuleType(name)
        vars(copied).update(vars(import_module(name)))
        return copied

    _thread = _copy("_thread")
    os = _copy("os")
    select = _copy("select")
    selectors = _copy("selectors")
    signal = _copy("signal")
    socket = _copy("socket")
    time = _copy("time")

__all__ = ["_thread", "os", "select", "selectors", "signal", "socket", "time"]
