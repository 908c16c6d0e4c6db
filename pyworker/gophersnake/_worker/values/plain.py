"""Converts Python's own values that msgpack cannot pack to ones that it can."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import sys
from typing import Any

import msgpack

from gophersnake._worker.values import arrays, tables
from gophersnake._worker.values.format import Refused
from gophersnake.values import Table

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


TEXTS = (("pathlib", "PurePath"), ("uuid", "UUID"), ("decimal", "Decimal"))
"""The classes of the standard library that are sent as their text, with their modules."""


def plain(value: Any) -> Any:
    """Return an equivalent that msgpack can pack, or a ``Tensor`` or ``Table``.

    Raises:
        Refused: the value cannot be sent; its hint suggests what to return.
    """
    # Members of an enum and NumPy scalars may be subclasses of plain types.
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, datetime.datetime):
        return timestamp(value)
    if isinstance(value, Table):  # before the records, since it is a dataclass
        return value
    if getattr(type(value), "__pydantic_root_model__", False):
        return value.root
    if (fields := fields_of(value)) is not None:
        return fields
    if (text := text_of(value)) is not None:
        return text
    np = sys.modules.get("numpy")  # if it is not imported, the value is not from NumPy
    if np is not None and isinstance(value, np.generic):
        item = value.item()
        return item if isinstance(item, (bool, int, float)) else arrays.ndarray(np.asarray(value))
    if np is not None and isinstance(value, np.ndarray):
        return arrays.ndarray(value)
    if (table := tables.encode(value)) is not None:
        return table
    found = arrays.foreign(value)
    if found is None:
        raise refused(value)
    return found


def fields_of(value: Any) -> dict[str, Any] | None:
    """Return the fields of a record by name, ``None`` for any other value.

    Records are the instances of dataclasses, of classes made with attrs, of pydantic's models
    and of msgspec's structs.
    """
    kind = type(value)
    if issubclass(kind, type):  # the metaclass of structs has these attributes, too
        return None
    if hasattr(kind, "__dataclass_fields__"):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(kind, "__pydantic_fields__") and not kind.__pydantic_root_model__:
        dumped: dict[str, Any] = value.model_dump(by_alias=True)
        return dumped
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    if hasattr(kind, "__struct_encode_fields__"):
        keys = zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True)
        return {key: getattr(value, name) for key, name in keys}
    return None


def text_of(value: Any) -> str | None:
    """Return the text of a path, UUID, decimal, date, time or duration; ``None`` for others."""
    for module, name in TEXTS:
        kind = getattr(sys.modules.get(module), name, None)  # else the value is not from it
        if kind is not None and isinstance(value, kind):
            return str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return _duration(value)
    return None


def _duration(value: datetime.timedelta) -> str:
    """Return a duration in ISO 8601, such as ``P1DT2.5S``; pandas' ones have nanoseconds."""
    if value < datetime.timedelta(0):
        return "-" + _duration(-value)
    nanoseconds = 1000 * value.microseconds + getattr(value, "nanoseconds", 0)
    seconds = f"{value.seconds}.{nanoseconds:09}".rstrip("0").rstrip(".")
    days = f"P{value.days}D" if value.days else "P"
    return days + (f"T{seconds}S" if seconds != "0" or not value.days else "")


def timestamp(value: datetime.datetime) -> msgpack.Timestamp:
    """Return an instant with microseconds, or nanoseconds if the object has them (pandas).

    Raises:
        Refused: the datetime has no time zone.
    """
    if value != value:  # pandas.NaT  # noqa: PLR0124
        raise refused(value)
    if value.utcoffset() is None:
        raise Refused(
            "a datetime without a time zone could be any instant",
            "instead of x, return x.replace(tzinfo=timezone.utc) if it is in UTC; "
            "datetime.now(timezone.utc) has a time zone",
        )
    # Integers, because a float cannot hold the microseconds of the year 9999.
    since = value - EPOCH
    nanoseconds = since.microseconds * 1000 + getattr(value, "nanosecond", 0)
    return msgpack.Timestamp(since.days * 86400 + since.seconds, nanoseconds)


def refused(value: Any) -> Refused:
    """Return the error of a value whose type cannot be sent."""
    from gophersnake._worker.values import advice  # only mistakes need it

    return advice.refusal(value)
