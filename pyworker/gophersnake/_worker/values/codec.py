"""Values to msgpack and back; Go's package ipc describes their form."""

from __future__ import annotations

import functools
from typing import Any

import msgpack

from gophersnake._worker.values import arrays, media
from gophersnake._worker.values.plain import plain
from gophersnake._worker.wire.frames import Bytes
from gophersnake.values import Audio, Image, Json, Tensor

TENSOR, AUDIO, IMAGE, JSON = 1, 2, 3, 4
"""The extension types that are ours."""

NAMES = {TENSOR: "a tensor", AUDIO: "audio", IMAGE: "an image", JSON: "a JSON document"}

OUT_OF_BAND = 16 << 10
"""From so many bytes on, data travels beside the body instead of inside it."""

LARGE = 64 << 10
"""From so many bytes on, a body is not copied out of the packer that wrote it."""


BRIEF, KEPT = 128, 256
"""Up to so many bytes, the body of a call that brings one array is kept; so many of them."""


_unpackb = msgpack.unpackb


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


class TooLarge(ValueFault):
    """A result is larger than its node may give.

    Attributes:
        size: its bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        """Take its bytes, and those that are allowed."""
        super().__init__(
            "result", f"it takes {size} bytes, more than the {limit} that limits.result allows"
        )
        self.size = size


class Encoder:
    """Encodes values, one after the other. It is not safe for use by several threads."""

    def __init__(self) -> None:
        """Make the packer, which is used again and again."""
        self._packer = self._new_packer()
        self._large = False  # the last body was
        self._sent: Any = None  # the packer that holds a large body
        self._array: Any = None  # NumPy's, once there was one
        self._inner = msgpack.Packer()
        self._buffers: list[Bytes] = []

    def _new_packer(self, autoreset: bool = True) -> msgpack.Packer:
        # strict_types: what is not exactly a list, say, goes through _plain.
        return msgpack.Packer(
            default=self._plain, strict_types=True, datetime=True, autoreset=autoreset
        )

    def encode(self, value: Any, root: str = "result") -> tuple[Bytes, list[Bytes]]:
        """Return the body and the buffers of a value.

        The buffers view the value's own memory. Keys that are not strings and
        levels beyond the limit are left for the host to find: it looks at every
        value all the same.

        Raises:
            ValueFault: the value cannot be carried; ``root`` begins its path.
        """
        if type(value) is self._array and (viewed := arrays.viewed(value)) is not None:
            name, data = viewed
            if len(data) >= OUT_OF_BAND:
                return _alone(name, value.shape), [data]
        try:
            body = self._pack_large(value) if self._large else self._packer.pack(value)
        except BaseException as error:
            self._reset()
            if not isinstance(error, Exception) or isinstance(error, MemoryError):
                raise
            from gophersnake._worker.values import faults  # seldom needed

            path, reason = faults.find(value, self._probe) or ("", str(error))
            raise ValueFault(root + path, reason) from error
        if len(body) >= LARGE and not self._large:
            self._large = True
            self._packer = self._new_packer()  # lets the memory go
        if not self._buffers:
            return body, []
        buffers, self._buffers = self._buffers, []
        return body, buffers

    def _pack_large(self, value: Any) -> Bytes:
        """Return the body of a value, which is not copied out of the packer if it is large.

        Such bodies seldom come alone: this is for the next one.
        """
        self._sent = None
        packer = self._new_packer(autoreset=False)
        packer.pack(value)
        body: memoryview = packer.getbuffer()
        self._large = len(body) >= LARGE
        if not self._large:
            return bytes(body)
        self._sent = packer  # old versions of msgpack do not keep a viewed one
        return body

    def _reset(self) -> None:
        self._packer.reset()
        self._buffers = []

    def _probe(self, value: Any) -> None:
        """Raise what is wrong with a value that is no container."""
        try:
            self._packer.pack(value)
        finally:
            self._reset()

    def _plain(self, value: Any) -> Any:
        """Return what msgpack knows for what it does not know."""
        if (viewed := arrays.viewed(value)) is not None:
            self._array = type(value)
            return self._extension(TENSOR, [viewed[0], value.shape], viewed[1])
        if isinstance(value, Tensor):
            value.check()
            return self._tensor(value)
        if isinstance(value, Audio):
            return self._extension(AUDIO, *media.encode_audio(value))
        if isinstance(value, Image):
            return self._extension(IMAGE, *media.encode_image(value))
        if isinstance(value, Json):
            value.check()
            return msgpack.ExtType(JSON, value.text.encode())
        found = plain(value)
        return self._tensor(found) if isinstance(found, Tensor) else found

    def _tensor(self, value: Tensor) -> msgpack.ExtType:
        return self._extension(TENSOR, [value.dtype, list(value.shape)], arrays.flat(value.data))

    def _extension(self, code: int, parts: list[Any], data: Bytes) -> msgpack.ExtType:
        if len(data) < OUT_OF_BAND:
            return msgpack.ExtType(code, self._inner.pack([*parts, bytes(data)]))
        self._buffers.append(data)
        return msgpack.ExtType(code, self._inner.pack([*parts, None]))


@functools.lru_cache(KEPT)
def _alone(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the body of a value that is a tensor whose data travels beside it.

    It is kept, because most nodes return arrays of a few shapes.
    """
    inner = msgpack.packb([dtype, shape, None])
    body: bytes = msgpack.packb(msgpack.ExtType(TENSOR, inner))
    return body


