"""Locates the part of a value, or of a msgpack body, that cannot be carried.

``msgpack`` is fast, and names the fault but not its path. These searches are written in
Python, and run only once something is known to be wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gophersnake._worker.values.advice import (
    AS_TEXT,
    JSON_TEXT,
    STRING_KEYS,
    UTF8,
    described,
    instead,
)
from gophersnake._worker.values.format import Refused, step
from gophersnake._worker.values.plain import fields_of
from gophersnake._worker.wire.frames import Bytes, Limits
from gophersnake.values import Audio, Image, Json, Tensor

INT_MIN, UINT_MAX = -(1 << 63), (1 << 64) - 1

MAX_DEPTH = 400
"""The depth at which the search in a value ends; msgpack's own limit is about the same."""

BODY_DEPTH = Limits().depth
"""The most levels that a body may have."""


# Values, before they are encoded.


class Fault(NamedTuple):
    """The first fault in a value: its path, what is wrong there, and what to do instead."""

    path: str
    reason: str
    hint: str = ""


def find_in_value(value: Any, probe: Callable[[Any], None]) -> Fault | None:
    """Return the first fault in a value, ``None`` if there is none.

    Args:
        value: any value at all.
        probe: raises the error of a value that is not a container.
    """
    return _find(value, probe, "", set())


def _find(value: Any, probe: Callable[[Any], None], path: str, above: set[int]) -> Fault | None:
    try:
        children = _children(value)
    except Exception as error:  # a dataclass that lacks a field, a property that raises
        return Fault(path, f"{described(value)} cannot be read: {error or type(error).__name__}")
    if children is None:
        found = _fault(value, probe)
        return None if found is None else found._replace(path=path)
    if id(value) in above:
        return Fault(path, "a cycle: the value holds itself")
    if len(above) > MAX_DEPTH:
        return Fault(path, "nested too deep", instead(JSON_TEXT))
    above.add(id(value))
    for key, child in children:
        if isinstance(key, int) and not isinstance(value, dict):
            part = f"[{key}]"
        elif not isinstance(key, str):
            reason = f"a map key is {described(key)}; keys must be strings"
            return Fault(path, reason, instead(STRING_KEYS))
        else:
            if (wrong := _fault(key, probe)) is not None:
                return Fault(path, f"a map key: {wrong.reason}", wrong.hint)
            part = step(key)
        if (found := _find(child, probe, path + part, above)) is not None:
            return found
    above.discard(id(value))
    return None


def _children(value: Any) -> Iterator[tuple[Any, Any]] | None:
    if isinstance(value, dict):
        return iter(list(value.items()))
    if isinstance(value, (list, tuple)):
        return iter(list(enumerate(value)))
    if isinstance(value, (Tensor, Audio, Image, Json, type)):
        return None
    fields = fields_of(value)
    return None if fields is None else iter(list(fields.items()))


def _fault(value: Any, probe: Callable[[Any], None]) -> Fault | None:
    """Return the fault of a value that is not a container, without its path."""
    if isinstance(value, int) and not INT_MIN <= value <= UINT_MAX:
        bits = value.bit_length()
        return Fault(
            "", f"an integer of {bits} bits; integers have 64 bits at most", instead(AS_TEXT)
        )
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            reason = f"a string that is not UTF-8: {error.reason} at position {error.start}"
            return Fault("", reason, instead(UTF8))
    if isinstance(value, memoryview) and not value.c_contiguous:
        return Fault("", "a memoryview that is not contiguous", instead("bytes(x)"))
    try:
        probe(value)
    except Exception as error:
        hint = error.hint if isinstance(error, Refused) else ""
        return Fault("", str(error) or type(error).__name__, hint)
    return None


# Bodies that cannot be decoded.

FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
"""The codes of numbers, and how many bytes follow each."""

STRINGS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
ARRAYS = {0xDC: 2, 0xDD: 4}
MAPS = {0xDE: 2, 0xDF: 4}
EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
TIMESTAMP = -1

FIRST_SECOND, LAST_SECOND = -62135596800, 253402300799
"""The years 1 to 9999, in seconds since 1970."""


def find_in_body(body: Bytes, extension: Callable[[int, bytes], Any]) -> tuple[str, str] | None:
    """Return the path and the reason of the first fault in a body, ``None`` if there is none.

    Args:
        body: the msgpack body.
        extension: raises the error of an extension's payload.
    """
    scanner = _Scanner(bytes(body), extension)
    try:
        scanner.value(BODY_DEPTH)
    except _Fault as fault:
        return "".join(reversed(fault.steps)), str(fault)
    rest = len(body) - scanner.at
    return ("", f"{rest} bytes follow the value") if rest else None


