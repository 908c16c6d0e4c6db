"""Exceptions: the interpreter is well, and the worker lives on."""

from __future__ import annotations

import resource
import sys
import threading

from gophersnake import Permanent, Transient


def raise_value_error() -> None:
    raise ValueError("the answer is not 42")


def raise_permanent() -> None:
    raise Permanent("never again")


def raise_transient() -> None:
    raise Transient("come back", retry_after=0.001)


def raise_without_a_text() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    raise Mute


def raise_stop_iteration() -> None:
    raise StopIteration


def raise_keyboard_interrupt() -> None:
    raise KeyboardInterrupt


def raise_base_exception() -> None:
    class Odd(BaseException):
        pass

    raise Odd("neither an Exception nor an exit")


def recurse() -> None:
    recurse()


def raise_in_a_thread() -> str:
    thread = threading.Thread(target=raise_value_error)
    thread.start()
    thread.join()
    return "fine"


def exit_in_a_thread() -> str:
    thread = threading.Thread(target=sys.exit, args=(3,))
    thread.start()
    thread.join()
    return "fine"


def run_out_of_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        open("/dev/null")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