class Decoder:
    """Decodes values, one after the other. It is not safe for use by several threads."""

    def __init__(self) -> None:
        """Begin without buffers."""
        self._buffers: list[Any] = []
        self._hook = self._extension  # bound once
        self._alone: dict[bytes, tuple[Any, tuple[int, ...]]] = {}

    def alone(self, body: Bytes, buffers: list[Any]) -> Any:
        """Return the only input of a call, where ``keep`` knows its body: an array; else ``None``.

        ``decode`` would return the same, and says what is wrong where something is.
        """
        if not _is_shared(buffers) or (known := self._alone.get(bytes(body))) is None:
            return None
        dtype, shape = known
        try:
            array = buffers[0].view(dtype)
            return array if array.shape == shape else array.reshape(shape)
        except ValueError:
            return None

    def keep(self, body: Bytes, buffers: list[Any], array: Any) -> None:
        """Keep the form of an array that was the only input of a call, if it is a shared one.

        Most callers send arrays of a few shapes.
        """
        if _is_shared(buffers) and len(body) <= BRIEF and arrays.viewed(array) is not None:
            if len(self._alone) >= KEPT:
                self._alone.clear()
            self._alone[bytes(body)] = array.dtype, array.shape

    def decode(self, body: Bytes, buffers: list[Any], root: str = "input") -> Any:
        """Return the value of a body and its buffers.

        Arrays view the buffers and are read-only. Timestamps have microseconds.
        Keys of bytes, and levels between the limit and msgpack's own, are not
        looked for: the host has checked what it sends, and would be slower for it.

        Raises:
            ValueFault: this is no value; ``root`` begins its path.
        """
        self._buffers = buffers[::-1] if buffers else buffers
        try:
            value = _unpackb(body, ext_hook=self._hook, timestamp=3)
        except MemoryError:
            raise
        except Exception as error:
            from gophersnake._worker.values import scan  # seldom needed

            self._buffers = buffers[::-1]
            reason = str(error) or type(error).__name__
            path, reason = scan.find(body, self._extension) or ("", reason)
            self._buffers = []
            raise ValueFault(root + path, reason) from error
        if self._buffers:
            self._buffers, left = [], len(self._buffers)  # shared ones are not to be kept
            raise ValueFault(root, f"{left} buffers belong to no value")
        return value

    def _extension(self, code: int, payload: bytes) -> Any:
        if code == JSON:
            return _document(payload)
        if code not in NAMES:
            raise ValueError(f"unknown extension {code}")
        parts = _parts(code, payload)
        data = self._data(parts.pop())
        if code == TENSOR:
            return arrays.tensor(parts[0], parts[1], data)
        if code == AUDIO:
            return media.decode_audio(data, *parts)
        return media.decode_image(data, *parts)

    def _data(self, data: Any) -> Any:
        if isinstance(data, bytes):
            return data
        if data is not None:
            raise ValueError(f"inside an extension: {type(data).__name__} where data belongs")
        if not self._buffers:
            raise ValueError("a buffer is missing")
        return self._buffers.pop()


def _is_shared(buffers: list[Any]) -> bool:
    """Tell whether there is one buffer, and it did not come through the socket."""
    return len(buffers) == 1 and not isinstance(buffers[0], (bytes, bytearray))


def _document(payload: bytes) -> Json:
    try:
        document = Json(payload.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"no JSON document: it is not UTF-8: {error.reason}") from None
    document.check()
    return document


def _parts(code: int, payload: bytes) -> list[Any]:
    try:
        parts = msgpack.unpackb(payload)
    except msgpack.ExtraData as error:
        raise ValueError(f"{len(error.extra)} bytes follow inside extension {code}") from None
    except Exception as error:
        raise ValueError(
            f"the payload of extension {code} ends in the middle, or is no msgpack: {error}"
        ) from None
    if not isinstance(parts, list):
        raise ValueError(f"inside an extension: {type(parts).__name__} where an array belongs")
    want = 5 if code == IMAGE else 3
    if len(parts) != want:
        raise ValueError(f"{NAMES[code]} of {len(parts)} parts instead of {want}")
    return parts
