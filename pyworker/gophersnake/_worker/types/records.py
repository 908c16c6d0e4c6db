"""Classes with named fields: dataclasses, attrs, typed dicts; and named tuples."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Container, Iterable
from typing import Any

from gophersnake._worker.types.containers import Keyed
from gophersnake._worker.types.kinds import Document, Mismatch, Schema, Type, unexpected
from gophersnake._worker.values.format import step
from gophersnake._worker.values.plain import fields_of


@dataclasses.dataclass
class Field:
    """A field of a record.

    Attributes:
        name: its key.
        parameter: the parameter of the constructor that sets it.
        type: the type of its values.
        required: whether it has no default.
        default: the default, if it is plain and not computed; otherwise ``...``.
    """

    name: str
    parameter: str
    type: Type
    required: bool
    default: Any = ...


class Record(Keyed):
    """A class that is built from a map of its fields. Other keys are ignored.

    Attributes:
        fields: the fields by name. They are set after the type is created, since they may
            be of the same type.
    """

    def __init__(self, kind: Any, make: Callable[..., Any]) -> None:
        """Create the type; ``make`` makes an instance from named arguments."""
        self.kind = kind
        self.make = make
        self.name = f"a map ({kind.__name__})"
        self.fields: dict[str, Field] = {}
        # msgspec sets the fields without calling the constructor.
        self.native = make is dict or _is_generated(kind)

    def keys(self) -> Container[str]:
        """Return the names of the fields; see ``Keyed``."""
        return self.fields

    def build(self, value: Any) -> Any:
        """Return an instance; see ``Type``."""
        if type(value) is not dict:
            if self.make is not dict and isinstance(value, self.kind):
                return value
            raise unexpected(self.name, value)
        made: dict[str, Any] = {}
        for name, field in self.fields.items():
            if name in value:
                try:
                    made[field.parameter] = field.type.build(value[name])
                except Mismatch as error:
                    error.steps.append(step(name))
                    raise
            elif field.required:
                raise Mismatch(f"expected {self.name} with the key {name!r}, which is missing")
        try:
            return self.make(**made)
        except (ValueError, TypeError) as error:  # from a check of the class's own
            raise Mismatch(f"{self.kind.__name__}: {error}") from error

    def write(self, value: Any) -> Any:
        """Return a map of the fields; see ``Type``."""
        found = value if type(value) is dict else fields_of(value)
        if found is None:
            return value
        return {
            k: self.fields[k].type.write(v) if k in self.fields else v for k, v in found.items()
        }

    def schema(self, document: Document) -> Schema:
        """Return a reference to the schema; see ``Type``."""
        return document.refer(self, self.kind.__name__, lambda: self._definition(document))

    def _definition(self, document: Document) -> Schema:
        properties = {}
        for name, field in self.fields.items():
            default = {} if field.default is ... else {"default": field.default}
            properties[name] = field.type.schema(document) | default
        schema: Schema = {"title": self.kind.__name__, "type": "object", "properties": properties}
        # A dataclass is always written with all of its fields.
        whole = document.output and self.make is not dict
        required = [name for name, field in self.fields.items() if field.required or whole]
        if about := _described(self.kind):
            schema["description"] = about
        return schema | ({"required": required} if required else {})

    def parts(self) -> Iterable[Type]:
        """Return the types of the fields; see ``Type``."""
        return [field.type for field in self.fields.values()]


def _described(kind: Any) -> str:
    """Return the docstring of a class, unless it is generated."""
    about = kind.__dict__.get("__doc__")
    if not isinstance(about, str) or about.startswith(f"{kind.__name__}("):
        return ""
    return inspect.cleandoc(about)


def record(
    kind: Any, read: Callable[[Any], Type], remember: Callable[[Type], object]
) -> Type | None:
    """Return the type of a class with fields; ``None`` for any other class.

    Args:
        kind: the class.
        read: returns the type of an annotation.
        remember: is called with the type before its fields are read.
    """
    if typing.is_typeddict(kind):
        made, fields = Record(kind, dict), _typed_dict
    elif hasattr(kind, "__dataclass_fields__"):
        made, fields = Record(kind, kind), _dataclass
    elif hasattr(kind, "__attrs_attrs__"):
        made, fields = Record(kind, kind), _attrs
    else:
        return None
    remember(made)
    hints = typing.get_type_hints(kind, include_extras=True)
    made.fields = {field.name: field for field in fields(kind, hints, read)}
    return made


def _is_generated(kind: Any) -> bool:
    """Return whether the constructor of a dataclass only sets its fields."""
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is None or not parameters.init or hasattr(kind, "__attrs_attrs__"):
        return False
    return all(each.init for each in dataclasses.fields(kind))


def _typed_dict(kind: Any, hints: dict[str, Any], read: Callable[[Any], Type]) -> list[Field]:
    found = []
    for name, hint in hints.items():
        required = name in kind.__required_keys__
        # With postponed evaluation, old versions of Python do not see these qualifiers.
        qualifier = getattr(typing.get_origin(hint), "_name", "")
        if qualifier in ("Required", "NotRequired"):
            required = qualifier == "Required"
        found.append(Field(name, name, read(hint), required))
    return found


def _dataclass(kind: Any, hints: dict[str, Any], read: Callable[[Any], Type]) -> list[Field]:
    found = []
    for each in dataclasses.fields(kind):
        if each.init:
            optional = each.default is not dataclasses.MISSING
            computed = each.default_factory is not dataclasses.MISSING
            default = plain_default(each.default) if optional else ...
            read_type = read(hints.get(each.name, Any))
            found.append(
                Field(each.name, each.name, read_type, not (optional or computed), default)
            )
    return found


def _attrs(kind: Any, hints: dict[str, Any], read: Callable[[Any], Type]) -> list[Field]:
    found = []
    for each in kind.__attrs_attrs__:
        if each.init:
            nothing = type(each.default).__name__ == "_Nothing"
            parameter = getattr(each, "alias", None) or each.name.lstrip("_")
            default = ... if nothing else plain_default(each.default)
            hint = hints.get(each.name, Any)
            found.append(Field(each.name, parameter, read(hint), nothing, default))
    return found


def plain_default(value: Any) -> Any:
    """Return a default that a schema can show; ``...`` for one that it cannot."""
    if value is None or type(value) in (bool, int, str):
        return value
    return value if type(value) is float and value - value == 0 else ...
