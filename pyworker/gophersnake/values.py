"""The values that are more than plain data: tensors, recordings, images, documents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Audio", "Image", "Json", "Tensor"]

ITEM_SIZES: dict[str, int] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}
"""The dtypes that can be carried, by NumPy name, and the bytes of one element."""

PIXEL_SIZES: dict[str, int] = {"gray8": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}
"""The formats of an image, and the bytes of one pixel."""

MAX_DIMENSIONS = 64
"""The most dimensions of a tensor; NumPy's own limit."""

MAX_SIDE = 1 << 20
"""The largest width and height of an image, in pixels."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An n-dimensional array as bytes.

    A node gets a NumPy array instead where NumPy is installed and knows the dtype,
    and may return one, or anything with ``__dlpack__`` or the buffer protocol.
    This class is for what NumPy is not there for.

    Attributes:
        dtype: a NumPy name such as ``"float32"``; also ``"bfloat16"``.
        shape: the dimensions; empty for a scalar.
        data: the elements in C order, little-endian; anything with the buffer
            protocol, ``bytes`` for instance.
    """

    dtype: str
    shape: tuple[int, ...]
    data: Any

    def check(self) -> None:
        """Hold dtype, shape and data against each other.

        Raises:
            ValueError: they do not fit together.
            TypeError: ``data`` has no buffer protocol.
        """
        size = ITEM_SIZES.get(self.dtype) if isinstance(self.dtype, str) else None
        if size is None:
            raise ValueError(f"unknown dtype {self.dtype!r}")
        if len(self.shape) > MAX_DIMENSIONS:
            raise ValueError(
                f"a tensor of {len(self.shape)} dimensions, more than the limit of {MAX_DIMENSIONS}"
            )
        if not all(type(dim) is int for dim in self.shape):
            raise ValueError(f"shape {list(self.shape)} is not of integers")
        if any(dim < 0 for dim in self.shape):
            raise ValueError(f"negative dimension in shape {list(self.shape)}")
        want = size * math.prod(self.shape)
        if want >= 1 << 63:
            raise ValueError(f"shape {list(self.shape)} is larger than any memory")
        have = memoryview(self.data).nbytes
        if want != have:
            raise ValueError(
                f"a tensor of {self.dtype} and shape {list(self.shape)} "
                f"takes {want} bytes, but has {have}"
            )

    def numpy(self) -> npt.NDArray[Any]:
        """Return the tensor as a NumPy array that views ``data``.

        Raises:
            ImportError: NumPy is not installed, or ml_dtypes for ``"bfloat16"``.
            ValueError: the data does not fill the shape, or NumPy does not know
                the dtype.
        """
        import numpy  # optional

        if self.dtype == "bfloat16":
            import ml_dtypes  # optional

            dtype = numpy.dtype(ml_dtypes.bfloat16)
        else:
            dtype = numpy.dtype(self.dtype).newbyteorder("<")
        return numpy.frombuffer(self.data, dtype).reshape(self.shape)


@dataclass(slots=True, eq=False)
class Audio:
    """A recording.

    Attributes:
        samples: float32 between -1 and 1. A node gets a NumPy array of shape
            ``(frames, channels)``, or where NumPy is not installed a flat
            ``memoryview`` of floats with the channels interleaved. It may return
            an array of shape ``(frames, channels)`` or ``(frames,)``, or any flat
            sequence of floats; other float and integer dtypes are converted,
            integers without scaling.
        rate: samples a second of each channel, in Hz.
        channels: how many there are; only needed for flat samples of more than one.
    """

    samples: Any
    rate: int
    channels: int = 0

    def __post_init__(self) -> None:
        """Take the number of channels from the shape where it is not given."""
        if self.channels == 0:
            shape: tuple[int, ...] = getattr(self.samples, "shape", None) or ()
            self.channels = int(shape[1]) if len(shape) == 2 else 1

    @property
    def frames(self) -> int:
        """The number of samples of each channel."""
        shape = getattr(self.samples, "shape", None)
        if shape is not None and len(shape) == 2:
            return int(shape[0])
        return len(self.samples) // self.channels if self.channels else 0

    @property
    def duration(self) -> float:
        """The length in seconds."""
        return self.frames / self.rate if self.rate else 0.0


@dataclass(slots=True, eq=False)
class Image:
    """A picture, or a frame of video.

    Attributes:
        pixels: bytes, row by row without padding. A node gets a NumPy array of
            uint8 and shape ``(height, width, channels)``, or ``(height, width)``
            for ``"gray8"``; ``bytes`` where NumPy is not installed. It may return
            either.
        format: ``"gray8"``, ``"rgb8"``, ``"bgr8"``, ``"rgba8"`` or ``"bgra8"``.
        width: in pixels; taken from the array's shape where it is not given.
        height: in pixels; likewise.
        pts: presentation time of a video frame in seconds, ``None`` for a picture.
    """

    pixels: Any
    format: str
    width: int = 0
    height: int = 0
    pts: float | None = None

    def __post_init__(self) -> None:
        """Take width and height from the shape where they are not given."""
        shape = getattr(self.pixels, "shape", None)
        if self.width == 0 and self.height == 0 and shape is not None and len(shape) >= 2:
            self.height, self.width = int(shape[0]), int(shape[1])


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON document, carried as its text.

    Plain values need no JSON: return them as they are. This is for a document
    that is to reach the other side letter by letter.

    Attributes:
        text: the document.
    """

    text: str

    @classmethod
    def dump(cls, value: Any) -> Json:
        """Return the document of a value.

        Raises:
            ValueError: the value holds NaN or an infinity, which JSON has not.
            TypeError: the value holds what JSON has not.
        """
        import json  # most nodes need none

        return cls(json.dumps(value, allow_nan=False, ensure_ascii=False))

    def load(self) -> Any:
        """Return the document as plain Python values.

        Raises:
            ValueError: the text is not JSON.
        """
        import json  # most nodes need none

        return json.loads(self.text, parse_constant=_refuse_constant)

    def check(self) -> None:
        """Look whether the text is a JSON document, of whatever numbers.

        Raises:
            ValueError: it is not.
        """
        import json  # most nodes need none

        if not isinstance(self.text, str):
            raise ValueError(f"no JSON document: its text is a {type(self.text).__name__}")
        try:  # Python bounds the digits of an int, JSON does not
            json.loads(self.text, parse_constant=_refuse_constant, parse_int=len)
        except RecursionError:
            raise ValueError("no JSON document: it is nested too deep") from None
        except ValueError as error:
            raise ValueError(f"no JSON document: {error}") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")
