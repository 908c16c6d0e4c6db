"""Types that travel as text: dates and times, UUIDs, decimals, paths; and complex numbers."""

from __future__ import annotations

import datetime
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from gophersnake._worker.types.kinds import Document, Schema, Type, unexpected

DECIMAL = r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"
"""The pattern of a decimal number."""


class Text(Type):
    """A class whose instances travel as text, and are built from it."""

    def __init__(self, kind: type, name: str, parse: Callable[[str], Any], schema: Schema) -> None:
        """Create the type; ``parse`` raises a ``ValueError`` for text that is not valid."""
        self.kind = kind
        self.name = name
        self._parse = parse
        self._schema = schema

    def build(self, value: Any) -> Any:
        """Return an instance; see ``Type``."""
        if type(value) is str:
            try:
                return self._parse(value)
            except (ValueError, ArithmeticError):
                pass
        elif isinstance(value, self.kind):
            return value
        raise unexpected(self.name, value)

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        return dict(self._schema)


class Moment(Text):
    """A date or time in ISO 8601, which msgspec parses."""

    library = True

    def __init__(self, kind: type, name: str, form: str) -> None:
        """Create the type for a class of datetime and a format of JSON Schema."""
        super().__init__(kind, name, self._convert, {"type": "string", "format": form})

    def _convert(self, text: str) -> Any:
        import msgspec  # slow to import

        return msgspec.convert(text, self.kind)

    def build(self, value: Any) -> Any:
        """Return an instance; see ``Type``. A datetime is no date."""
        if type(value) is datetime.datetime and self.kind is datetime.date:
            raise unexpected(self.name, value)
        return super().build(value)


class Digits(Text):
    """``Decimal``, which travels as text and is built from numbers, too."""

    native = False  # msgspec accepts NaN

    def build(self, value: Any) -> Any:
        """Return a Decimal; see ``Type``."""
        text = value
        if type(value) is int or type(value) is float:
            text = repr(value)  # the digits that are written, not those of the binary number
        made = super().build(text)
        if made.is_finite():
            return made
        raise unexpected(self.name, value)

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        text = super().schema(document)
        return text if document.output else {"anyOf": [{"type": "number"}, text]}


class Complex(Type):
    """``complex``, which travels as the list of its two parts."""

    name = "a complex number, a list of two numbers"
    rewrites = True
    native = False

    def build(self, value: Any) -> Any:
        """Return a complex number; see ``Type``."""
        if type(value) is complex:
            return value
        parts = value if type(value) is list and len(value) == 2 else [value, 0.0]
        if any(type(part) not in (int, float) for part in parts):
            raise unexpected(self.name, value)
        return complex(*parts)

    def write(self, value: Any) -> Any:
        """Return the two parts; see ``Type``."""
        return [value.real, value.imag] if type(value) is complex else value

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        number = {"type": "number"}
        pair = {"type": "array", "prefixItems": [number, number], "items": False, "minItems": 2}
        return pair if document.output else {"anyOf": [pair, number]}


def _path(kind: Any) -> Text:
    path = Text(kind, "a path", kind, {"type": "string", "format": "path"})
    path.option = "dec_hook"
    return path


@functools.cache
def _moments() -> dict[Any, Type]:
    day, moment = "a date such as 2024-05-01", "a date and time such as 2024-05-01T12:00:00Z"
    return {
        datetime.datetime: Moment(datetime.datetime, moment, "date-time"),
        datetime.date: Moment(datetime.date, day, "date"),
        datetime.time: Moment(datetime.time, "a time such as 12:30:00", "time"),
        datetime.timedelta: Moment(datetime.timedelta, "a duration such as PT1H30M", "duration"),
        complex: Complex(),
    }


def text_type(hint: Any) -> Type | None:
    """Return the type of one of these classes; ``None`` for any other.

    Modules are looked up: if one is not imported, the annotation is not from it.
    """
    if hint in _moments():
        return _moments()[hint]
    uuid, decimal = sys.modules.get("uuid"), sys.modules.get("decimal")
    if uuid is not None and hint is uuid.UUID:
        return Text(hint, "a UUID", hint, {"type": "string", "format": "uuid"})
    if decimal is not None and hint is decimal.Decimal:
        return Digits(hint, "a decimal number", hint, {"type": "string", "pattern": DECIMAL})
    pathlib = sys.modules.get("pathlib")
    if pathlib is not None and isinstance(hint, type):
        if hint is os.PathLike:
            return _path(pathlib.Path)
        if issubclass(hint, pathlib.PurePath):
            return _path(hint)
    return None
