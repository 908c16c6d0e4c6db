"""The base of all types, the scalars, and the error of a value of another type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gophersnake.values import Audio, Image, Json, Tensor

Schema = dict[str, Any]
"""A JSON Schema, as Python values."""

KIND = "x-gophersnake"
"""The schema keyword for values that JSON does not have: bytes, tensor, audio, image, table,
json.
"""


class Mismatch(ValueError):
    """A value does not have the type that an annotation names.

    It is a ``ValueError`` because msgspec passes these on with their path.

    Attributes:
        reason: what was expected, and what arrived.
        steps: the path of the value, from the inside out.
    """

    def __init__(self, reason: str) -> None:
        """Create the error for a reason. Each container on the way out adds a step."""
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    @property
    def path(self) -> str:
        """The path of the value below the root, such as ``.items[3].price``."""
        return "".join(reversed(self.steps))


def unexpected(expected: str, value: Any) -> Mismatch:
    """Return the error for a value that is not what was expected."""
    return Mismatch(f"expected {expected}, got {shown(value)}")


def shown(value: Any) -> str:
    """Return a value as messages show it: scalars as JSON does, others by their type."""
    if value is None:
        return "null"
    if value is True or value is False:
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value!r:.60}"
    if isinstance(value, str):
        return '"' + value[:60] + ('…"' if len(value) > 60 else '"')
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "a map"
    if type(value).__name__ in ("Table", "DataFrame"):  # of pyarrow, or what it is made into
        return "a table"
    dtype = getattr(value, "dtype", None)
    if dtype is not None:
        return f"an array of {dtype} and shape {list(value.shape)}"
    return type(value).__name__


class Document:
    """One JSON Schema while it is made, with the definitions that it refers to.

    Attributes:
        output: whether it is the schema of what a node returns, not of what it takes.
    """

    def __init__(self, output: bool) -> None:
        """Begin a schema for one direction."""
        self.output = output
        self.defs: dict[str, Schema] = {}
        self._names: dict[Any, str] = {}
        self._made: dict[Any, Schema] = {}

    def whole(self, of: Type) -> Schema:
        """Return the schema of a type, with all definitions."""
        root = of.schema(self)
        return root | {"$defs": self.defs} if self.defs else root

    def once(self, key: Any, make: Callable[[], Schema]) -> Schema:
        """Return a schema that is made the first time."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def refer(self, key: Any, name: str, make: Callable[[], Schema]) -> Schema:
        """Return a reference to a definition, which is made the first time."""
        if key not in self._names:
            name = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
            unique, number = name, 1
            while unique in self.defs:
                number += 1
                unique = f"{name}_{number}"
            self._names[key] = unique
            self.defs[unique] = {}  # taken, also while a recursive type is made
            self.defs[unique] = make()
        return {"$ref": f"#/$defs/{self._names[key]}"}


class Type:
    """The type that an annotation names. This one is ``Any``: every value is left as it is.

    Attributes:
        name: the type in messages, with an article.
        native: whether ``msgspec.convert`` builds the same values from the annotation.
        option: the option that ``msgspec.convert`` needs for that, empty for none.
        library: whether building one needs msgspec.
        rewrites: whether ``write`` returns something that the encoder would not.
        exact: the class whose direct instances ``build`` returns as they are; ``None`` if it
            looks at more than the class.
    """

    name = "any value"
    native = True
    option = ""
    library = False
    rewrites = False
    exact: type | None = None

    def build(self, value: Any) -> Any:
        """Return a value of this type for one that has arrived.

        Raises:
            Mismatch: it has another type.
        """
        return value

    def write(self, value: Any) -> Any:
        """Return what the encoder can write for a value; one of another type is left as it is."""
        return value

    def schema(self, document: Document) -> Schema:
        """Return the schema of the values."""
        return {}

    def parts(self) -> Iterable[Type]:
        """Return the types that this one is made of."""
        return ()


ANY = Type()
"""The type of what is not annotated, or annotated with what gophersnake does not know."""


