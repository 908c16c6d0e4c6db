"""Decodes msgpack bodies, and the buffers beside them, into values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgpack

from gophersnake._worker.values import arrays, media, tables
from gophersnake._worker.values.format import (
    AUDIO,
    BYTES_FORM,
    JSON,
    JSON_FORM,
    LARGE,
    NAMES,
    PARTS,
    TABLE,
    TENSOR,
    TEXT_FORM,
    ValueFault,
)
from gophersnake._worker.wire.frames import Bytes, Limits, ProtocolError
from gophersnake.values import Json

FORM_BYTES, FORMS = 128, 256
"""The size up to which the body of a call with one large value is remembered, and how many
such bodies are."""

VALUE, ARRAY, MAP, KEY, EXTENSION = 32, 64, 320, 64, 256
"""The memory, in bytes, that a value takes with its place in a list or dict, and that lists,
dicts, keys and extensions take besides. Go's ``ipc/decode.go`` has the same numbers."""

DENSEST = 150
"""The most bytes of memory for which one byte of a body can stand."""

_unpackb = msgpack.unpackb


class Decoder:
    """Decodes values, one after another. Not safe for concurrent use."""

    def __init__(self, most: int = Limits().decoded) -> None:
        """Begin without buffers.

        Args:
            most: how many bytes of memory a value may take, its buffers and the bytes of
                its strings not counted; 0 for any number.
        """
        self._most = most
        self._unmetered = (
            most // DENSEST if most else sys.maxsize
        )  # smaller bodies cannot exceed it
        self._buffers: list[Any] = []  # those of the current value, the next one last
        self._hook = self._extension  # bound once
        self._forms: dict[bytes, tuple[Any, tuple[int, ...]]] = {}

    def arguments(self, body: Bytes, buffers: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the named arguments in the body of a call frame.

        The list of buffers is emptied, so that the arrays alone keep shared memory.

        Raises:
            ProtocolError: the body does not hold arguments.
            ValueFault: the body is not a valid value.
        """
        if buffers:
            if (value := self._known(body, buffers)) is not None:
                buffers.clear()
                return [value], {}
            value = self.decode(body, buffers)
        elif len(body) > self._unmetered:
            value = self.decode(body, buffers)
        else:
            self._buffers = buffers
            try:
                value = _unpackb(body, ext_hook=self._hook, timestamp=3)
            except Exception:
                value = self.decode(body, buffers)  # raises an error that names the location
        if type(value) is list and len(value) == 2:
            args, named = value
            if type(args) is list and type(named) is dict:
                if buffers:
                    if len(args) == 1 and not named:
                        self._remember(body, buffers, args[0])
                    buffers.clear()
                return args, named
        raise ProtocolError("a call frame whose body is not an array and a map of arguments")

    def state(self, body: Bytes, buffers: list[Any]) -> list[Any]:
        """Return the state in the body of an open frame: a list of one value or none.

        Raises:
            ProtocolError: the body does not hold a state.
            ValueFault: the body is not a valid value.
        """
        value = self.decode(body, buffers, "state")
        if type(value) is not list or len(value) > 1:
            raise ProtocolError("an open frame whose body is not an array of one state, or none")
        buffers.clear()
        return value

    def decode(self, body: Bytes, buffers: list[Any], root: str = "input") -> Any:
        """Return the value of a body and its buffers.

        Arrays are read-only views of the buffers. Timestamps are datetimes with
        microseconds. Keys of bytes, and nesting between the protocol's limit and that of
        msgpack, are not checked: the supervisor has checked what it sends.

        Args:
            body: the msgpack body.
            buffers: the buffers, in the order in which the body refers to them.
            root: the beginning of the path in an error.

        Raises:
            ValueFault: the body is not a valid value.
            MemoryError: there is not enough memory for the value.
        """
        self._buffers = buffers[::-1] if buffers else buffers
        try:
            if len(body) > self._unmetered:
                value = self._unpack_metered(body)
            else:
                value = _unpackb(body, ext_hook=self._hook, timestamp=3)
        except MemoryError:
            raise
        except _TooMuch:
            self._buffers = []
            raise ValueFault(
                root,
                f"its {len(body)} bytes take more than {self._most} bytes of memory when they "
                "are decoded; an array of numbers takes less",
            ) from None
        except Exception as error:
            from gophersnake._worker.values import faults  # seldom needed

            self._buffers = buffers[::-1]
            reason = str(error) or type(error).__name__
            path, reason = faults.find_in_body(body, self._extension) or ("", reason)
            self._buffers = []
            raise ValueFault(root + path, reason) from error
        if self._buffers:
            self._buffers, left = [], len(self._buffers)  # do not keep shared memory
            raise ValueFault(root, f"{left} buffers belong to no value")
        return value

    def _unpack_metered(self, body: Bytes) -> Any:
        """Return the value of a body that might take too much memory.

        Raises:
            _TooMuch: it does. At most about twice the limit has been used until then.
        """
        meter = _Meter(self._most, self._hook)
        try:
            return _unpackb(
                body,
                ext_hook=meter.extension,
                list_hook=meter.array,
                object_hook=meter.map,
                max_array_len=self._most // VALUE,
                max_map_len=self._most // (KEY + VALUE),
                timestamp=3,
            )
        except ValueError as error:
            if "exceeds max_" in str(error):
                raise _TooMuch from None
            raise

    def _known(self, body: Bytes, buffers: list[Any]) -> Any:
        """Return the only argument of a call if its body is remembered: an array, or bytes.

        Returns ``None`` if it is not, or if the buffer does not fit. ``decode`` would
        return the same value, and raises the error.
        """
        form = self._forms.get(bytes(body))
        if form is None or not _is_shared(buffers):
            return None
        dtype, shape = form
        if dtype is None:
            return bytes(buffers[0])
        try:
            array = buffers[0].view(dtype)
            return array if array.shape == shape else array.reshape(shape)
        except ValueError:
            return None

    def _remember(self, body: Bytes, buffers: list[Any], value: Any) -> None:
        """Remember the dtype and shape that a body stands for, if it is a shared array's.

        Most callers send arrays of a few shapes. Bytes have no dtype.
        """
        if len(body) > FORM_BYTES or not _is_shared(buffers):
            return
        if type(value) is bytes:
            form: tuple[Any, tuple[int, ...]] = None, ()
        elif arrays.view_ndarray(value) is not None:
            form = value.dtype, value.shape
        else:
            return
        if len(self._forms) >= FORMS:
            self._forms.clear()
        self._forms[bytes(body)] = form

    def _extension(self, code: int, payload: bytes) -> Any:
        if code == JSON:
            return _document(payload)
        if code not in NAMES:
            raise ValueError(f"unknown extension {code}")
        parts = _parts(code, payload)
        if code == LARGE and parts[1] is not None:
            raise ValueError("the data of a large value is not in a buffer")
        data = self._data(parts.pop())
        if code == TENSOR:
            return arrays.tensor(parts[0], parts[1], data)
        if code == AUDIO:
            return media.decode_audio(data, *parts)
        if code == TABLE:
            return tables.decode(data)
        if code == LARGE:
            return _large(parts[0], data)
        return media.decode_image(data, *parts)

    def _data(self, data: Any) -> Any:
        if isinstance(data, bytes):
            return data
        if data is not None:
            raise ValueError(f"inside an extension: {type(data).__name__} instead of data")
        if not self._buffers:
            raise ValueError("a buffer is missing")
        return self._buffers.pop()


class _TooMuch(Exception):
    """A value takes more memory than it may."""


class _Meter:
    """Counts the memory of the lists, dicts and extensions of one value as they are made.

    ``msgpack`` calls the methods and puts the values that they return in place.
    """

    def __init__(self, most: int, hook: Callable[[int, bytes], Any]) -> None:
        """Begin with so many bytes to use; ``hook`` decodes extensions."""
        self._left = most
        self._hook = hook

    def array(self, items: list[Any]) -> list[Any]:
        self._use(ARRAY + VALUE * len(items))
        return items

    def map(self, items: dict[str, Any]) -> dict[str, Any]:
        self._use(MAP + (KEY + VALUE) * len(items) if items else ARRAY)
        return items

    def extension(self, code: int, payload: bytes) -> Any:
        self._use(EXTENSION + len(payload))
        return self._hook(code, payload)

    def _use(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _TooMuch


def _is_shared(buffers: list[Any]) -> bool:
    """Return whether there is a single buffer, and it is in shared memory."""
    return len(buffers) == 1 and not isinstance(buffers[0], (bytes, bytearray))


def _large(form: object, data: Any) -> bytes | str | Json:
    """Return a copy of a large value."""
    if form == BYTES_FORM:
        return data if type(data) is bytes else bytes(data)
    if form == TEXT_FORM:
        return str(data, "utf-8")
    if form == JSON_FORM:
        return _document(data)
    raise ValueError(f"a large value of the unknown form {form!r}")


def _document(payload: Any) -> Json:
    try:
        document = Json(str(payload, "utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not a JSON document: it is not UTF-8: {error.reason}") from None
    document.check()
    return document


def _parts(code: int, payload: bytes) -> list[Any]:
    try:
        parts = msgpack.unpackb(payload)
    except msgpack.ExtraData as error:
        raise ValueError(f"{len(error.extra)} bytes follow inside extension {code}") from None
    except Exception as error:
        raise ValueError(
            f"the payload of extension {code} ends in the middle, or is not msgpack: {error}"
        ) from None
    if not isinstance(parts, list):
        raise ValueError(f"inside an extension: {type(parts).__name__} instead of an array")
    if len(parts) != PARTS[code]:
        raise ValueError(f"{NAMES[code]} of {len(parts)} parts instead of {PARTS[code]}")
    return parts
