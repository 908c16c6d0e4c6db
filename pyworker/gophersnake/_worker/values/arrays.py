"""Converts arrays of all kinds to bytes and back, with NumPy if it is installed."""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

from gophersnake._worker.values.format import Refused
from gophersnake._worker.wire.frames import Bytes
from gophersnake.values import ITEM_SIZES, Tensor

BUFFER_KINDS = {"?": "bool", "e": "float", "f": "float", "d": "float"}
BUFFER_KINDS |= dict.fromkeys("bhilqn", "int") | dict.fromkeys("BHILQN", "uint")
"""The dtypes of the struct module's format letters, without the size."""


@functools.cache
def dtypes() -> dict[str, Any]:
    """Return the NumPy dtypes that can be carried, by their names on the wire.

    Raises:
        ImportError: NumPy is not installed.
    """
    import numpy  # optional

    return {name: numpy.dtype(name).newbyteorder("<") for name in ITEM_SIZES if name != "bfloat16"}


@functools.cache
def _names() -> dict[Any, str]:
    """Return the names of those dtypes, by dtype."""
    import numpy  # its caller has found it imported

    names = {dtype: name for name, dtype in dtypes().items()}
    # Most arrays have these very dtype objects, which are found without a comparison.
    native = map(numpy.dtype, dtypes())
    return {dtype: names[dtype] for dtype in native if dtype in names} | names


def view_ndarray(value: Any) -> tuple[str, memoryview] | None:
    """Return dtype and bytes of an ordinary NumPy array, ``None`` for anything else.

    This is a fast path for what ``ndarray`` returns. A worker runs it with cold caches,
    so each step costs several times what it costs in a loop.
    """
    np = sys.modules.get("numpy")
    if np is None or type(value) is not np.ndarray:
        return None
    name = _names().get(value.dtype)
    if name is None:
        return None
    view = memoryview(value)
    return (name, view.cast("B")) if view.c_contiguous and view.nbytes else None


@functools.cache
def numpy() -> ModuleType | None:
    """Return NumPy, imported by the first value that needs it; ``None`` if not installed."""
    try:
        import numpy  # optional, and slow to import
    except ImportError:
        return None
    return numpy


def foreign(value: Any) -> Any:
    """Convert the array of another library; ``None`` if the value is not an array.

    Raises:
        Refused: the array's memory cannot be accessed, or its elements have no dtype.
    """
    if hasattr(value, "__dlpack__"):
        np = numpy()
        if np is None:
            raise Refused(
                f"an array of another library ({type(value).__name__}) needs NumPy",
                "add numpy to the pipeline's requirements",
            )
        try:
            # PyTorch does not export tensors that require a gradient.
            return ndarray(np.from_dlpack(value.detach() if hasattr(value, "detach") else value))
        except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
            from gophersnake._worker.values import advice  # only mistakes need it

            raise advice.export_refusal(value, error) from error
    try:
        view = memoryview(value)
    except TypeError:
        return None
    found = from_buffer(view)
    if found is None:
        from gophersnake._worker.values import advice  # only mistakes need it

        raise advice.format_refusal(value, view.format)
    return found


def from_buffer(view: memoryview) -> Any:
    """Return bytes for a flat buffer of bytes, a ``Tensor`` for any other.

    It returns ``None`` if the format of the elements has no dtype.
    """
    if view.format in ("B", "c") and view.ndim == 1:
        return view.tobytes()
    kind = BUFFER_KINDS.get(view.format[-1:]) if view.format[:-1] in ("", "@", "=", "<") else None
    dtype = kind if kind == "bool" else f"{kind}{8 * view.itemsize}"
    if kind is None or dtype not in ITEM_SIZES:
        return None
    return Tensor(dtype, tuple(view.shape or ()), view.tobytes())


def ndarray(value: Any) -> Tensor:
    """Return a NumPy array as a tensor, which views its memory if possible.

    Raises:
        Refused: arrays of its dtype cannot be sent, or some of its elements are masked.
    """
    np = sys.modules["numpy"]
    dtype = value.dtype
    if dtype.name not in ITEM_SIZES:
        from gophersnake._worker.values import advice  # only mistakes need it

        raise advice.dtype_refusal(value)
    if type(value) is not np.ndarray:
        if np.any(getattr(value, "mask", False)):
            raise Refused(
                "an array with masked elements",
                "instead of x, return x.filled(0), or with another value for them",
            )
        value = np.asarray(value)
    if dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big"):
        value = value.astype(dtype.newbyteorder("<"))
    if not value.flags.c_contiguous:
        value = value.copy(order="C")
    # As bytes, because not every dtype supports the buffer protocol.
    return Tensor(dtype.name, value.shape, value.reshape(-1).view("u1") if value.size else b"")


def flat(data: Any) -> Bytes:
    """Return memory as flat bytes: a view, or a copy if it is not contiguous.

    Raises:
        TypeError: the object does not support the buffer protocol.
    """
    if isinstance(data, (bytes, bytearray)):
        return data
    view = memoryview(data)
    try:  # a view without elements cannot be cast
        return view.cast("B") if view.nbytes else b""
    except TypeError:  # it is not contiguous, or of a foreign byte order
        return view.tobytes()


def address(data: Any) -> int:
    """Return the address of memory; 0 if NumPy, which finds it, is not installed."""
    np = numpy()
    return 0 if np is None else int(np.frombuffer(data, np.uint8).__array_interface__["data"][0])


def tensor(dtype: Any, shape: Any, data: Bytes) -> Any:
    """Return a received tensor as a read-only array, or as a ``Tensor`` if NumPy cannot hold it.

    Raises:
        ValueError: the parts do not fit together.
    """
    array = _array(dtype, shape, data)
    if array is not None:
        return array
    if not isinstance(shape, list):
        raise ValueError(f"inside an extension: the shape {shape!r:.80}")
    if any(type(dim) is not int or dim < 0 for dim in shape):
        raise ValueError(f"inside an extension: the shape {shape!r:.80}")
    value = Tensor(dtype, tuple(shape), data)
    value.check()
    if numpy() is not None:
        try:
            array = value.numpy()
        except (ImportError, ValueError):  # bfloat16 without ml_dtypes; too many dimensions
            pass
        else:
            array.flags.writeable = False
            return array
    return Tensor(dtype, value.shape, memoryview(data).toreadonly())


def _array(dtype: Any, shape: Any, data: Any) -> Any:
    """Return a tensor as an array; ``None`` if it is of a rare kind or invalid."""
    np = numpy()
    if np is None or type(dtype) is not str or type(shape) is not list:
        return None
    for dim in shape:
        if type(dim) is not int or dim < 0:
            return None
    try:
        known = dtypes()[dtype]
        array = data.view(known) if type(data) is np.ndarray else np.frombuffer(data, known)
        if len(shape) != 1 or shape[0] != array.size:
            array = array.reshape(shape)
    except (KeyError, ValueError):
        return None
    array.setflags(write=False)
    return array
