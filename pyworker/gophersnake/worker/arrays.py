"""Arrays of all sorts to bytes and back, with NumPy where it is installed."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import sys
from array import array
from types import ModuleType
from typing import Any

import msgpack

from gophersnake.values import ITEM_SIZES, MAX_SIDE, PIXEL_SIZES, Audio, Image, Tensor
from gophersnake.worker.frames import Bytes

BUFFER_KINDS = {"?": "bool", "e": "float", "f": "float", "d": "float"}
BUFFER_KINDS |= dict.fromkeys("bhilqn", "int") | dict.fromkeys("BHILQN", "uint")
"""The dtypes of the struct module's letters, less the size."""


@functools.cache
def numpy() -> ModuleType | None:
    """Return NumPy, imported by the first value that wants it."""
    try:
        import numpy  # optional, and slow to import
    except ImportError:
        return None
    return numpy


def plain(value: Any) -> Any:
    """Return the value as what msgpack knows or a ``Tensor``.

    Raises:
        TypeError: it has no form on the wire; the message says what would do.
        ValueError: it is of a type that has, but not this one.
    """
    # An enum's member, a NumPy scalar: as the plain type that it is a kind of.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError(
                "a datetime without a time zone could be any instant: "
                "give it one, such as datetime.now(timezone.utc)"
            )
        return msgpack.Timestamp.from_datetime(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    np = sys.modules.get("numpy")  # without it, the value cannot be one of its
    if np is not None and isinstance(value, np.generic):
        item = value.item()
        return item if isinstance(item, (bool, int, float)) else ndarray(np.asarray(value))
    if np is not None and isinstance(value, np.ndarray):
        return ndarray(value)
    return foreign(value)


def foreign(value: Any) -> Any:
    """Return the array of another library, or raise that there is no form for it."""
    if hasattr(value, "__dlpack__"):
        np = numpy()
        if np is None:
            raise TypeError("an array with __dlpack__ needs NumPy; add it to the requirements")
        try:
            return ndarray(np.from_dlpack(value.detach() if hasattr(value, "detach") else value))
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{described(value)} does not give its memory: {error}") from error
    try:
        view = memoryview(value)
    except TypeError:
        raise TypeError(f"{described(value)} has no form on the wire{advice(value)}") from None
    return from_buffer(view)


def from_buffer(view: memoryview) -> Any:
    """Return bytes for a flat buffer of bytes, a ``Tensor`` for any other."""
    if view.format == "B" and view.ndim == 1:
        return bytes(view)
    kind = BUFFER_KINDS.get(view.format[-1:]) if view.format[:-1] in ("", "@", "=", "<") else None
    dtype = kind if kind == "bool" else f"{kind}{8 * view.itemsize}"
    if kind is None or dtype not in ITEM_SIZES:
        raise TypeError(f"a buffer of format {view.format!r} is no tensor")
    return Tensor(dtype, tuple(view.shape or ()), view.tobytes())


def ndarray(value: Any) -> Tensor:
    """Return a NumPy array as a tensor that views its memory where it can."""
    dtype = value.dtype
    if dtype.name not in ITEM_SIZES:
        raise TypeError(f"a NumPy array of dtype {dtype} has no form on the wire")
    if dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big"):
        value = value.astype(dtype.newbyteorder("<"))
    if not value.flags.c_contiguous:
        value = value.copy(order="C")
    # As bytes, because not every dtype has a form as a buffer.
    return Tensor(dtype.name, value.shape, value.reshape(-1).view("u1") if value.size else b"")


def flat(data: Any) -> Bytes:
    """Return contiguous memory as a flat view of bytes."""
    if isinstance(data, (bytes, bytearray)):
        return data
    view = memoryview(data)
    # A view of no elements cannot be cast.
    return view.cast("B") if view.nbytes else b""


def samples(audio: Audio) -> Bytes:
    """Return a recording's samples as interleaved little-endian float32."""
    if audio.rate <= 0 or not isinstance(audio.rate, int):
        raise ValueError(f"an audio rate of {audio.rate} Hz")
    if audio.channels <= 0:
        raise ValueError(f"audio with {audio.channels} channels")
    data, count = _samples(audio.samples, audio.channels)
    if count % audio.channels:
        raise ValueError(
            f"{count} audio samples are no whole number of frames of {audio.channels} channels"
        )
    return data


def _samples(given: Any, channels: int) -> tuple[Bytes, int]:
    np = sys.modules.get("numpy")
    if np is None:
        if not (isinstance(given, (array, memoryview)) and memoryview(given).format == "f"):
            given = array("f", given)
        if sys.byteorder == "big":
            given = array("f", given)
            given.byteswap()
        return flat(given), len(given)
    given = np.asarray(given)
    if given.ndim > 2 or given.dtype.kind not in "fiu":
        raise ValueError(f"audio samples of {given.dtype} and shape {given.shape}")
    if given.ndim == 2 and given.shape[1] != channels:
        raise ValueError(f"audio samples of shape {given.shape}, but {channels} channels")
    return flat(np.ascontiguousarray(given, dtype="<f4")), given.size


def pixels(image: Image) -> Bytes:
    """Return an image's pixels row by row."""
    size = PIXEL_SIZES.get(image.format)
    if size is None:
        raise ValueError(f"unknown image format {image.format!r}")
    if not (0 <= image.width <= MAX_SIDE and 0 <= image.height <= MAX_SIDE):
        raise ValueError(f"an image of {image.width} × {image.height}")
    given = image.pixels
    np = sys.modules.get("numpy")
    if np is not None and isinstance(given, np.ndarray):
        if given.dtype != np.uint8:
            raise ValueError(f"an image's pixels are uint8, not {given.dtype}")
        given = np.ascontiguousarray(given)
    data = flat(given)
    want = image.width * image.height * size
    if len(data) != want:
        raise ValueError(
            f"an image of {image.width} × {image.height} in {image.format} "
            f"takes {want} bytes, but has {len(data)}"
        )
    return data


def tensor(value: Tensor) -> Any:
    """Return a received tensor as an array, where there is one for it."""
    if not isinstance(value.dtype, str) or not all(isinstance(dim, int) for dim in value.shape):
        raise ValueError(f"a tensor of dtype {value.dtype!r} and shape {value.shape!r}")
    value.check()
    if numpy() is None:
        return value
    try:
        array = value.numpy()
    except ImportError:  # bfloat16 without ml_dtypes
        return value
    array.flags.writeable = False
    return array


def audio(data: Bytes, rate: Any, channels: Any) -> Audio:
    """Return a received recording."""
    if not (isinstance(rate, int) and rate > 0):
        raise ValueError(f"an audio rate of {rate!r} Hz")
    if not (isinstance(channels, int) and channels > 0):
        raise ValueError(f"audio with {channels!r} channels")
    if len(data) % (4 * channels):
        raise ValueError(f"{len(data)} bytes are no whole number of frames of {channels} channels")
    np = numpy()
    if np is not None:
        samples = np.frombuffer(data, "<f4").reshape(-1, channels)
        samples.flags.writeable = False
        return Audio(samples, rate, channels)
    if sys.byteorder == "big":
        swapped = array("f", bytes(data))
        swapped.byteswap()
        data = swapped.tobytes()
    return Audio(memoryview(data).toreadonly().cast("f"), rate, channels)


def image(data: Bytes, format: Any, width: Any, height: Any, pts: Any) -> Image:
    """Return a received image."""
    if not (isinstance(width, int) and isinstance(height, int)):
        raise ValueError(f"an image of {width!r} × {height!r}")
    if not (pts is None or isinstance(pts, float)):
        raise ValueError(f"an image's pts is {pts!r}")
    found = Image(data, format, width, height, pts)
    pixels(found)
    np = numpy()
    if np is None:
        found.pixels = bytes(data)
    else:
        shape = (height, width) if format == "gray8" else (height, width, PIXEL_SIZES[format])
        found.pixels = np.frombuffer(data, np.uint8).reshape(shape)
        found.pixels.flags.writeable = False
    return found


def described(value: Any) -> str:
    """Return the class of a value with its article, for messages."""
    kind = type(value)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def advice(value: Any) -> str:
    """Return what would do in place of a value that has no form."""
    if isinstance(value, (set, frozenset)):
        return ": return a list, sorted(…) for instance"
    if isinstance(value, complex):
        return ": return its real and imaginary part"
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta)):
        return ": return text or a number of seconds"
    if hasattr(value, "read") and hasattr(value, "fileno"):
        return ": an open file stays in its process; return its content or its path"
    if hasattr(value, "__next__"):
        return ": return a list of what it yields"
    if hasattr(value, "__fspath__"):
        return ": return str(…) of it"
    return ": return plain values, arrays, or the classes of gophersnake"
