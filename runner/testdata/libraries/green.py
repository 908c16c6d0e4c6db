"""What nodes with a monkey-patched standard library do; each function returns its check."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any


def echo(value: Any = "fine") -> Any:
    """Return a value."""
    return value


def fork(times: int = 3) -> list[int]:
    """Fork children, and return their exit codes.

    gevent may miss the end of a child that ends before the parent waits for it, in a plain
    interpreter, too. So a child ends when the parent waits already.
    """
    codes = []
    for i in range(times):
        here, there = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(here, 1)
            os._exit(i)
        threading.Timer(0.01, os.write, (there, b"x")).start()
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os.close(here)
        os.close(there)
    return codes


def run(times: int = 2) -> list[str]:
    """Run programs, and return what they print."""
    command = [sys.executable, "-S", "-c", "print('child')"]
    return [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for _ in range(times)
    ]


def threads(count: int = 8) -> list[int]:
    """Return what threads put into a queue, which they do while they sleep in turns."""
    done: queue.Queue[int] = queue.Queue()

    def work(i: int) -> None:
        for _ in range(3):
            time.sleep(0.001)
        done.put(i)

    started = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for each in started:
        each.start()
    for each in started:
        each.join()
    return sorted(done.get() for _ in started)


def talk() -> str:
    """Return what came through a socket to a thread and back."""
    here, there = socket.socketpair()

    def answer() -> None:
        there.sendall(there.recv(100).upper())

    thread = threading.Thread(target=answer)
    thread.start()
    here.sendall(b"hello")
    found = here.recv(100).decode()
    thread.join()
    here.close()
    there.close()
    return found


def log(lines: int = 100) -> int:
    """Log from several threads, while time passes."""

    def work(i: int) -> None:
        for line in range(lines):
            logging.info("thread %d, line %d", i, line)
            time.sleep(0)

    started = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for each in started:
        each.start()
    for each in started:
        each.join()
    return lines


def nap(seconds: float = 0.1) -> float:
    """Sleep as the library does it."""
    time.sleep(seconds)
    return seconds


def get_signal() -> list[int]:
    """Return the numbers of signals that a handler of the node has got."""
    got: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: got.append(number))
    os.kill(os.getpid(), signal.SIGUSR2)
    while not got:
        time.sleep(0.001)
    signal.signal(signal.SIGUSR2, before)
    return got


def loop() -> None:
    """Never end, and let nothing else run."""
    while True:
        pass


def pid() -> int:
    """Return the worker's process id."""
    return os.getpid()


def do(how: dict[str, Any]) -> Any:
    """Call the function of this module that the input names."""
    return globals()[how["do"]](*how.get("with", ()))
