"""The nodes of the pipelines that use NumPy."""

from typing import Any

import gophersnake
import numpy as np


@gophersnake.node
def work(value: Any) -> Any:
    """Return an array with each element doubled, and any other value unchanged."""
    if not isinstance(value, np.ndarray):
        return value
    return np.multiply(value, 2, out=gophersnake.empty(value.shape, value.dtype))


@gophersnake.node
def same(value: Any) -> Any:
    """Return the value unchanged."""
    return value


STEPS, WIDTH = 100, 16
"""The shape of the network's input: steps, and numbers in each of them."""

_random = np.random.default_rng(0)
_INPUT, _STATE = (_random.normal(0, 0.1, (WIDTH, WIDTH)).astype("float32") for _ in range(2))


def _recur(steps: np.ndarray) -> np.ndarray:
    """Run the recurrent network; steps has the shape (STEPS, inputs, WIDTH)."""
    state = np.zeros(steps.shape[1:], "float32")
    for step in steps:
        state = np.tanh(step @ _INPUT + state @ _STATE)
    return state.mean(axis=1)


@gophersnake.node
def recur(steps: np.ndarray) -> float:
    """Run the network on one input of the shape (STEPS, WIDTH)."""
    return float(_recur(steps[:, np.newaxis])[0])


@gophersnake.node(batch=32, max_wait_ms=1)
def recur_together(inputs: list[np.ndarray]) -> list[float]:
    """Run the network on all inputs of a batch at once."""
    return [float(each) for each in _recur(np.stack(inputs, axis=1))]


@gophersnake.node
def make(size: int) -> np.ndarray:
    """Return an array of this many bytes, unfilled: only its transfer is measured."""
    return gophersnake.empty(size, "uint8")


@gophersnake.node
def length(array: np.ndarray) -> int:
    """Return the size of the array in bytes."""
    return array.nbytes
