"""The nodes of the pipelines."""

from typing import Any

import gophersnake
import numpy as np


@gophersnake.node
def work(value: Any) -> Any:
    """Return twice an array, and any other value as it came."""
    if not isinstance(value, np.ndarray):
        return value
    return np.multiply(value, 2, out=gophersnake.empty(value.shape, value.dtype))


@gophersnake.node
def same(value: Any) -> Any:
    """Return a value as it came."""
    return value


@gophersnake.node(batch=32)
def together(values: list[Any]) -> list[Any]:
    """Return all values of a batch as they came."""
    return values


@gophersnake.node
def make(size: int) -> np.ndarray:
    """Return an array of so many bytes. Nobody fills it: it is the handover that counts."""
    return gophersnake.empty(size, "uint8")


@gophersnake.node
def length(array: np.ndarray) -> int:
    """Return how many bytes the array has."""
    return array.nbytes
