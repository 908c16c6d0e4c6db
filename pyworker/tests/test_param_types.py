"""Params that fit their annotations, and params that do not."""

from __future__ import annotations

import collections.abc
import enum
import functools
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, TypeVar, Union

import pytest
from gophersnake import Audio
from gophersnake._worker.definition import param_types

T = TypeVar("T")
Rate = NewType("Rate", int)


class Color(enum.Enum):
    RED = "red"


class Options(TypedDict):
    a: int


@dataclass
class Settings:
    a: int


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1, int),
        (1, float),
        (1.5, float),
        ("x", str),
        (True, bool),
        (None, None),
        (None, Optional[int]),  # noqa: UP045
        (None, int | None),
        (1, Union[int, str]),  # noqa: UP007
        ([1, 2], list[int]),
        ([1, 2], list),
        ([1, 2], tuple[int, ...]),
        ([1, "x"], tuple[int, str]),
        ([1], collections.abc.Sequence[float]),
        ([1], typing.List[int]),  # noqa: UP006
        ([1], set[int]),
        ({"a": 1.5}, dict[str, float]),
        ({"a": 1}, collections.abc.Mapping[str, int]),
        ({"a": 1}, dict),
        ({"a": 1}, Options),
        ("a", Literal["a", "b"]),
        (1, Annotated[int, "of something"]),
        (1, Rate),
        ("red", Color),
        ({"a": 1}, Settings),
        ("x", Any),
        ("x", object),
        ("x", T),
        ("x", list[T] | str),  # type: ignore[valid-type]
        ("x", Audio),
        ("x", "a forward reference"),
        ("x", 5),
        ("x", collections.abc.Callable[[int], int]),
    ],
)
def test_it_fits(value: Any, hint: Any) -> None:
    assert param_types.misfit(value, hint) == ""


@pytest.mark.parametrize(
    ("value", "hint", "says"),
    [
        ("x", int, "must be an integer, not 'x'"),
        (1.5, int, "must be an integer, not 1.5"),
        (True, int, "an integer"),
        (True, float, "a number"),
        ("1.5", float, "a number"),
        (1, str, "text"),
        (1, bool, "true or false"),
        (None, int, "an integer, not None"),
        ("x", Optional[int], "an integer or null"),  # noqa: UP045
        ("x", int | None, "an integer or null"),
        ("x", list[int], "a list, each item an integer"),
        (["x"], list[int], "a list, each item an integer"),
        ({}, list, "a list"),
        ([], dict[str, int], "a map"),
        ({"a": "x"}, dict[str, int], "a map"),
        ([], Options, "a map"),
        ("c", Literal["a", "b"], "one of 'a', 'b'"),
        (True, Literal[1], "one of 1"),
        ("x", Annotated[int, "of something"], "an integer"),
        ("x", Rate, "an integer"),
        ("x" * 100, int, "not 'xxx"),
    ],
)
def test_it_does_not_fit(value: Any, hint: Any, says: str) -> None:
    assert says in param_types.misfit(value, hint)


def test_annotations_that_cannot_be_evaluated_are_left_to_the_node() -> None:
    def mixed(a: int, b: OnlyForTypeCheckers) -> None: ...  # type: ignore[name-defined] # noqa: F821

    assert param_types.annotations_of(mixed) == {}
    mixed.__annotations__["a"] = int
    assert param_types.annotations_of(mixed) == {
        "a": int,
        "return": None,
    } or param_types.annotations_of(mixed) == {"a": int}


def test_annotations_are_found_behind_partials_and_wrappers() -> None:
    def function(a: int) -> None: ...

    @functools.wraps(function)
    def wrapper(*args: Any) -> None: ...

    assert param_types.annotations_of(functools.partial(function))["a"] is int
    assert param_types.annotations_of(wrapper)["a"] is int
    assert param_types.annotations_of(len) == {}
    assert param_types.annotations_of(object.__init__) == {}
