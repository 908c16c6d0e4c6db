"""Lists, tuples, sets, maps, unions, literals and enums, and bounds on any type."""

from __future__ import annotations

import enum
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from gophersnake._worker.types.kinds import (
    SCALARS,
    Document,
    Mismatch,
    Schema,
    Type,
    shown,
    unexpected,
)
from gophersnake._worker.values.format import step


class Items(Type):
    """A list, set or tuple of any length, whose items have one type."""

    name = "a list"

    def __init__(self, kind: Callable[[list[Any]], Any], item: Type) -> None:
        """Create the type; ``kind`` makes the container from a list of its items."""
        self.kind = kind
        self.item = item
        self.rewrites = kind in (set, frozenset)

    def build(self, value: Any) -> Any:
        """Return the container; see ``Type``."""
        if type(value) is not list:
            if self.kind is not list and type(value) is self.kind:
                value = list(value)
            else:
                raise unexpected(self.name, value)
        build = self.item.build
        items: list[Any] = []
        try:
            for each in value:
                items.append(build(each))
            return items if self.kind is list else self.kind(items)
        except Mismatch as error:
            error.steps.append(f"[{len(items)}]")
            raise
        except TypeError:
            raise Mismatch("expected items that can be in a set, got a list or a map") from None

    def write(self, value: Any) -> Any:
        """Return a list; see ``Type``. That of a set is sorted if its items can be."""
        if isinstance(value, (set, frozenset)):
            value = list(value)
            try:
                value.sort()
            except TypeError:
                pass
        return list(map(self.item.write, value)) if isinstance(value, (list, tuple)) else value

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        item = self.item.schema(document)
        return {"type": "array", "items": item} if item else {"type": "array"}

    def parts(self) -> Iterable[Type]:
        """Return the type of the items; see ``Type``."""
        return (self.item,)


class Tuple(Type):
    """A tuple, or a named one, with a type for each place.

    Attributes:
        required: how many items there are at least; the others have defaults.
    """

    def __init__(self, items: Sequence[Type], make: Callable[[list[Any]], Any] = tuple) -> None:
        """Create the type; ``make`` makes the tuple from a list of its items."""
        self.items = list(items)
        self.required = len(self.items)
        self.make = make

    @property
    def name(self) -> str:  # type: ignore[override]
        """The type in messages; see ``Type``."""
        most = len(self.items)
        return (
            f"a list of {most}" if self.required == most else f"a list of {self.required} to {most}"
        )

    def build(self, value: Any) -> Any:
        """Return the tuple; see ``Type``."""
        if type(value) is not list and not isinstance(value, tuple):
            raise unexpected(self.name, value)
        if not self.required <= len(value) <= len(self.items):
            raise unexpected(self.name, list(value))
        items: list[Any] = []
        try:
            for each, item in zip(value, self.items, strict=False):
                items.append(item.build(each))
        except Mismatch as error:
            error.steps.append(f"[{len(items)}]")
            raise
        return self.make(items)

    def write(self, value: Any) -> Any:
        """Return a list; see ``Type``."""
        if not isinstance(value, tuple):
            return value
        return [item.write(each) for each, item in zip(value, self.items, strict=False)]

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        items = [item.schema(document) for item in self.items]
        schema: Schema = {"type": "array", "prefixItems": items, "items": False}
        if not items:
            schema = {"type": "array", "maxItems": 0}
        return schema | ({"minItems": self.required} if self.required else {})

    def parts(self) -> Iterable[Type]:
        """Return the types of the items; see ``Type``."""
        return self.items


