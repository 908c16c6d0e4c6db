"""Converts recordings and images to bytes and back, with NumPy if it is installed."""

from __future__ import annotations

import operator
import sys
from array import array
from typing import Any

from gophersnake._worker.values import arrays
from gophersnake._worker.wire.frames import Bytes
from gophersnake.values import MAX_SIDE, PIXEL_SIZES, Audio, Image

MAX_COUNT = (1 << 31) - 1
"""The largest sample rate and number of channels."""


def _whole(value: Any) -> int | None:
    """Return an integer (also one of NumPy's) as an int, ``None`` for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def encode_audio(audio: Audio) -> tuple[list[Any], Bytes]:
    """Return rate and channels, and the samples as interleaved little-endian float32.

    Raises:
        ValueError: the parts do not fit together, or the samples are not numbers.
        TypeError: the samples are not a sequence.
    """
    rate, channels = _whole(audio.rate), _whole(audio.channels)
    if rate is None or not 0 < rate <= MAX_COUNT:
        raise ValueError(f"an audio rate of {audio.rate!r:.40} Hz; it must be a positive integer")
    if channels is None or not 0 < channels <= MAX_COUNT:
        raise ValueError(f"audio with {audio.channels!r:.40} channels")
    data = _samples(audio.samples, channels)
    count = len(data) // 4
    if count % channels:
        raise ValueError(
            f"{count} audio samples are not a whole number of frames of {channels} channels"
        )
    return [rate, channels], data


def _samples(given: Any, channels: int) -> Bytes:
    if isinstance(given, (str, bytes, bytearray)):
        raise ValueError(f"audio samples as {type(given).__name__}; give floats")
    np = sys.modules.get("numpy")
    if np is None and not isinstance(given, (list, tuple, array, memoryview)):
        np = arrays.numpy()  # the samples may be an array of another library
    if np is None:
        return _floats(given)
    given = np.asarray(given)
    if given.ndim not in (1, 2) or (given.dtype.kind not in "fiu" and given.size):
        raise ValueError(f"audio samples of {given.dtype} and shape {given.shape}")
    if given.ndim == 2 and given.shape[1] != channels:
        raise ValueError(f"audio samples of shape {given.shape}, but {channels} channels")
    return arrays.flat(np.ascontiguousarray(given, dtype="<f4"))


def _floats(given: Any) -> Bytes:
    """Convert samples without NumPy."""
    if not (isinstance(given, (array, memoryview)) and memoryview(given).format == "f"):
        given = array("f", given)
    if sys.byteorder == "big":
        given = array("f", memoryview(given).tobytes())
        given.byteswap()
    return arrays.flat(given)


def encode_image(image: Image) -> tuple[list[Any], Bytes]:
    """Return format, width, height and pts, and the pixels row by row.

    Raises:
        ValueError: the parts do not fit together.
        TypeError: the pixels do not support the buffer protocol, or pts is not a number.
    """
    width, height = _whole(image.width), _whole(image.height)
    pts = None if image.pts is None else float(image.pts)
    pixels = image.pixels
    np = sys.modules.get("numpy")
    if hasattr(pixels, "__dlpack__") and not (np is not None and isinstance(pixels, np.ndarray)):
        pixels = arrays.foreign(pixels)
        if pixels.dtype != "uint8":
            raise ValueError(f"an image's pixels are uint8, not {pixels.dtype}")
        pixels = pixels.data
    elif np is not None and isinstance(pixels, np.ndarray):
        if pixels.dtype != np.uint8:
            raise ValueError(f"an image's pixels are uint8, not {pixels.dtype}")
        pixels = np.ascontiguousarray(pixels)
    data = arrays.flat(pixels)
    if width is None or height is None:
        raise ValueError(f"an image of {image.width!r:.40} × {image.height!r:.40}")
    _check_image(image.format, width, height, data)
    return [image.format, width, height, pts], data


def _check_image(format: Any, width: int, height: int, data: Bytes) -> None:
    size = PIXEL_SIZES.get(format) if isinstance(format, str) else None
    if size is None:
        raise ValueError(
            f"unknown image format {format!r:.40}; known formats: {', '.join(PIXEL_SIZES)}"
        )
    if not (0 <= width <= MAX_SIDE and 0 <= height <= MAX_SIDE):
        raise ValueError(f"an image of {width} × {height}")
    want = width * height * size
    if len(data) != want:
        raise ValueError(
            f"an image of {width} × {height} in {format} takes {want} bytes, but has {len(data)}"
        )


def decode_audio(data: Bytes, rate: Any, channels: Any) -> Audio:
    """Return a received recording, whose samples are read-only.

    Raises:
        ValueError: the parts do not fit together.
    """
    for number in (rate, channels):
        if type(number) is not int or not 0 <= number <= MAX_COUNT:
            raise ValueError(f"inside an extension: the number {number!r:.40}")
    if rate == 0:
        raise ValueError("an audio rate of 0 Hz")
    if channels == 0:
        raise ValueError("audio with 0 channels")
    if len(data) % 4:
        raise ValueError(f"{len(data)} bytes are not a whole number of float32 samples")
    if len(data) % (4 * channels):
        raise ValueError(
            f"{len(data) // 4} audio samples are not a whole number of frames of {channels} channels"
        )
    np = arrays.numpy()
    if np is not None:
        samples = np.frombuffer(data, "<f4").reshape(-1, channels)
        samples.flags.writeable = False
        return Audio(samples, rate, channels)
    if sys.byteorder == "big":
        swapped = array("f", bytes(data))
        swapped.byteswap()
        data = swapped.tobytes()
    return Audio(memoryview(data).toreadonly().cast("f"), rate, channels)


def decode_image(data: Bytes, format: Any, width: Any, height: Any, pts: Any) -> Image:
    """Return a received image, whose pixels are read-only.

    Raises:
        ValueError: the parts do not fit together.
    """
    for number in (width, height):
        if type(number) is not int or not 0 <= number <= MAX_COUNT:
            raise ValueError(f"inside an extension: the number {number!r:.40}")
    if not (pts is None or isinstance(pts, float)):
        raise ValueError(f"an image's pts is {pts!r:.40}; it must be a float or nil")
    _check_image(format, width, height, data)
    np = arrays.numpy()
    if np is None:
        return Image(bytes(data), format, width, height, pts)
    shape = (height, width) if format == "gray8" else (height, width, PIXEL_SIZES[format])
    pixels = np.frombuffer(data, np.uint8).reshape(shape)
    pixels.flags.writeable = False
    return Image(pixels, format, width, height, pts)
