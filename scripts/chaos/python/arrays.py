"""Nodes whose values are arrays, most of them large enough for shared memory."""

from __future__ import annotations

from typing import Any

import gophersnake
import numpy as np
from gophersnake import node
from wounds import hurt


@node
def scale(call: dict[str, Any]) -> Any:
    """Return three times the array and the number, in memory of its own or not."""
    array = call["array"]
    if call["n"] % 2:
        out = gophersnake.empty(array.shape, array.dtype.name)
        np.multiply(array, 3, out=out)
        out += call["n"]
    else:
        out = array * 3 + call["n"]
    return hurt(call, {"n": call["n"], "array": out})


@node
def grow(call: dict[str, Any]) -> Any:
    """Make an array of a number."""
    out = gophersnake.empty((call["size"],), "int64")
    out[:] = np.arange(call["size"])
    out += call["n"]
    return hurt(call, call | {"array": out}, at="grow")


@node
def pass_on(call: dict[str, Any]) -> Any:
    """Give back what came, which need not be copied."""
    return hurt(call, call, at="pass_on")


@node
def shrink(call: dict[str, Any]) -> Any:
    """Make a number of an array, all of which is as it was made."""
    right = np.arange(call["size"]) + call["n"]
    same = bool(np.array_equal(call["array"], right))
    total = int(call["array"].sum())
    return hurt(call, {"n": call["n"], "same": same, "total": total}, at="shrink")
