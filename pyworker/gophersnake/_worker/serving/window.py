"""How far a call's items may be ahead of who takes them."""

from __future__ import annotations

from collections import deque
from typing import Any

ITEMS, BYTES = 16, 32 << 20
"""The window where setup names none."""


class Window:
    """The items of one call that were sent and not credited yet, oldest first.

    Attributes:
        full: whether the next item has to wait for credit. There may always be one
            under way, whatever its size.
    """

    def __init__(self, items: int = ITEMS, size: int = BYTES) -> None:
        """Take how many items, and how many bytes of them, may be under way."""
        self._items, self._bytes = items, size
        self._sizes: deque[int] = deque()
        self._total = 0
        self.full = False

    def sent(self, size: int) -> None:
        """Take down that an item of so many bytes was sent."""
        self._sizes.append(size)
        self._total += size
        self._look()

    def credit(self, items: int) -> None:
        """Forget the oldest items, which were taken."""
        for _ in range(min(items, len(self._sizes))):
            self._total -= self._sizes.popleft()
        self._look()

    def _look(self) -> None:
        sizes = self._sizes
        self.full = bool(sizes) and (len(sizes) >= self._items or self._total > self._bytes)


def limits(setup: dict[str, Any]) -> tuple[int, int]:
    """Return the items and bytes of each call's window, as the setup frame has them."""
    window = setup.get("window") or {}
    return int(window.get("items", ITEMS)), int(window.get("bytes", BYTES))