class _Fault(Exception):
    """The first fault in a body. ``steps`` collects its path from the inside out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.steps: list[str] = []


class _Scanner:
    """Walks over a body. ``at`` is the index of the next byte."""

    def __init__(self, body: bytes, extension: Callable[[int, bytes], Any]) -> None:
        self.body = body
        self.at = 0
        self._extension = extension

    def value(self, depth: int) -> None:
        """Walk over one value, which may have ``depth`` levels."""
        code = self._take(1)[0]
        if code < 0x80 or code >= 0xE0 or code in (0xC0, 0xC2, 0xC3):
            return
        if code < 0x90:
            self._map(code & 0x0F, depth)
        elif code < 0xA0:
            self._array(code & 0x0F, depth)
        elif code < 0xC0:
            self._text(code & 0x1F)
        elif code in FIXED:
            self._take(FIXED[code])
        elif code in BYTES:
            self._take(self._number(BYTES[code]))
        elif code in STRINGS:
            self._text(self._number(STRINGS[code]))
        elif code in ARRAYS:
            self._array(self._number(ARRAYS[code]), depth)
        elif code in MAPS:
            self._map(self._number(MAPS[code]), depth)
        elif code in EXTENSIONS:
            self._ext(self._number(EXTENSIONS[code]))
        elif code in FIXED_EXTENSIONS:
            self._ext(FIXED_EXTENSIONS[code])
        else:
            raise _Fault(f"byte {code:#04x} begins no value")

    def _take(self, size: int) -> bytes:
        if size > len(self.body) - self.at:
            raise _Fault(f"the encoding ends in the middle of a value, at byte {len(self.body)}")
        self.at += size
        return self.body[self.at - size : self.at]

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _enter(self, count: int, depth: int) -> None:
        if depth == 0:
            raise _Fault(f"nested deeper than {BODY_DEPTH} levels")
        if count > len(self.body) - self.at:  # each element takes at least one byte
            self._take(count)

    def _array(self, count: int, depth: int) -> None:
        self._enter(count, depth)
        for index in range(count):
            try:
                self.value(depth - 1)
            except _Fault as fault:
                fault.steps.append(f"[{index}]")
                raise

    def _map(self, count: int, depth: int) -> None:
        self._enter(2 * count, depth)
        for _ in range(count):
            key = self._key()
            try:
                self.value(depth - 1)
            except _Fault as fault:
                fault.steps.append(step(key))
                raise

    def _key(self) -> str:
        code = self._take(1)[0]
        if 0xA0 <= code < 0xC0:
            size = code & 0x1F
        elif code in STRINGS:
            size = self._number(STRINGS[code])
        else:
            raise _Fault("a map key is not a string; keys must be strings")
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise _Fault(f"a map key is not UTF-8: {error.reason}") from None

    def _text(self, size: int) -> None:
        try:
            self._take(size).decode()
        except UnicodeDecodeError as error:
            raise _Fault(f"a string is not UTF-8: {error.reason} at byte {error.start}") from None

    def _ext(self, size: int) -> None:
        code = int.from_bytes(self._take(1), "big", signed=True)
        payload = self._take(size)
        if code == TIMESTAMP:
            _check_timestamp(payload)
            return
        try:
            self._extension(code, payload)
        except MemoryError:
            raise
        except Exception as error:
            raise _Fault(str(error) or type(error).__name__) from None


def _check_timestamp(payload: bytes) -> None:
    if len(payload) == 4:
        return
    if len(payload) == 8:
        both = int.from_bytes(payload, "big")
        seconds, nanoseconds = both & ((1 << 34) - 1), both >> 34
    elif len(payload) == 12:
        nanoseconds, seconds = struct.unpack(">Iq", payload)
    else:
        raise _Fault(f"a timestamp of {len(payload)} bytes")
    if nanoseconds > 999_999_999:
        raise _Fault(f"a timestamp with {nanoseconds} nanoseconds")
    if not FIRST_SECOND <= seconds <= LAST_SECOND:
        raise _Fault(
            f"a timestamp of {seconds} seconds since 1970; its year is not between 1 and 9999"
        )
