"""NumPy arrays with a dtype and a shape."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from gophersnake._worker.types.kinds import (
    KIND,
    Document,
    Mismatch,
    Schema,
    Type,
    shown,
    unexpected,
)
from gophersnake._worker.values import arrays
from gophersnake.values import ITEM_SIZES

RANKS = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
"""The kinds of dtypes that can be converted: each to those of the same or a higher rank."""


class Array(Type):
    """An array of NumPy. Lists of numbers become arrays, and dtypes are converted if that
    loses no more than precision.
    """

    native = False

    def __init__(self, dtype: str = "", shape: Sequence[int | str] | None = None) -> None:
        """Create the type.

        Args:
            dtype: the name of the dtype, empty for any.
            shape: the dimensions, ``None`` for any. A name stands for any number, the same
                each time, ``*`` for any number, and ``...`` for any dimensions.
        """
        self.dtype = dtype
        self.shape = None if shape is None else list(shape)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The type in messages; see ``Type``."""
        dtype = f" of {self.dtype}" if self.dtype else ""
        shape = "" if self.shape is None else f" of shape [{', '.join(map(str, self.shape))}]"
        return f"an array{dtype}{' and' if dtype and shape else ''}{shape[3:] if dtype and shape else shape}"

    def build(self, value: Any) -> Any:
        """Return the array; see ``Type``."""
        np = arrays.numpy()
        if np is None:
            return value
        array = value if isinstance(value, np.ndarray) else self._from_list(np, value)
        if self.dtype and array.dtype.name != self.dtype:
            array = self._converted(np, array, value)
        if self.shape is not None and not _fits(array.shape, self.shape):
            raise unexpected(self.name, array)
        return array

    def _from_list(self, np: Any, value: Any) -> Any:
        if type(value) not in (list, int, float, bool):
            raise unexpected(self.name, value)
        try:
            array = np.asarray(value)
        except ValueError:
            raise Mismatch(f"expected {self.name}, got lists of different lengths") from None
        if array.dtype.kind not in RANKS:
            raise Mismatch(
                f"expected {self.name}, got {shown(value)} with other items than numbers"
            )
        return array

    def _converted(self, np: Any, array: Any, value: Any) -> Any:
        """Return the array with the dtype of the type."""
        want = np.dtype(self.dtype)
        low, high = RANKS.get(array.dtype.kind, 9), RANKS.get(want.kind, -1)
        if array.size and (low > high or not _representable(np, array, want)):
            raise unexpected(self.name, array)
        return array.astype(want)

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``. Lists are for inputs alone."""
        tensor: Schema = {KIND: "tensor"}
        if self.dtype:
            tensor["x-dtype"] = self.dtype
        if self.shape is not None:
            tensor["x-shape"] = self.shape
        return tensor if document.output else {"anyOf": [tensor, {"type": "array"}]}


def _representable(np: Any, array: Any, want: Any) -> bool:
    """Return whether all integers of an array are within the range of a dtype of integers."""
    if want.kind not in "iu" or array.dtype.kind not in "iu" or np.can_cast(array.dtype, want):
        return True
    limits = np.iinfo(want)
    return int(limits.min) <= int(array.min()) and int(array.max()) <= int(limits.max)


def _fits(shape: Sequence[int], wanted: Sequence[int | str]) -> bool:
    if "..." in wanted:
        at = list(wanted).index("...")
        after = len(wanted) - at - 1
        if len(shape) < len(wanted) - 1:
            return False
        shape = [*shape[:at], *shape[len(shape) - after :]]
        wanted = [*wanted[:at], *wanted[at + 1 :]]
    if len(shape) != len(wanted):
        return False
    named: dict[str, int] = {}
    for have, want in zip(shape, wanted, strict=True):
        if isinstance(want, int):
            if have != want:
                return False
        elif want != "*" and named.setdefault(want, have) != have:
            return False
    return True


def array_type(hint: Any, args: Sequence[Any], metadata: Sequence[Any]) -> Type | None:
    """Return the type of an annotation with NumPy's array class; ``None`` for any other.

    Args:
        hint: the class.
        args: its arguments: shape and dtype.
        metadata: the metadata of ``Annotated``, which may hold a ``Shape`` and a dtype.
    """
    np = sys.modules.get("numpy")
    if np is None or hint is not np.ndarray:
        return None
    dtype = _dtype(np, args[1]) if len(args) == 2 else ""
    shape: Sequence[int | str] | None = _dims(args[0]) if args else None
    for each in metadata:
        dims = getattr(each, "dims", None)
        if isinstance(dims, tuple):
            shape = dims
        elif isinstance(each, str) and each in ITEM_SIZES:
            dtype = each
        elif isinstance(each, (type, np.dtype)):
            dtype = _name(np, each) or dtype
    return Array(dtype, shape)


def _dtype(np: Any, hint: Any) -> str:
    """Return the name of the dtype in ``np.dtype[np.float32]``; empty for any."""
    inner: tuple[Any, ...] = getattr(hint, "__args__", ())
    return _name(np, inner[0]) if len(inner) == 1 else ""


def _name(np: Any, scalar: Any) -> str:
    for name in ITEM_SIZES:
        if name != "bfloat16" and (scalar is np.dtype(name).type or scalar == np.dtype(name)):
            return name
    return ""


def _dims(hint: Any) -> list[int | str] | None:
    """Return the dimensions in ``tuple[int, Literal[3]]``; ``None`` for any number of them."""
    args = getattr(hint, "__args__", None)
    if not args or ... in args:
        return None
    found: list[int | str] = []
    for each in args:
        literal: tuple[Any, ...] = getattr(each, "__args__", ())
        fixed = len(literal) == 1 and isinstance(literal[0], int)
        found.append(literal[0] if fixed else "*")
    return found
