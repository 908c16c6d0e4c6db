"""Checks a param of the manifest against the annotation of its parameter.

Only types that a manifest can hold are checked: numbers, text, lists, maps. Any other
annotation, such as a class of the node's own, accepts every value.
"""

from __future__ import annotations

import collections.abc
import functools
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a map",
    type(None): "null",
}
"""The names of the plain types in messages."""

LISTS: tuple[Any, ...] = (list, tuple, set, frozenset, collections.abc.Sequence)
LISTS += (collections.abc.Iterable, collections.abc.Collection, collections.abc.Set)
UNIONS = (typing.Union, types.UnionType)
MAPS: tuple[Any, ...] = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function, without those that cannot be evaluated."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return typing.get_type_hints(function)
    except Exception:  # names that only type checkers see
        raw = getattr(function, "__annotations__", None) or {}
        return {name: hint for name, hint in raw.items() if not isinstance(hint, str)}


def misfit(value: Any, hint: Any) -> str:
    """Return why a value does not fit, for instance "must be an integer, not 'x'"."""
    if _fits(value, hint):
        return ""
    return f"must be {_name(hint)}, not {value!r:.60}"


# Annotations can be any objects: they may not be hashable, comparable or printable.


def _among(hint: Any, hints: Iterable[Any]) -> bool:
    return any(hint is each for each in hints)


def _fits(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if _among(origin, UNIONS):
        return any(_fits(value, arg) for arg in args)
    if origin is typing.Annotated:
        return _fits(value, args[0])
    if origin is typing.Literal:
        return any(type(value) is type(arg) and value == arg for arg in args)
    if hint is None:
        return value is None
    if isinstance(hint, typing.NewType):
        return _fits(value, hint.__supertype__)
    plain = hint if origin is None else origin
    if not isinstance(plain, type):
        return True
    if _among(plain, LISTS):
        item = args[0] if args and not (plain is tuple and args[-1] is not ...) else Any
        return isinstance(value, list) and all(_fits(each, item) for each in value)
    if _among(plain, MAPS):
        item = args[1] if len(args) == 2 else Any
        return isinstance(value, dict) and all(_fits(each, item) for each in value.values())
    if typing.is_typeddict(hint):
        return isinstance(value, dict)
    if plain is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if plain is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if _among(plain, (bool, str, type(None))):
        return isinstance(value, plain)
    return True


def _name(hint: Any) -> str:
    args = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if _among(origin, UNIONS):
        return " or ".join(_name(arg) for arg in args)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(_shown, args))
    if origin is typing.Annotated:
        return _name(args[0])
    if isinstance(hint, typing.NewType):
        return _name(hint.__supertype__)
    plain = hint if origin is None else origin
    if _among(plain, LISTS):
        return "a list" + (f", each item {_name(args[0])}" if args and _plain(args[0]) else "")
    if _among(plain, MAPS) or typing.is_typeddict(hint):
        return "a map"
    return _plain(plain) or _shown(hint)


def _plain(hint: Any) -> str:
    """Return the name of a plain type, an empty string for other annotations."""
    return next((name for each, name in NAMES.items() if hint is each), "")


def _shown(hint: Any) -> str:
    try:
        return repr(hint)
    except Exception:  # from a __repr__ of the node's own
        return f"<{type(hint).__name__}>"
