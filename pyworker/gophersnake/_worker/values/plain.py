"""Converts Python's own values that msgpack cannot pack to ones that it can."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import sys
from typing import Any

import msgpack

from gophersnake._worker.values import arrays

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def plain(value: Any) -> Any:
    """Return an equivalent that msgpack can pack, or a ``Tensor``.

    Raises:
        TypeError: values of this type cannot be sent; the message suggests what to return.
        ValueError: values of this type can be sent, but not this one.
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
        raise TypeError(f"{described(value)} has no form on the wire{advice(value)}")
    return found


def timestamp(value: datetime.datetime) -> msgpack.Timestamp:
    """Return an instant with microseconds, or nanoseconds if the object has them (pandas).

    Raises:
        ValueError: the datetime has no time zone.
    """
    if value.utcoffset() is None:
        raise ValueError(
            "a datetime without a time zone could be any instant: "
            "give it one, such as datetime.now(timezone.utc)"
        )
    # Integers, because a float cannot hold the microseconds of the year 9999.
    since = value - EPOCH
    nanoseconds = since.microseconds * 1000 + getattr(value, "nanosecond", 0)
    return msgpack.Timestamp(since.days * 86400 + since.seconds, nanoseconds)


def described(value: Any) -> str:
    """Return the class of a value with an article, for messages."""
    kind = type(value)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def advice(value: Any) -> str:
    """Return what to return instead of a value that cannot be sent."""
    if isinstance(value, (set, frozenset)):
        return ": return a list, sorted(…) for instance"
    if isinstance(value, complex):
        return ": return its real and imaginary part"
    if isinstance(value, enum.Enum):
        return ": return its value"
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta)):
        return ": return text or a number of seconds"
    if hasattr(value, "read") and hasattr(value, "fileno"):
        return ": an open file stays in its process; return its content or its path"
    if hasattr(value, "__next__"):
        return ": return a list of what it yields"
    if hasattr(value, "__fspath__"):
        return ": return str(…) of it"
    if isinstance(value, collections.abc.Mapping):
        return ": return dict(…) of it"
    if hasattr(value, "to_numpy"):
        return ": return .to_numpy() of it, or .to_dict()"
    if isinstance(value, collections.abc.Iterable) and not isinstance(value, type):
        return ": return list(…) of it"
    if hasattr(value, "as_integer_ratio"):
        return ": return float(…) or str(…) of it"
    return ": return plain values, arrays, or the classes of gophersnake"
