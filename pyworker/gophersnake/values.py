"""Values that are more than plain data: tensors, recordings, images, JSON documents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Audio", "Image", "Json", "Shape", "Table", "Tensor"]

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
"""The supported dtypes by their NumPy names, and the bytes of one element."""

PIXEL_SIZES: dict[str, int] = {"gray8": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}
"""The pixel formats of an image, and the bytes of one pixel."""

MAX_DIMENSIONS = 64
"""The most dimensions that a tensor may have, which is NumPy's limit, too."""

MAX_SIDE = 1 << 20
"""The largest width and height of an image, in pixels."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An n-dimensional array as bytes.

    A node gets a NumPy array instead if NumPy is installed and supports the dtype. It may
    return one, or any object that supports ``__dlpack__`` or the buffer protocol. This
    class is for all other cases.

    Attributes:
        dtype: the NumPy name of the dtype, such as ``"float32"``; also ``"bfloat16"``,
            which NumPy itself does not have.
        shape: the dimensions; empty for a scalar.
        data: the elements in C order, little-endian, as ``bytes`` or any other object
            that supports the buffer protocol.
    """

    dtype: str
    shape: tuple[int, ...]
    data: Any

    def check(self) -> None:
        """Check that dtype, shape and data are valid and match.

        Raises:
            ValueError: they are invalid or do not match.
            TypeError: ``data`` does not support the buffer protocol.
        """
        size = ITEM_SIZES.get(self.dtype) if isinstance(self.dtype, str) else None
        if size is None:
            raise ValueError(f"unknown dtype {self.dtype!r}")
        if len(self.shape) > MAX_DIMENSIONS:
            raise ValueError(
                f"a tensor of {len(self.shape)} dimensions, more than the limit of {MAX_DIMENSIONS}"
            )
        if not all(type(dim) is int for dim in self.shape):
            raise ValueError(f"the shape {list(self.shape)} has other elements than integers")
        if any(dim < 0 for dim in self.shape):
            raise ValueError(f"negative dimension in the shape {list(self.shape)}")
        want = size * math.prod(self.shape)
        if want >= 1 << 63:
            raise ValueError(f"the shape {list(self.shape)} is larger than any memory")
        have = memoryview(self.data).nbytes
        if want != have:
            raise ValueError(
                f"a tensor of {self.dtype} and shape {list(self.shape)} "
                f"takes {want} bytes, but has {have}"
            )

    def numpy(self) -> npt.NDArray[Any]:
        """Return the tensor as a NumPy array that is a view of ``data``.

        Returns:
            An array of the tensor's shape and dtype. It is read-only if ``data`` is.

        Raises:
            ImportError: NumPy is not installed, or ml_dtypes for ``"bfloat16"``.
            TypeError: NumPy does not have the dtype.
            ValueError: the data does not have the size of the shape.
        """
        import numpy  # optional

        if self.dtype == "bfloat16":
            import ml_dtypes  # optional

            dtype = numpy.dtype(ml_dtypes.bfloat16)
        else:
            dtype = numpy.dtype(self.dtype).newbyteorder("<")
        return numpy.frombuffer(self.data, dtype).reshape(self.shape)


class Shape:
    """The shape of an array, for annotations: ``Annotated[np.ndarray, Shape("n 3"), "float32"]``.

    Attributes:
        dims: the dimensions. A name stands for any number, the same each time that the
            shape has it; ``"*"`` for any number, and ``"..."`` for any number of dimensions.
    """

    def __init__(self, dims: str) -> None:
        """Create the shape from its dimensions, separated by blanks."""
        self.dims: tuple[int | str, ...] = tuple(
            int(dim) if dim.isdecimal() else dim for dim in dims.split()
        )


