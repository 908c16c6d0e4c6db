"""Allocation of arrays for large results."""

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
    """Return a new array with uninitialized elements, like ``numpy.empty``.

    In a worker, a large array is allocated in memory that is shared with the supervisor.
    If a node fills it and returns it, or a contiguous part of it, nothing is copied::

        def double(x):
            out = gophersnake.empty(x.shape, x.dtype)
            return numpy.multiply(x, 2, out=out)

    Do not write to the array after it has been returned, since others read it then.
    Allocate another one for the next call: memory that is no longer used is reused.

    In a test, for a small array, or if there is no room in shared memory, this is the
    same as ``numpy.empty``.

    Args:
        shape: the dimensions, as a sequence of integers or a single integer.
        dtype: any dtype of NumPy, or its name.

    Returns:
        A writable array of this shape and dtype, in C order.

    Raises:
        ImportError: NumPy is not installed.
        TypeError: the shape or the dtype is invalid.
        ValueError: a dimension is negative.
    """
    try:
        import numpy  # optional
    except ImportError as error:
        raise ImportError("gophersnake.empty needs NumPy; add it to the requirements") from error
    kind = numpy.dtype(dtype)
    if _allocate is not None and not kind.hasobject:
        dims = shape if type(shape) is tuple else _dims(shape)
        size = kind.itemsize * math.prod(dims)
        if type(size) is not int:  # the dimensions are not of Python's own type
            dims = _dims(shape)
            size = kind.itemsize * math.prod(dims)
        memory = _allocate(size) if dims and min(dims) > 0 else None
        if memory is not None:
            array: npt.NDArray[Any] = memory.view(kind)
            return array if len(dims) == 1 else array.reshape(dims)
    return numpy.empty(shape, kind)


def allocated(size: int) -> Any:
    """Return a writable array of ``size`` bytes in shared memory, ``None`` for lack of it."""
    return None if _allocate is None else _allocate(size)


def _dims(shape: int | Sequence[int]) -> tuple[int, ...]:
    if type(shape) is int:
        return (shape,)
    try:
        return (operator.index(shape),)  # type: ignore[arg-type]
    except TypeError:
        return tuple(map(operator.index, shape))  # type: ignore[arg-type]


def allocate_with(allocate: Allocate | None) -> None:
    """Make ``empty`` get memory from this function, ``None`` for none. The worker uses this.

    Args:
        allocate: takes a size in bytes, and returns a writable array of bytes, or
            ``None`` if the size is too small or there is no room.
    """
    global _allocate  # noqa: PLW0603 - a process has one worker
    _allocate = allocate
