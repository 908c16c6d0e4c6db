"""Nodes for what has gone wrong elsewhere."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from gophersnake import node


def leave(at: Path) -> None:
    """End, or wait to be ended, where a file says so."""
    try:
        way = at.read_text()
    except FileNotFoundError:
        return
    match way:
        case "exit":
            os._exit(0)
        case "wait":
            Path(f"{at}.pid.part").write_text(str(os.getpid()))
            os.rename(f"{at}.pid.part", f"{at}.pid")
            time.sleep(3600)
        case "eat":
            hoard = []
            while True:
                hoard.append(b"x" * (8 << 20))


@node
class Mortal:
    """Answer with the process id; end as the files in a folder say."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def setup(self) -> None:
        leave(self.folder / "setup")

    def process(self, value: Any) -> int:
        try:
            os.unlink(self.folder / str(value))
        except FileNotFoundError:
            return os.getpid()
        os._exit(0)


@node
class Slow:
    """A worker that takes its time to come up and more to go."""

    def setup(self) -> None:
        time.sleep(0.05)

    def process(self, value: Any) -> int:
        return os.getpid()

    def close(self) -> None:
        time.sleep(0.05)


@node
def large(value: Any) -> Any:
    """Give a large value back, or die with it in hand."""
    if value["die"]:
        os._exit(0)
    return value["data"]
