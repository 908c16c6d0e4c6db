"""Reads annotations into types. What it does not know, it leaves open: ``ANY``."""

from __future__ import annotations

import collections
import collections.abc
import enum
import functools
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gophersnake._worker.types.arrays import array_type
from gophersnake._worker.types.containers import (
    KEYWORDS,
    Bounded,
    Choice,
    Items,
    Map,
    Tuple,
    Union,
    enum_type,
)
from gophersnake._worker.types.foreign import foreign_type
from gophersnake._worker.types.kinds import ANY, SCALARS, Document, Schema, Type
from gophersnake._worker.types.libraries import picture_type, torch_type
from gophersnake._worker.types.records import record
from gophersnake._worker.types.tables import table_type
from gophersnake._worker.types.texts import text_type

LISTS: tuple[Any, ...] = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
SETS = {set: set, frozenset: frozenset, collections.abc.Set: set, collections.abc.MutableSet: set}
MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
ITERATORS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)
WRAPPERS = ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")
"""The names of special forms around a type that do not change its values."""


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function, without those that cannot be evaluated."""
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__annotations__"):  # an object that can be called
        function = type(function).__call__
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # names that only type checkers see
        return _one_by_one(function)


def _one_by_one(function: Any) -> dict[str, Any]:
    inner = function
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    found: dict[str, Any] = {}
    for name, hint in _raw(inner).items():
        holder = types.SimpleNamespace(__annotations__={name: hint})
        names = getattr(inner, "__globals__", {})
        try:
            found |= typing.get_type_hints(holder, globalns=names, include_extras=True)
        except Exception:  # this one
            pass
    return found


def _raw(function: Any) -> dict[str, Any]:
    try:
        return dict(function.__annotations__)
    except Exception:  # Python 3.14 evaluates them here
        annotationlib = sys.modules.get("annotationlib")
        if annotationlib is None:
            return {}
        form = annotationlib.Format.FORWARDREF
        return dict(annotationlib.get_annotations(function, format=form))


def read(hint: Any) -> Type:
    """Return the type of an annotation. It never fails."""
    try:
        return _Reader().read(hint)
    except Exception:  # an annotation may be any object, with code of its own
        return ANY


def iterated(hint: Any) -> Any:
    """Return the annotation of what a generator yields, ``Any`` if its annotation does not say."""
    if typing.get_origin(hint) in ITERATORS:
        return (typing.get_args(hint) or (Any,))[0]
    return Any


def listed(hint: Any) -> Any:
    """Return the annotation of the items of a list, ``Any`` if its annotation does not say."""
    if typing.get_origin(hint) in (*LISTS, tuple):
        return (typing.get_args(hint) or (Any,))[0]
    return Any


class _Reader:
    """Reads one annotation. Types that it contains several times are the same object."""

    def __init__(self) -> None:
        self._known: dict[int, Type] = {}
        self._kept: list[Any] = []  # so that no id is used twice

    def read(self, hint: Any, metadata: Sequence[Any] = ()) -> Type:
        """Return the type of an annotation with the metadata around it."""
        if id(hint) in self._known and not metadata:
            return self._known[id(hint)]
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Annotated:
            return self._annotated(args[0], [*args[1:], *metadata])
        if (found := array_type(origin or hint, args, metadata)) is not None:
            return found
        if (found := table_type(hint, metadata) or torch_type(hint, metadata)) is not None:
            return found
        return self._plain(hint, origin, args)

    def _plain(self, hint: Any, origin: Any, args: tuple[Any, ...]) -> Type:
        if origin is None:
            return self._class(hint)
        if origin in (typing.Union, types.UnionType):
            return self._union(args)
        if origin is typing.Literal:
            return Choice([(a.value if isinstance(a, enum.Enum) else a, a) for a in args])
        if origin is tuple:
            return self._tuple(args)
        if origin in LISTS:
            return Items(list, self.read(args[0]))
        if origin in SETS:
            return Items(SETS[origin], self.read(args[0]))
        if origin in MAPS:
            return Map(self.read(args[0]), self.read(args[1]))
        if getattr(origin, "_name", "") in WRAPPERS:
            return self.read(args[0])
        if hasattr(origin, "__value__"):  # a type alias with parameters
            return self.read(origin.__value__[args])
        return text_type(origin) or ANY

    def _class(self, hint: Any) -> Type:
        if isinstance(hint, typing.NewType):
            return self.read(hint.__supertype__)
        if type(hint).__name__ == "TypeAliasType":
            return self._alias(hint)
        try:
            known = SCALARS.get(hint) or text_type(hint)
        except TypeError:  # not hashable
            return ANY
        if known is not None:
            return known
        if not isinstance(hint, type):
            return ANY
        if hint in SETS or hint is tuple:
            return Items(SETS.get(hint, tuple), ANY)
        if hint in LISTS:
            return SCALARS[list]
        if hint in MAPS:
            return SCALARS[dict]
        return self._own(hint)

    def _own(self, hint: Any) -> Type:
        """Return the type of a class of the node's own."""
        if issubclass(hint, enum.Enum):
            return enum_type(hint)
        found = foreign_type(hint) or picture_type(hint)
        if found is None and issubclass(hint, tuple) and hasattr(hint, "_fields"):
            found = self._named_tuple(hint)
        if found is None:
            found = record(hint, self.read, lambda made: self._remember(hint, made))
        return ANY if found is None else self._remember(hint, found)

    def _remember(self, hint: Any, made: Type) -> Type:
        self._kept.append(hint)
        self._known[id(hint)] = made
        return made

    def _alias(self, hint: Any) -> Type:
        """Return the type of ``type Name = …``, which may contain itself."""
        made = self._remember(hint, Alias(str(hint.__name__)))
        assert isinstance(made, Alias)
        made.target = self.read(hint.__value__)
        return made

    def _named_tuple(self, hint: Any) -> Type:
        hints = typing.get_type_hints(hint, include_extras=True)
        made = Tuple([self.read(hints.get(name, Any)) for name in hint._fields], hint._make)
        made.required -= len(hint._field_defaults)
        made.make = lambda items: hint(*items)
        return made

    def _tuple(self, args: tuple[Any, ...]) -> Type:
        if len(args) == 2 and args[1] is ...:
            return Items(tuple, self.read(args[0]))
        return Tuple([self.read(arg) for arg in args if arg != ()])

    def _union(self, args: tuple[Any, ...]) -> Type:
        members = [self.read(arg) for arg in args]
        return ANY if ANY in members else Union(members)

    def _annotated(self, hint: Any, metadata: list[Any]) -> Type:
        inner = self.read(hint, metadata)
        bounds: dict[str, Any] = {}
        notes: dict[str, Any] = {}
        native = True
        for each in _flat(metadata):
            own = {name: limit for name in KEYWORDS if (limit := _bound(each, name)) is not None}
            bounds |= own
            native = native and (not own or type(each).__module__.startswith("msgspec"))
            about = getattr(each, "documentation", None) or getattr(each, "description", None)
            if about is None and isinstance(each, str) and inner.parts() == () and hint in SCALARS:
                about = each
            if isinstance(about, str):
                notes["description"] = about
            if isinstance(title := getattr(each, "title", None), str):
                notes["title"] = title
        return Bounded(inner, bounds, notes, native) if bounds or notes else inner


