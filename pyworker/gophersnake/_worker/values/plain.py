"""Converts Python's own values that msgpack cannot pack to ones that it can."""

from __future__ import annotations

import dataclasses
import datetime
import sys
from typing import Any

import msgpack

from gophersnake._worker.values import arrays
from gophersnake._worker.values.format import Refused

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def plain(value: Any) -> Any:
    """Return an equivalent that msgpack can pack, or a ``Tensor``.

    Raises:
        Refused: the value cannot be sent; its hint suggests what to return.
    """
    # Members of an enum and NumPy scalars may be subclasses of plain types.
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
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    np = sys.modules.get("numpy")  # if it is not imported, the value is not from NumPy
    if np is not None and isinstance(value, np.generic):
        item = value.item()
        return item if isinstance(item, (bool, int, float)) else arrays.ndarray(np.asarray(value))
    if np is not None and isinstance(value, np.ndarray):
        return arrays.ndarray(value)
    found = arrays.foreign(value)
    if found is None:
        raise refused(value)
    return found


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
