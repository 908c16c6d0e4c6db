"""Finds the large bytes and texts of a value, which travel in buffers beside its body."""

from __future__ import annotations

import datetime
import enum
from typing import Any

from gophersnake._worker.values.format import BYTES_FORM, LARGE_FROM, TEXT_FORM
from gophersnake._worker.values.plain import fields_of
from gophersnake._worker.wire.frames import Bytes
from gophersnake.values import Audio, Image, Json, Table, Tensor

MOST_PARTS = 256
"""How many parts of a value are looked at. In a value of more parts, such as a long list, the
search would take longer than the copies that it saves."""

DEEPEST = 8
"""How many levels of a value are looked at."""


OTHERS = (
    *(Tensor, Audio, Image, Json, Table),
    *(enum.Enum, str, int, float, list, tuple, dict, bytes, datetime.datetime),
)
"""The types whose values are not sent as their fields, although a class may have fields, too."""


class Large:
    """Bytes or a text that the encoder puts into a buffer.

    Attributes:
        form: the form of the data, ``"bin"`` or ``"str"``.
        data: the bytes, or the text in UTF-8.
    """

    __slots__ = ("data", "form")

    def __init__(self, value: bytes | bytearray | str) -> None:
        """Take the bytes or the text.

        Raises:
            UnicodeEncodeError: the text has surrogates.
        """
        self.form: str = TEXT_FORM if isinstance(value, str) else BYTES_FORM
        self.data: Bytes = value.encode() if isinstance(value, str) else value


def lift(value: Any) -> Any:
    """Return a copy of a value with a ``Large`` in place of each large part.

    It is the value itself if no large part was found. Containers without one are not copied.

    Raises:
        UnicodeEncodeError: a text has surrogates.
    """
    return _Search().lifted(value, 0)


class _Search:
    """The search for the large parts of one value."""

    def __init__(self) -> None:
        self.left = MOST_PARTS

    def lifted(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is bytes or kind is str or kind is bytearray:
            return Large(value) if len(value) >= LARGE_FROM else value
        if depth == DEEPEST:
            return value
        if kind is dict:
            items: Any = value.items()
        elif kind is list or kind is tuple:
            items = enumerate(value)
        elif isinstance(value, OTHERS) or (fields := fields_of(value)) is None:
            return value
        else:
            lifted = self.lifted(fields, depth)
            return value if lifted is fields else lifted
        changed: Any = None
        for key, item in items:
            self.left -= 1
            if self.left < 0:
                break
            lifted = self.lifted(item, depth + 1)
            if lifted is not item:
                if changed is None:
                    changed = dict(value) if kind is dict else list(value)
                changed[key] = lifted
        return value if changed is None else changed