class Map(Type):
    """A dict. Its keys travel as text, and are built from it."""

    name = "a map"

    def __init__(self, key: Type, value: Type) -> None:
        """Create the type for keys and values of these types."""
        self.key = key
        self.value = value
        self._plain_keys = key is SCALARS[str] or type(key) is Type
        self.rewrites = not self._plain_keys
        self.option = "" if self._plain_keys else "str_keys"

    def build(self, value: Any) -> Any:
        """Return the dict; see ``Type``."""
        if type(value) is not dict:
            raise unexpected(self.name, value)
        found: dict[Any, Any] = {}
        for key, each in value.items():
            try:
                found[key if self._plain_keys else self._key(key)] = self.value.build(each)
            except Mismatch as error:
                error.steps.append(step(key))
                raise
        return found

    def _key(self, key: str) -> Any:
        if self.key in (SCALARS[int], SCALARS[float]):
            try:
                return int(key) if self.key is SCALARS[int] else float(key)
            except ValueError:
                raise Mismatch(f"expected {self.key.name} as key, got {shown(key)}") from None
        try:
            return self.key.build(key)
        except Mismatch as error:
            raise Mismatch(f"{error.reason} as key") from None

    def write(self, value: Any) -> Any:
        """Return a dict whose keys are text; see ``Type``."""
        if not isinstance(value, dict):
            return value
        return {_key_text(key): self.value.write(each) for key, each in value.items()}

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        schema: Schema = {"type": "object"}
        if value := self.value.schema(document):
            schema["additionalProperties"] = value
        if self.key is SCALARS[int]:
            schema["propertyNames"] = {"pattern": r"^-?\d+$"}
        elif not self._plain_keys and self.key is not SCALARS[float]:
            schema["propertyNames"] = self.key.schema(document)
        return schema

    def parts(self) -> Iterable[Type]:
        """Return the types of the keys and values; see ``Type``."""
        return (self.key, self.value)


def _key_text(key: Any) -> Any:
    if isinstance(key, enum.Enum):
        key = key.value
    return key if isinstance(key, str) else str(key)


class Choice(Type):
    """A ``Literal`` or an enum: one of some values."""

    def __init__(
        self, values: Iterable[tuple[Any, Any]], title: str = "", native: bool = True
    ) -> None:
        """Create the type.

        Args:
            values: each value that may arrive, with what is built for it.
            title: the name of the enum.
            native: whether msgspec supports it.
        """
        values = list(values)
        # With the type, because 1 == True and hash(1) == hash(True).
        self._values = {(_number(type(value)), value): made for value, made in values}
        self._made = list(self._values.values())
        self.title = title
        self.native = native
        # A member is written as its value, unless it arrives by its name.
        self._by_name = title != "" and all(made.name == value for value, made in values)
        self.rewrites = self._by_name

    @property
    def name(self) -> str:  # type: ignore[override]
        """The type in messages; see ``Type``."""
        return "one of " + ", ".join(shown(value) for _, value in list(self._values)[:20])

    def build(self, value: Any) -> Any:
        """Return the member or the value; see ``Type``."""
        try:
            return self._values[_number(type(value)), value]
        except (KeyError, TypeError):
            if any(value is each for each in self._made):
                return value
            raise unexpected(self.name, value) from None

    def write(self, value: Any) -> Any:
        """Return the name of a member, if that is how it arrives; see ``Type``."""
        own = self._by_name and any(value is member for member in self._made)
        return value.name if own else value

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        title = {"title": self.title} if self.title else {}
        return title | {"enum": [value for _, value in self._values]}


def _number(kind: type) -> type:
    """Return float for int as well: JSON has one kind of number."""
    return float if kind is int else kind


def enum_type(kind: type[enum.Enum]) -> Type:
    """Return the type of an enum. Its members arrive by their value, or else by their name."""
    members = list(kind)
    plain = all(type(m.value) in (str, int, bool, float) for m in members)
    if not plain and not issubclass(kind, (str, int)):
        return Choice([(m.name, m) for m in members], kind.__name__, native=False)
    same = {type(m.value) for m in members}
    values = [(m.value, m) for m in members]
    return Choice(values, kind.__name__, native=same in ({str}, {int}))