@dataclass(slots=True, eq=False)
class Audio:
    """A recording.

    Attributes:
        samples: the samples, float32 between -1 and 1. A node gets a read-only NumPy
            array of shape ``(frames, channels)``. If NumPy is not installed it gets a
            flat ``memoryview`` of floats, with the channels interleaved. A node may
            return an array of shape ``(frames, channels)`` or ``(frames,)``, or any flat
            sequence of floats. Other float and integer dtypes are converted to float32,
            integers without scaling.
        rate: the sample rate in Hz.
        channels: the number of channels. It is only needed for flat samples of more
            than one; 0 takes it from the shape of ``samples``.
    """

    samples: Any
    rate: int
    channels: int = 0

    def __post_init__(self) -> None:
        """Take the number of channels from the shape if it is not given."""
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
        """The duration in seconds."""
        return self.frames / self.rate if self.rate else 0.0


@dataclass(slots=True, eq=False)
class Image:
    """A picture, or a frame of a video.

    Attributes:
        pixels: the pixels, row by row without padding. A node gets a read-only NumPy
            array of dtype uint8 and shape ``(height, width, channels)``, or
            ``(height, width)`` for ``"gray8"``. If NumPy is not installed it gets
            ``bytes``. It may return either.
        format: ``"gray8"``, ``"rgb8"``, ``"bgr8"``, ``"rgba8"`` or ``"bgra8"``.
        width: the width in pixels. If width and height are 0, they are taken from the
            shape of ``pixels``.
        height: the height in pixels.
        pts: the presentation time of a video frame in seconds, ``None`` for a picture.
    """

    pixels: Any
    format: str
    width: int = 0
    height: int = 0
    pts: float | None = None

    def __post_init__(self) -> None:
        """Take width and height from the shape if they are not given."""
        shape = getattr(self.pixels, "shape", None)
        if self.width == 0 and self.height == 0 and shape is not None and len(shape) >= 2:
            self.height, self.width = int(shape[0]), int(shape[1])


@dataclass(frozen=True, slots=True)
class Table:
    """A table as an Arrow IPC stream.

    A node gets a pyarrow.Table instead if pyarrow is installed, or the class of pandas or
    polars that its annotation names. It may return any of these. This class is for all other
    cases, such as a node that only passes tables on.

    Attributes:
        stream: the stream, as ``bytes`` or any other object that supports the buffer
            protocol.
    """

    stream: Any

    def __getattr__(self, name: str) -> Any:
        """Say what is missing, because other code expects a table of pyarrow here."""
        raise AttributeError(
            f"gophersnake.Table has no {name!r}: pyarrow is not installed; add it to the "
            "pipeline's requirements, and the node gets a pyarrow.Table"
        )


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON document, carried as its text.

    Plain values need no JSON: return them as they are. This class is for a document
    whose exact text must be preserved.

    Attributes:
        text: the text of the document.
    """

    text: str

    @classmethod
    def dump(cls, value: Any) -> Json:
        """Return a value as a JSON document.

        Raises:
            ValueError: the value holds NaN, an infinity or a cycle.
            TypeError: the value holds an object that JSON cannot represent.
        """
        import json  # most nodes need none

        return cls(json.dumps(value, allow_nan=False, ensure_ascii=False))

    def load(self) -> Any:
        """Return the document as plain Python values.

        Raises:
            ValueError: the text is not a JSON document.
        """
        import json  # most nodes need none

        return json.loads(self.text, parse_constant=_refuse_constant)

    def check(self) -> None:
        """Check that the text is a JSON document. Numbers may be of any size.

        Raises:
            ValueError: it is not.
        """
        import json  # most nodes need none

        if not isinstance(self.text, str):
            raise ValueError(f"not a JSON document: its text is a {type(self.text).__name__}")
        try:  # parse_int, because Python limits the digits of an int and JSON does not
            json.loads(self.text, parse_constant=_refuse_constant, parse_int=len)
        except RecursionError:
            raise ValueError("not a JSON document: it is nested too deep") from None
        except ValueError as error:
            raise ValueError(f"not a JSON document: {error}") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")
