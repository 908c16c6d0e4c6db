"""Results that cannot be carried, and output in place of one."""

from __future__ import annotations

import os
import sys
from typing import Any


def return_an_open_file() -> Any:
    return {"items": [open(os.devnull)]}


def return_a_set() -> Any:
    return {1, 2}


def return_a_cycle() -> Any:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def return_what_is_too_deep() -> Any:
    deep: Any = "bottom"
    for _ in range(100_000):
        deep = [deep]
    return deep


def return_too_large_an_int() -> Any:
    return 1 << 70


def return_half_a_character() -> Any:
    return "\ud800"


def return_too_much() -> Any:
    return bytes(2 << 20)


def return_what_raises_when_read() -> Any:
    class Trap(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("hands off")

        __iter__ = items  # type: ignore[assignment]
        keys = items

    return [Trap(a=1)]


def flood_stdout() -> str:
    os.write(1, b"y" * (8 << 20))
    return "fine"


def flood_stderr() -> str:
    """With NULs, bytes that are no text, and lines of a megabyte."""
    for _ in range(8):
        os.write(2, (b"\0\xff" + b"x" * 1022) * 1024 + b"\n")
    return "fine"


def write_what_looks_like_a_handshake() -> str:
    print("1|1|unix|/nowhere|msgpack", flush=True)
    return "fine"


def write_what_looks_like_a_log_record() -> str:
    for line in ('{"@message": 1}', '{"@level": 30, "@message": "m"}', ' {"@timestamp": null}'):
        print(line, file=sys.stderr, flush=True)
    return "fine"
