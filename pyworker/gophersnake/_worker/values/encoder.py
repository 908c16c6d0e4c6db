"""Encodes values as msgpack bodies with buffers beside them."""

from __future__ import annotations

import functools
from typing import Any

import msgpack

from gophersnake._worker.values import arrays, media
from gophersnake._worker.values.format import (
    AUDIO,
    BYTES_FORM,
    IMAGE,
    JSON,
    JSON_FORM,
    LARGE,
    LARGE_FROM,
    OUT_OF_BAND,
    TABLE,
    TENSOR,
    ValueFault,
)
from gophersnake._worker.values.large import Large, lift
from gophersnake._worker.values.plain import plain
from gophersnake._worker.wire.frames import Bytes
from gophersnake.values import Audio, Image, Json, Table, Tensor

UNCOPIED = 64 << 10
"""A body of at least this many bytes is not copied out of the packer that made it."""

SEARCHES = 16
"""How many values after one with large parts are searched for such parts before they are packed."""

SHAPES = 256
"""For how many dtypes and shapes the body of a plain array result is cached."""


class Encoder:
    """Encodes values, one after another. Not safe for concurrent use."""

    def __init__(self) -> None:
        """Create the packer, which is used for all values."""
        self._packer = self._new_packer()
        self._large = False  # whether the last body was large
        self._sent: Any = None  # the packer that holds a large body
        self._array: Any = None  # NumPy's array type, once an array was encoded
        self._searches = 0  # how many further values are searched first
        self._inner = msgpack.Packer()
        self._buffers: list[Bytes] = []

    def _new_packer(self, autoreset: bool = True) -> msgpack.Packer:
        # With strict_types, subclasses of list, dict and so on go through _convert, too.
        return msgpack.Packer(
            default=self._convert, strict_types=True, datetime=True, autoreset=autoreset
        )

    def encode(self, value: Any, root: str = "result") -> tuple[Bytes, list[Bytes]]:
        """Return the body and the buffers of a value.

        The buffers are views of the value's own memory. Keys that are not strings and
        nesting beyond the limit are not checked here: the supervisor checks every value.

        Args:
            value: the value.
            root: the beginning of the path in an error.

        Raises:
            ValueFault: the value cannot be carried.
            MemoryError: there is not enough memory for the body.
        """
        if type(value) is self._array and (viewed := arrays.view_ndarray(value)) is not None:
            name, data = viewed
            if len(data) >= OUT_OF_BAND:
                return _tensor_body(name, value.shape), [data]
        try:
            if self._searches or self._large:
                if type(value) is bytes and len(value) >= LARGE_FROM and self._searches:
                    self._searches = SEARCHES
                    return _BYTES_BODY, [value]
                body = self._body(value)
            else:
                body = self._packer.pack(value)
                if len(body) >= LARGE_FROM:
                    body = self._without_large(value, body)
        except BaseException as error:
            self._reset()
            if not isinstance(error, Exception) or isinstance(error, MemoryError):
                raise
            from gophersnake._worker.values import faults  # seldom needed

            found = faults.find_in_value(value, self._probe) or faults.Fault("", str(error))
            raise ValueFault(root + found.path, found.reason, found.hint) from error
        if len(body) >= UNCOPIED and not self._large:
            self._large = True
            self._packer = self._new_packer()  # the old one keeps its large buffer
        if not self._buffers:
            return body, []
        buffers, self._buffers = self._buffers, []
        return body, buffers

    def _body(self, value: Any) -> Bytes:
        """Return the body of a value, whose large parts are in buffers if they are found."""
        if self._searches:
            lifted = lift(value)
            self._searches = self._searches - 1 if lifted is value else SEARCHES
            return self._pack(lifted)
        body = self._pack(value)
        return body if len(body) < LARGE_FROM else self._without_large(value, body)

    def _without_large(self, value: Any, body: Bytes) -> Bytes:
        """Return the body of a value, given one with its large parts if it has some."""
        lifted = lift(value)
        if lifted is value:
            return body
        self._searches = SEARCHES
        self._buffers = []
        self._packer = self._new_packer()  # the old one keeps the memory of the body
        return self._pack(lifted)

    def _pack(self, value: Any) -> Bytes:
        return self._pack_large(value) if self._large else self._packer.pack(value)

    def _pack_large(self, value: Any) -> Bytes:
        """Return the body of a value; a large one is not copied out of its packer.

        It is called after a large body, since the next one is then likely to be large.
        """
        self._sent = None
        packer = self._new_packer(autoreset=False)
        packer.pack(value)
        body: memoryview = packer.getbuffer()
        self._large = len(body) >= UNCOPIED
        if not self._large:
            return bytes(body)
        self._sent = packer  # in old versions of msgpack the view does not keep it alive
        return body

    def _reset(self) -> None:
        self._packer.reset()
        self._buffers = []

    def _probe(self, value: Any) -> None:
        """Raise the error of a value that is not a container."""
        try:
            self._packer.pack(value)
        finally:
            self._reset()

    def _convert(self, value: Any) -> Any:
        """Return an equivalent that msgpack can pack for a value that it cannot."""
        if (viewed := arrays.view_ndarray(value)) is not None:
            self._array = type(value)
            return self._extension(TENSOR, [viewed[0], value.shape], viewed[1])
        if isinstance(value, Large):
            return self._large_part(value)
        if isinstance(value, Tensor):
            value.check()
            return self._tensor(value)
        if isinstance(value, Audio):
            return self._extension(AUDIO, *media.encode_audio(value))
        if isinstance(value, Image):
            return self._extension(IMAGE, *media.encode_image(value))
        if isinstance(value, Json):
            value.check()
            text = value.text.encode()
            if len(text) < LARGE_FROM:
                return msgpack.ExtType(JSON, text)
            return self._extension(LARGE, [JSON_FORM], text)
        found = plain(value)
        if isinstance(found, (bytes, str)) and len(found) >= LARGE_FROM:
            return self._large_part(Large(found))
        if isinstance(found, Table):
            return self._extension(TABLE, [], arrays.flat(found.stream))
        return self._tensor(found) if isinstance(found, Tensor) else found

    def _tensor(self, value: Tensor) -> msgpack.ExtType:
        return self._extension(TENSOR, [value.dtype, list(value.shape)], arrays.flat(value.data))

    def _large_part(self, value: Large) -> msgpack.ExtType:
        return self._extension(LARGE, [value.form], value.data)

    def _extension(self, code: int, parts: list[Any], data: Bytes) -> msgpack.ExtType:
        if len(data) < OUT_OF_BAND:
            return msgpack.ExtType(code, self._inner.pack([*parts, bytes(data)]))
        self._buffers.append(data)
        return msgpack.ExtType(code, self._inner.pack([*parts, None]))


_BYTES_BODY: bytes = msgpack.packb(msgpack.ExtType(LARGE, msgpack.packb([BYTES_FORM, None])))
"""The body of a value that is large bytes, which are in the buffer."""


@functools.lru_cache(SHAPES)
def _tensor_body(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the body of a value that is a single tensor with its data in a buffer.

    It is cached because most nodes return arrays of a few shapes.
    """
    inner = msgpack.packb([dtype, shape, None])
    body: bytes = msgpack.packb(msgpack.ExtType(TENSOR, inner))
    return body
