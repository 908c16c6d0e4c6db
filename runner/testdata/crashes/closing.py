"""Ways to misbehave when the worker is asked to end, or to leave something that does."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time


def close_raises() -> None:
    raise RuntimeError("cannot let go")


def close_exits() -> None:
    sys.exit(9)


def close_exits_now() -> None:
    os._exit(9)


def close_crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def close_hangs() -> None:
    time.sleep(3600)


def hang_at_exit() -> None:
    atexit.register(time.sleep, 3600)


def raise_at_exit() -> None:
    atexit.register(close_raises)


def crash_at_exit() -> None:
    atexit.register(close_crashes)


def leave_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(3600,)).start()


def leave_children() -> None:
    subprocess.Popen(["sleep", "3600"])


def ignore_the_shutdown() -> None:
    # It never reads its mail again.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.kill(os.getpid(), signal.SIGSTOP)
