"""Models of pydantic and structs of msgspec, which their own libraries validate."""

from __future__ import annotations

import sys
from collections.abc import Container
from typing import Any

from gophersnake._worker.types.containers import Keyed
from gophersnake._worker.types.kinds import Document, Mismatch, Schema, Type, shown
from gophersnake._worker.values.format import step


class Model(Keyed):
    """A model or dataclass of pydantic 2. Its own configuration says how strict it is."""

    native = False

    def __init__(self, kind: Any, pydantic: Any) -> None:
        """Create the type of a class; ``pydantic`` is the module, which the node has imported."""
        self.kind = kind
        self.name = f"a map ({kind.__name__})"
        self._adapter = pydantic.TypeAdapter(kind)
        self._error = pydantic.ValidationError

    def keys(self) -> Container[str]:
        """Return the names of the fields; see ``Keyed``."""
        fields: Container[str] = getattr(self.kind, "__pydantic_fields__", {})
        return fields

    def build(self, value: Any) -> Any:
        """Return an instance; see ``Type``."""
        try:
            return self._adapter.validate_python(value)
        except self._error as error:
            first = error.errors(include_url=False)[0]
            got = "" if first["type"] == "missing" else f", got {shown(first['input'])}"
            fault = Mismatch(first["msg"][:1].lower() + first["msg"][1:] + got)
            path = [f"[{at}]" if isinstance(at, int) else step(str(at)) for at in first["loc"]]
            fault.steps = path[::-1]
            raise fault from None

    def schema(self, document: Document) -> Schema:
        """Return a reference to the schema; see ``Type``."""
        mode = "serialization" if document.output else "validation"

        def make() -> Schema:
            made = self._adapter.json_schema(mode=mode, ref_template="#/$defs/{model}")
            return _adopted(document, self, self.kind.__name__, made)

        return document.once(self, make)


class Struct(Keyed):
    """A struct of msgspec."""

    def __init__(self, kind: Any, msgspec: Any) -> None:
        """Create the type of a class; ``msgspec`` is the module, which the node has imported."""
        self.kind = kind
        self.name = f"a map ({kind.__name__})"
        self._msgspec = msgspec

    def keys(self) -> Container[str]:
        """Return the keys of the fields; see ``Keyed``."""
        fields: Container[str] = self.kind.__struct_encode_fields__
        return fields

    def build(self, value: Any) -> Any:
        """Return an instance; see ``Type``."""
        try:
            return self._msgspec.convert(value, self.kind)
        except self._msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at `$")
            fault = Mismatch(text[:1].lower() + text[1:])
            fault.steps = [path.rstrip("`")] if path else []
            raise fault from None

    def schema(self, document: Document) -> Schema:
        """Return a reference to the schema; see ``Type``."""

        def make() -> Schema:
            made = self._msgspec.json.schema(self.kind)
            return _adopted(document, self, self.kind.__name__, made)

        return document.once(self, make)


def _adopted(document: Document, key: Any, name: str, made: Schema) -> Schema:
    """Move a schema of another library, with its definitions, into a document."""
    definitions = made.pop("$defs", {})
    for inner in [each for each in definitions if each in document.defs]:
        renamed = f"{name}.{inner}"  # a definition of this name exists, and may be another
        definitions[renamed] = definitions.pop(inner)
        made, definitions = (_renamed(each, inner, renamed) for each in (made, definitions))
    document.defs |= definitions
    if set(made) == {"$ref"}:
        return made
    return document.refer(key, name, lambda: made)


def _renamed(part: Any, old: str, new: str) -> Any:
    """Return a part of a schema whose references to one definition have another name."""
    if isinstance(part, list):
        return [_renamed(each, old, new) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("$ref") == f"#/$defs/{old}":
        part = part | {"$ref": f"#/$defs/{new}"}
    return {key: _renamed(each, old, new) for key, each in part.items()}


def foreign_type(hint: Any) -> Type | None:
    """Return the type of a class of pydantic or msgspec; ``None`` for any other."""
    if not isinstance(hint, type):
        return None
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and hasattr(hint, "__pydantic_validator__"):
        return Model(hint, pydantic) if hasattr(pydantic, "TypeAdapter") else None
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(hint, msgspec.Struct):
        return Struct(hint, msgspec)
    return None
