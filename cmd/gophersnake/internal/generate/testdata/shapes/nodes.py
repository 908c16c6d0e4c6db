"""Nodes whose annotations have every form of schema."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import numpy as np
import numpy.typing as npt
from gophersnake import Audio, Image, Json, Shape, Tensor, node


class Color(enum.Enum):
    """A color of the paint."""

    RED = "red"
    DARK_RED = "dark-red"
    NONE = ""


class Level(enum.IntEnum):
    """How much of it."""

    BELOW = -1
    LOW = 1


@dataclass
class Item:
    """What is sold.

    Prices are in ``EUR``, with no "*/" in them.
    """

    price: float
    count: int = 1
    tags: list[str] = field(default_factory=list)
    note: str | None = None
    by: dict[str, Item] = field(default_factory=dict)


@dataclass
class Tree:
    """A recursive class, which is the same in both directions."""

    value: int
    children: list[Tree]
    parent: Tree | None


class Options(TypedDict, total=False):
    """All keys may be missing."""

    depth: int
    name: str
    mode: Literal["fast", "slow", None]


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: int


Odd = TypedDict(
    "Odd",
    {"class": str, "content-type": str, "größe": int, "名前": str, "Id": int, "id": int, "": int},
)
"""A key cannot be the name in a Go tag, so that this is a map."""

Words = TypedDict(
    "Words",
    {
        "class": str,
        "content-type": str,
        "größe": int,
        "名前": str,
        "Id": int,
        "id": int,
        "2nd": int,
        "type": str,
        '"`': int,
    },
)


@dataclass
class Client:
    """Its name is that of the generated client."""

    url: str


@dataclass
class Everything:
    """One field of each type."""

    flag: bool
    number: int
    ratio: float
    text: str
    raw: bytes
    bare_list: list
    bare_dict: dict
    ratios: list[float]
    numbers: tuple[int, ...]
    pair: tuple[int, str]
    range: tuple[float, float]
    unique: set[int]
    counts: dict[str, int]
    by_number: dict[int, float]
    maybe: int | None
    maybe_list: list[int] | None
    either: int | str
    mode: Literal["a", "b"]
    step: Literal[1, 2]
    mixed: Literal["a", 1]
    bounded: Annotated[int, "from 0"]
    color: Color
    level: Level | None
    item: Item
    items: list[Item]
    tree: Tree
    options: Options
    odd: Odd
    words: Words
    client: Client
    point: Point
    moment: datetime
    maybe_moment: datetime | None
    day: date
    hour: time
    length: timedelta
    key: UUID
    price: Decimal
    file: Path
    wave: complex
    matrix: Annotated[np.ndarray, Shape("n 3"), "float32"]
    pixels: Annotated[np.ndarray, Shape("h w"), "uint8"]
    flat: npt.NDArray[np.float64]
    single: Annotated[np.ndarray, Shape(""), "float64"]
    waves: list[Annotated[np.ndarray, Shape("n"), "complex64"]]
    document: Json
    anything: Any


@node
def echo(value: Everything) -> Everything:
    """Return the value.

    Args:
        value: whatever it is.

    // +build ignore
    //go:embed nothing
    """
    return value


@node
def grow(tree: Tree) -> Tree:
    """Add a child."""
    return Tree(tree.value, [*tree.children, Tree(tree.value + 1, [], None)], None)


@node
def audio(value: Audio) -> Audio:
    """Return the recording."""
    return value


@node
def image(value: Image) -> Image:
    """Return the image."""
    return value


@node
def tensor(value: Tensor) -> Tensor:
    """Return the tensor."""
    return value


@node
def one(item: Any) -> Item:
    """Return an item."""
    return Item(1.5)


@node
def mix(left: Item, class_: Item | None) -> float:
    """Return the price of both."""
    return left.price + (class_.price if class_ else 0)


@node
def count(most: int) -> Iterator[int]:
    """Count."""
    yield from range(most)


@node
def nothing(value: int) -> None:
    """Return nothing."""


@node
def now() -> datetime:
    """Take no input."""
    return datetime(2024, 5, 1, 12, tzinfo=timezone.utc)


@node
def unknown(value):  # type: ignore[no-untyped-def]
    return value