def walk(of: Type) -> Iterator[Type]:
    """Yield a type and all that it is made of, each once."""
    found, left = {id(of)}, [of]
    while left:
        each = left.pop()
        yield each
        for part in each.parts():
            if id(part) not in found:
                found.add(id(part))
                left.append(part)


class Integer(Type):
    """``int``. A float without a fraction is accepted, too: JSON has one kind of number."""

    name = "an integer"
    exact = int

    def build(self, value: Any) -> Any:
        """Return an int; see ``Type``."""
        if type(value) is int:
            return value
        if type(value) is float and value.is_integer():
            return int(value)
        raise unexpected(self.name, value)

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        return {"type": "integer"}


class Number(Type):
    """``float``. An integer is accepted and becomes a float."""

    name = "a number"
    exact = float

    def build(self, value: Any) -> Any:
        """Return a float; see ``Type``."""
        if type(value) is float:
            return value
        if type(value) is int:
            return float(value)
        raise unexpected(self.name, value)

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        return {"type": "number"}


class Exact(Type):
    """A type of which values arrive as they are: text, bool, null, bytes, bare containers."""

    def __init__(self, kind: type, name: str, schema: Schema) -> None:
        """Create the type for a class."""
        self.exact = kind
        self.name = name
        self.option = "builtin_types" if kind is bytes else ""  # not built from base64
        self._schema = schema

    def build(self, value: Any) -> Any:
        """Return the value; see ``Type``."""
        if type(value) is self.exact:
            return value
        raise unexpected(self.name, value)

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        return dict(self._schema)


SCALARS: dict[Any, Type] = {
    int: Integer(),
    float: Number(),
    str: Exact(str, "text", {"type": "string"}),
    bool: Exact(bool, "true or false", {"type": "boolean"}),
    None: Exact(type(None), "null", {"type": "null"}),
    type(None): Exact(type(None), "null", {"type": "null"}),
    bytes: Exact(bytes, "bytes", {KIND: "bytes"}),
    dict: Exact(dict, "a map", {"type": "object"}),
    list: Exact(list, "a list", {"type": "array"}),
}
"""The types whose values arrive as they are, by their annotations."""


class Instance(Type):
    """``Audio``, ``Image`` or ``Tensor``. An array of NumPy is a tensor."""

    def __init__(self, kind: type) -> None:
        """Create the type for one of these classes."""
        self.kind = kind
        self.name = kind.__name__

    def build(self, value: Any) -> Any:
        """Return the value; see ``Type``."""
        if isinstance(value, self.kind) or (self.kind is Tensor and hasattr(value, "dtype")):
            return value
        error = unexpected(self.name, value)
        error.reason += _undecoded(self.kind, value)
        raise error

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        return {KIND: self.name.lower()}


class JsonText(Type):
    """``Json``. Any value that JSON can express becomes such a document."""

    name = "a JSON document"

    def build(self, value: Any) -> Any:
        """Return a ``Json``; see ``Type``."""
        if isinstance(value, Json):
            return value
        try:
            return Json.dump(value)
        except (TypeError, ValueError) as error:
            raise Mismatch(f"expected a JSON document: {error}") from None

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        return {KIND: "json"}


SCALARS |= {kind: Instance(kind) for kind in (Audio, Image, Tensor)} | {Json: JsonText()}

FORMATS = (
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"BM", "BMP"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"ID3", "MP3"),
    (8, b"WAVE", "WAV"),
)
"""The marks of media files: the offset, the bytes there, and the name of the format."""


def _undecoded(kind: type, value: Any) -> str:
    """Return what to do about the bytes of a media file that arrive instead of its content."""
    if not isinstance(value, bytes) or kind is Tensor:
        return ""
    name = next((n for at, mark, n in FORMATS if value[at : at + len(mark)] == mark), "")
    known, better = ("PNG and JPEG", "PNG") if kind is Image else ("WAV", "WAV")
    return (
        f" ({name or 'unknown format'}; gophersnake decodes {known}: convert the file to {better})"
    )
