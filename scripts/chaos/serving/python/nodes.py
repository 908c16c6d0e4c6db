"""Nodes of the service that chaos calls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from gophersnake import Permanent, node


@node
def work(given: dict[str, Any]) -> dict[str, Any]:
    """Return the number and its square, after a nap."""
    time.sleep(given["nap"])
    if given["fails"]:
        raise Permanent(f"request {given['number']}")
    return {"number": given["number"], "square": given["number"] ** 2, "data": given["data"]}


@node
def count(given: dict[str, Any]) -> Iterator[list[int]]:
    """Yield the number with each of its steps."""
    for step in range(given["steps"]):
        time.sleep(given["nap"])
        yield [given["number"], step]


@node
def double(given: list[int]) -> list[int]:
    """Double the step."""
    return [given[0], 2 * given[1]]
