"""Nodes that give values back, make some of their own, and say what they got."""

from __future__ import annotations

import datetime
import hashlib
import math
import random
import struct
import sys
from typing import Any

from gophersnake import Audio, Image, Json, Tensor, node

DTYPES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "float16": 2, "bfloat16": 2, "int32": 4}
DTYPES |= {"float32": 4, "int64": 8, "uint64": 8, "float64": 8, "complex64": 8, "complex128": 16}
PIXELS = {"gray8": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}
FIRST, LAST = -62135596800, 253402300799  # the years 1 to 9999


@node
def echo(value: Any) -> Any:
    """Give back what was given."""
    return value


@node
def make(seed: int) -> dict[str, Any]:
    """Make a value of a seed, and say what it is."""
    value = _value(random.Random(seed), 4)
    return {"value": value, "digest": _digest(value)}


@node
def digest(value: Any) -> str:
    """Say what a value is, to the last bit."""
    return _digest(value)


def _digest(value: Any) -> str:
    hashed = hashlib.sha256()
    _feed(hashed, value)
    return hashed.hexdigest()


def _feed(hashed: Any, value: Any) -> None:
    """Feed the hash, so that no two values feed it alike."""

    def part(kind: str, *data: Any) -> None:
        for each in (kind.encode(), *data):
            each = each if isinstance(each, bytes) else repr(each).encode()
            hashed.update(len(each).to_bytes(8, "little") + each)

    if isinstance(value, float):
        part("float", b"nan" if math.isnan(value) else struct.pack("<d", value))
    elif isinstance(value, list):
        part("list", len(value))
        for item in value:
            _feed(hashed, item)
    elif isinstance(value, dict):
        part("dict", len(value))
        for key in sorted(value):  # Go's maps have no order
            part("key", key)
            _feed(hashed, value[key])
    elif isinstance(value, Audio):
        part("audio", value.rate, value.channels, memoryview(value.samples).tobytes())
    elif isinstance(value, Image):
        part("image", value.format, value.width, value.height, memoryview(value.pixels).tobytes())
        _feed(hashed, value.pts)
    elif isinstance(value, Json):
        part("json", value.text)
    elif isinstance(value, Tensor):
        part("tensor", value.dtype, tuple(value.shape), memoryview(value.data).tobytes())
    elif hasattr(value, "dtype"):  # an array of NumPy's
        part("tensor", value.dtype.name, tuple(value.shape), value.tobytes())
    else:
        part(type(value).__name__, value)


def _value(chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(13 if depth else 11)
    if kind == 11:
        return [_value(chance, depth - 1) for _ in range(chance.randrange(6))]
    if kind == 12:
        return {_text(chance): _value(chance, depth - 1) for _ in range(chance.randrange(6))}
    return MAKERS[kind](chance)


def _text(chance: random.Random) -> str:
    alphabet = "ab \x00\n\"'\\äß€\u2028🐍\U0010ffff"
    return "".join(chance.choice(alphabet) for _ in range(chance.choice([0, 1, 5, 31, 32, 300])))


def _size(chance: random.Random) -> int:
    """Return a size that is small for the most part, and large now and then."""
    return chance.choice([0, 1, 2, 3, 5, 8, 8, chance.randrange(3000)])


def _audio(chance: random.Random) -> Audio:
    channels, frames = chance.randrange(1, 4), _size(chance)
    samples = memoryview(chance.randbytes(4 * channels * frames)).cast("f")
    return Audio(samples, chance.randrange(1, 1 << 31), channels)


def _image(chance: random.Random) -> Image:
    form = chance.choice(list(PIXELS))
    width, height = _size(chance), chance.randrange(9)
    pts = chance.choice([None, chance.random(), -0.0, math.inf])
    return Image(chance.randbytes(width * height * PIXELS[form]), form, width, height, pts)


def _tensor(chance: random.Random) -> Any:
    dtype = chance.choice(list(DTYPES))
    shape = tuple(chance.choice([_size(chance), 1, 2]) for _ in range(chance.randrange(3)))
    value = Tensor(dtype, shape, chance.randbytes(math.prod(shape) * DTYPES[dtype]))
    return value.numpy() if "numpy" in sys.modules and dtype != "bfloat16" else value


MAKERS = [
    lambda chance: None,
    lambda chance: chance.random() < 0.5,
    lambda chance: chance.getrandbits(chance.randrange(1, 64)) * chance.choice([1, -1]),
    lambda chance: chance.randrange(1 << 63, 1 << 64),
    lambda chance: struct.unpack("<d", chance.randbytes(8))[0],
    lambda chance: chance.choice([0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 0.1]),
    _text,
    lambda chance: chance.randbytes(_size(chance) * chance.choice([1, 16])),
    lambda chance: (
        datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        + datetime.timedelta(
            seconds=chance.randrange(FIRST, LAST), microseconds=chance.randrange(1_000_000)
        )
    ),
    lambda chance: chance.choice([_audio, _image])(chance),
    lambda chance: chance.choice([_tensor, lambda _: Json('{"a": [1, 2.50, null]}')])(chance),
]
