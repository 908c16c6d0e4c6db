"""Ways to give no answer."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from pathlib import Path

from ends import name


def loop_for_ever() -> None:
    while True: pass  # fmt: skip # noqa: E701, of two lines it could be either


def sleep_for_ever() -> None:
    time.sleep(3600)


def wait_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def hold_the_gil() -> None:
    ctypes.PyDLL(None).sleep(3600)


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def ignore_every_signal() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    time.sleep(3600)


def block_every_signal() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(3600)


# The caller cancels these when the file is there.


def give_up_when_canceled(file: Path) -> None:
    name(file)
    time.sleep(3600)


def go_on_when_canceled(file: Path) -> None:
    while True:
        try:
            name(file)
            while True:
                time.sleep(3600)
        except BaseException:
            pass


def hold_the_gil_when_canceled(file: Path) -> None:
    # The shell writes the file, when Python can do nothing any more.
    ctypes.PyDLL(None).system(f"echo held > '{file}'; sleep 3600".encode())


def ignore_the_signal_of_a_cancellation(file: Path) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    name(file)
    time.sleep(3600)


def die_of_a_cancellation(file: Path) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    name(file)
    time.sleep(3600)
