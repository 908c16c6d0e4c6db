"""Values to msgpack and back; Go's package ipc describes their form."""

from __future__ import annotations

from typing import Any

import msgpack

from gophersnake.values import Audio, Image, Json, Tensor
from gophersnake.worker import arrays
from gophersnake.worker.frames import Bytes

TENSOR, AUDIO, IMAGE, JSON = 1, 2, 3, 4
"""The extension types that are ours."""

OUT_OF_BAND = 16 << 10
"""From so many bytes on, data travels beside the body instead of inside it."""


class ValueFault(Exception):
    """A value cannot be carried.

    Attributes:
        path: where inside the value, for instance ``"result.items[3].handle"``.
        reason: what is wrong there, and what would do.
    """

    def __init__(self, path: str, reason: str) -> None:
        """Take the place and the reason."""
        super().__init__(f"cannot carry {path}: {reason}")
        self.path = path
        self.reason = reason


class Encoder:
    """Encodes values, one after the other. It is not safe for use by several threads."""

    def __init__(self) -> None:
        """Make the packer, which is used again and again."""
        # strict_types: what is not exactly a list, say, goes through _plain.
        self._packer = msgpack.Packer(default=self._plain, strict_types=True, datetime=True)
        self._inner = msgpack.Packer()
        self._buffers: list[Bytes] = []

    def encode(self, value: Any, root: str = "result") -> tuple[bytes, list[Bytes]]:
        """Return the body and the buffers of a value.

        Keys that are not strings and levels beyond the limit are left for the
        host to find: it looks at every value all the same.

        Raises:
            ValueFault: the value cannot be carried; ``root`` begins its path.
        """
        self._buffers = []
        try:
            body: bytes = self._packer.pack(value)
        except MemoryError:
            raise
        except Exception as error:
            self._packer.reset()
            from gophersnake.worker import faults  # seldom needed

            path, reason = faults.find(value, self._probe) or ("", str(error))
            raise ValueFault(root + path, reason) from error
        buffers, self._buffers = self._buffers, []
        return body, buffers

    def _probe(self, value: Any) -> None:
        """Raise what is wrong with a value that is no container."""
        self._packer.reset()
        try:
            self._packer.pack(value)
        finally:
            self._packer.reset()
            self._buffers = []

    def _plain(self, value: Any) -> Any:
        """Return what msgpack knows for what it does not know."""
        if isinstance(value, Tensor):
            value.check()
            return self._tensor(value.dtype, value.shape, value.data)
        if isinstance(value, Audio):
            data = arrays.samples(value)
            return self._extension(AUDIO, [value.rate, value.channels], data)
        if isinstance(value, Image):
            data = arrays.pixels(value)
            pts = None if value.pts is None else float(value.pts)
            return self._extension(IMAGE, [value.format, value.width, value.height, pts], data)
        if isinstance(value, Json):
            value.load()
            return msgpack.ExtType(JSON, value.text.encode())
        plain = arrays.plain(value)
        if isinstance(plain, Tensor):
            return self._tensor(plain.dtype, plain.shape, plain.data)
        return plain

    def _tensor(self, dtype: str, shape: tuple[int, ...], data: Any) -> msgpack.ExtType:
        return self._extension(TENSOR, [dtype, list(shape)], arrays.flat(data))

    def _extension(self, code: int, parts: list[Any], data: Bytes) -> msgpack.ExtType:
        if len(data) < OUT_OF_BAND:
            return msgpack.ExtType(code, self._inner.pack([*parts, bytes(data)]))
        self._buffers.append(data)
        return msgpack.ExtType(code, self._inner.pack([*parts, None]))


class Decoder:
    """Decodes values, one after the other. It is not safe for use by several threads."""

    def __init__(self) -> None:
        """Begin without buffers."""
        self._buffers: list[Bytes] = []

    def decode(self, body: Bytes, buffers: list[Bytes], root: str = "input") -> Any:
        """Return the value of a body and its buffers.

        Arrays view the buffers and are read-only. Timestamps have microseconds.

        Raises:
            ValueFault: this is no value; ``root`` is its path.
        """
        self._buffers = buffers[::-1] if buffers else buffers
        try:
            value = msgpack.unpackb(body, ext_hook=self._extension, timestamp=3)
        except MemoryError:
            raise
        except msgpack.ExtraData as error:
            raise ValueFault(root, f"{len(error.extra)} bytes follow the value") from error
        except msgpack.StackError as error:
            raise ValueFault(root, "nested too deep") from error
        except Exception as error:
            raise ValueFault(root, f"{error or type(error).__name__}") from error
        if self._buffers:
            raise ValueFault(root, f"{len(self._buffers)} buffers belong to no value")
        return value

    def _extension(self, code: int, payload: bytes) -> Any:
        if code == JSON:
            document = Json(payload.decode())
            document.load()
            return document
        if code not in (TENSOR, AUDIO, IMAGE):
            raise ValueError(f"unknown extension {code}")
        parts = msgpack.unpackb(payload)
        if not isinstance(parts, list) or len(parts) != (5 if code == IMAGE else 3):
            raise ValueError(f"an extension {code} of another form: {parts!r:.80}")
        data = self._data(parts.pop())
        if code == TENSOR:
            return arrays.tensor(Tensor(parts[0], tuple(parts[1]), data))
        if code == AUDIO:
            return arrays.audio(data, *parts)
        return arrays.image(data, *parts)

    def _data(self, data: Any) -> Bytes:
        if isinstance(data, bytes):
            return data
        if data is not None:
            raise ValueError(f"inside an extension: {type(data).__name__} where data belongs")
        if not self._buffers:
            raise ValueError("a buffer is missing")
        return self._buffers.pop()
