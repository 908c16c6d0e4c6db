"""Memory for large results."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["empty"]

Allocate = Callable[[int], Any]

_allocate: Allocate | None = None


def empty(shape: int | Sequence[int], dtype: npt.DTypeLike = "float32") -> npt.NDArray[Any]:
    """Return an array whose elements are not set, as ``numpy.empty`` does.

    In a worker, a large one lies in memory that is shared with the supervisor: a
    node that fills it and returns it, or a contiguous part of it, has nothing
    copied::

        def double(x):
            out = gophersnake.empty(x.shape, x.dtype)
            return numpy.multiply(x, 2, out=out)

    It must not be written to after it was returned: others read it then. Make
    another one for the next call; memory that is not used any more is used again.

    In a test, where the array is small, or where shared memory is full, this is
    ``numpy.empty``, and all else is as it was.

    Args:
        shape: the dimensions, or the only one.
        dtype: anything that NumPy takes for one.

    Raises:
        ImportError: NumPy is not installed.
    """
    try:
        import numpy  # optional
    except ImportError as error:
        raise ImportError("gophersnake.empty needs NumPy; add it to the requirements") from error
    kind = numpy.dtype(dtype)
    if _allocate is not None and not kind.hasobject:
        dims = _dims(shape)
        size = kind.itemsize * math.prod(dims)
        memory = _allocate(size) if dims and min(dims) > 0 else None
        if memory is not None:
            array: npt.NDArray[Any] = memory.view(kind)
            return array if len(dims) == 1 else array.reshape(dims)
    return numpy.empty(shape, kind)


def _dims(shape: int | Sequence[int]) -> tuple[int, ...]:
    if type(shape) is int:
        return (shape,)
    try:
        return (operator.index(shape),)  # type: ignore[arg-type]
    except TypeError:
        return tuple(map(operator.index, shape))  # type: ignore[arg-type]


def allocate_with(allocate: Allocate | None) -> None:
    """Have large arrays lie in memory that this function returns; the worker does."""
    global _allocate  # noqa: PLW0603 - one worker a process
    _allocate = allocate
