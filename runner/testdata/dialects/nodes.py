"""Nodes of the manifests in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gophersnake import node


@node
def Upper(text: str, suffix: str = "") -> str:
    """Return the text in capitals."""
    return text.upper() + suffix


@node
def Exclaim(text: str, marks: int = 1) -> str:
    """Return the text with exclamation marks."""
    return text + "!" * marks


@node
def Words(text: str) -> Iterator[str]:
    """Yield the words of the text."""
    yield from text.split()


@node
def Pair(left: str, right: str) -> str:
    """Return both texts."""
    return f"{left}+{right}"


@node
class Collect:
    """Yield how many items the stream has had, and the item."""

    def __init__(self) -> None:
        self.seen = 0

    def process(self, text: str) -> Iterator[Any]:
        """Yield the item with its number."""
        self.seen += 1
        yield f"{self.seen} {text}"
