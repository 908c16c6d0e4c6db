"""What a node can do to its interpreter, to fail later on or not at all."""

from __future__ import annotations

import builtins
import ctypes
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from typing import Any

from ends import write_to_null


def switch_faulthandler_off_and_crash() -> None:
    faulthandler.disable()
    write_to_null()


def close_the_autopsy_file_and_crash() -> None:
    os.close(4)
    write_to_null()


def catch_the_crash_in_python_and_crash() -> None:
    signal.signal(signal.SIGSEGV, lambda *_: None)
    write_to_null()


def close_stdout() -> str:
    sys.stdout.close()
    sys.stderr.close()
    return "fine"


def close_the_pipes() -> str:
    os.close(1)
    os.close(2)
    return "fine"


def change_folder() -> str:
    os.chdir("/")
    return "fine"


def clear_the_environment() -> str:
    os.environ.clear()
    return "fine"


def replace_hooks() -> str:
    def broken(*_: object) -> None:
        raise RuntimeError("the hook is broken")

    sys.excepthook = sys.unraisablehook = threading.excepthook = broken
    sys.settrace(None)
    gc.callbacks.append(broken)
    gc.collect()
    gc.set_threshold(1)
    return "fine"


def break_print() -> str:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("print is broken")

    builtins.print = broken
    return "fine"


def forget_all_modules() -> str:
    sys.modules.clear()
    sys.path.clear()
    return "fine"


def forbid_recursion() -> str:
    sys.setrecursionlimit(max(60, _depth() + 20))
    return "fine"


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def replace_os_exit() -> None:
    os._exit = lambda status: ctypes.CDLL(None)._exit(status)  # type: ignore[assignment]
    os._exit(7)


def leave_the_process_group() -> str:
    os.setsid() if os.getpgrp() != os.getpid() else None
    return "fine"


def leave_a_busy_thread() -> str:
    def spin() -> None:
        while True:
            time.sleep(0)

    threading.Thread(target=spin, daemon=True).start()
    return "fine"


KEPT: list[Any] = []


def keep_memory() -> str:
    KEPT.append(b"x" * (200 << 20))
    return "fine"


def keep_files_open() -> str:
    KEPT.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(210))
    return "fine"