def _flat(metadata: Iterable[Any]) -> Iterable[Any]:
    """Yield metadata and the parts of grouped metadata."""
    for each in metadata:
        yield each
        if hasattr(each, "__is_annotated_types_grouped_metadata__"):
            yield from each
        elif isinstance(inner := getattr(each, "metadata", None), list):  # pydantic's Field
            yield from inner


def _bound(metadata: Any, name: str) -> Any:
    if isinstance(metadata, (str, type)):
        return None
    limit = getattr(metadata, name, None)
    if name == "pattern":
        return limit if isinstance(limit, str) else None
    return limit if isinstance(limit, (int, float)) and not isinstance(limit, bool) else None


class Alias(Type):
    """A named type, which may contain itself."""

    def __init__(self, name: str) -> None:
        """Create the type of a name. Its target is set when it has been read."""
        self.name = name
        self.target: Type = ANY

    def build(self, value: Any) -> Any:
        """Return what the target builds; see ``Type``."""
        return self.target.build(value)

    def write(self, value: Any) -> Any:
        """Return what the target writes; see ``Type``."""
        return self.target.write(value)

    def schema(self, document: Document) -> Schema:
        """Return a reference to the schema; see ``Type``."""
        return document.refer(self, self.name, lambda: self.target.schema(document))

    def parts(self) -> Iterable[Type]:
        """Return the target; see ``Type``."""
        return (self.target,)
