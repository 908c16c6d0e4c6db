"""The nodes of the crash matrix: they do as they are told, or answer with their process id."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from gophersnake import node


def go(way: str, *file: Path) -> Any:
    """Go a way, named by its module and function."""
    module, _, function = way.partition(".")
    return getattr(import_module(module), function)(*file)


@node
def misbehave(how: dict[str, Any]) -> Any:
    """Go the way that is named; the file is for what the test must know of it."""
    if "way" not in how:
        return os.getpid()
    return go(how["way"], *map(Path, how.get("files", [])))


@node
class Closing:
    """Misbehave when it is closed, or leave something behind that does."""

    def __init__(self, way: str, before: bool = False) -> None:
        self.way, self.before = way, before

    def process(self, _: Any) -> int:
        if self.before:
            go(self.way)
        return os.getpid()

    def close(self) -> None:
        if not self.before:
            go(self.way)
