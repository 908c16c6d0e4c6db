"""Nodes whose values are arrays, most of them large enough for shared memory."""

from __future__ import annotations

from typing import Any

import gophersnake
import numpy as np
from faults import inject
from gophersnake import node


@node
def scale(call: dict[str, Any]) -> Any:
    """Return three times the array plus the number, in half of the calls in shared memory."""
    array = call["array"]
    if call["n"] % 2:
        out = gophersnake.empty(array.shape, array.dtype.name)
        np.multiply(array, 3, out=out)
        out += call["n"]
    else:
        out = array * 3 + call["n"]
    return inject(call, {"n": call["n"], "array": out})


@node
def grow(call: dict[str, Any]) -> Any:
    """Return an array that counts up from the number."""
    out = gophersnake.empty((call["size"],), "int64")
    out[:] = np.arange(call["size"])
    out += call["n"]
    return inject(call, call | {"array": out}, at="grow")


@node
def pass_on(call: dict[str, Any]) -> Any:
    """Return the input, which need not be copied."""
    return inject(call, call, at="pass_on")


@node
def shrink(call: dict[str, Any]) -> Any:
    """Return the sum of the array, and whether it still has the elements that grow made."""
    expected = np.arange(call["size"]) + call["n"]
    same = bool(np.array_equal(call["array"], expected))
    total = int(call["array"].sum())
    return inject(call, {"n": call["n"], "same": same, "total": total}, at="shrink")