class Union(Type):
    """One of several types.

    A value that one of them leaves as it is stays so. Otherwise the first that can be built
    is: among records, the one that knows the most keys.
    """

    def __init__(self, members: Sequence[Type]) -> None:
        """Create the type of the members."""
        self.members = list(members)
        self.rewrites = any(each.rewrites for each in self.members)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The type in messages; see ``Type``."""
        return " or ".join(each.name for each in self.members)

    def build(self, value: Any) -> Any:
        """Return what one of the members builds; see ``Type``."""
        built: list[tuple[int, Any]] = []
        faults: list[Mismatch] = []
        for member in self.members:
            try:
                made = member.build(value)
            except Mismatch as error:
                faults.append(error)
                continue
            if made is value:
                return value
            built.append((member.known(value) if isinstance(member, Keyed) else 0, made))
        if built:
            return max(built, key=lambda each: each[0])[1]
        inside = [fault for fault in faults if fault.steps]
        if len(inside) == 1:  # the only member of the value's kind
            raise inside[0]
        raise unexpected(self.name, value)

    def write(self, value: Any) -> Any:
        """Return what the first member that changes the value makes of it; see ``Type``."""
        for member in self.members:
            if (made := member.write(value)) is not value:
                return made
        return value

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        schemas: list[Schema] = []
        for member in self.members:
            schema = member.schema(document)
            if schema not in schemas:
                schemas.append(schema)
        return {} if {} in schemas else {"anyOf": schemas}

    def parts(self) -> Iterable[Type]:
        """Return the members; see ``Type``."""
        return self.members


class Keyed(Type):
    """A type that is built from a map with known keys."""

    def keys(self) -> Container[str]:
        """Return the keys that the type knows."""
        return ()

    def known(self, value: Any) -> int:
        """Return how many keys of a map the type knows."""
        keys = self.keys()
        return sum(key in keys for key in value) if type(value) is dict else 0


KEYWORDS = {
    "ge": ("minimum", ">="),
    "gt": ("exclusiveMinimum", ">"),
    "le": ("maximum", "<="),
    "lt": ("exclusiveMaximum", "<"),
    "multiple_of": ("multipleOf", "a multiple of"),
    "min_length": ("min", "at least"),
    "max_length": ("max", "at most"),
    "pattern": ("pattern", "matching"),
}
"""The bounds that metadata may have: their keywords in a schema, and their words."""

SIZED = {
    "string": ("Length", "characters"),
    "array": ("Items", "items"),
    "object": ("Properties", "keys"),
}
"""The ends of the keywords for lengths, and what is counted, by the type of the schema."""


class Bounded(Type):
    """A type with bounds, a description, or both, from the metadata of ``Annotated``."""

    def __init__(self, inner: Type, bounds: dict[str, Any], notes: Schema, native: bool) -> None:
        """Create the type.

        Args:
            inner: the type without them.
            bounds: the bounds, by the names in ``KEYWORDS``.
            notes: further keywords of the schema, such as its description.
            native: whether msgspec checks the bounds.
        """
        self.inner = inner
        self.bounds = bounds
        self.notes = notes
        self.native = native or not bounds
        self._form = inner.schema(Document(False)).get("type", "") if bounds else ""

    @property
    def name(self) -> str:  # type: ignore[override]
        """The type in messages; see ``Type``."""
        said = [self._said(bound, limit) for bound, limit in self.bounds.items()]
        return " ".join([self.inner.name, *said[:1]]) + "".join(f" and {each}" for each in said[1:])

    def _said(self, bound: str, limit: Any) -> str:
        words = f"{KEYWORDS[bound][1]} {limit}"
        return (
            f"of {words} {SIZED.get(self._form, ('', 'items'))[1]}" if "length" in bound else words
        )

    def build(self, value: Any) -> Any:
        """Return the value if it is within the bounds; see ``Type``."""
        made = self.inner.build(value)
        try:
            fits = all(_holds(bound, limit, made) for bound, limit in self.bounds.items())
        except TypeError:  # a bound that such values cannot be compared with
            fits = True
        if fits:
            return made
        raise unexpected(self.name, value)

    def write(self, value: Any) -> Any:
        """Return what the type without bounds writes; see ``Type``."""
        return self.inner.write(value)

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        end = SIZED.get(self._form, ("Items", ""))[0]
        bounds = {
            KEYWORDS[bound][0] + (end if "length" in bound else ""): limit
            for bound, limit in self.bounds.items()
        }
        return self.inner.schema(document) | bounds | self.notes

    def parts(self) -> Iterable[Type]:
        """Return the type without bounds; see ``Type``."""
        return (self.inner,)


def _holds(bound: str, limit: Any, value: Any) -> bool:
    if bound == "ge":
        return bool(value >= limit)
    if bound == "gt":
        return bool(value > limit)
    if bound == "le":
        return bool(value <= limit)
    if bound == "lt":
        return bool(value < limit)
    if bound == "multiple_of":
        return bool(value % limit == 0)
    if bound == "min_length":
        return bool(len(value) >= limit)
    if bound == "max_length":
        return bool(len(value) <= limit)
    import re  # few types have a pattern

    return re.search(limit, value) is not None
