"""What the ports of one node are converted with, chosen when the node is set up."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from gophersnake._worker.definition.lookup import NodeFault
from gophersnake._worker.types.kinds import (
    ANY,
    SCALARS,
    Document,
    Mismatch,
    Schema,
    Type,
    walk,
)
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.format import ValueFault
from gophersnake._worker.wire.frames import Bytes

MAX_SCHEMA = 64 << 10
"""The most bytes of a schema; a longer one is left out. Go's ``ipc/message.go`` has the same."""

MAX_DEPTH = 64
"""The most levels of a schema; a deeper one is left out."""

Convert = Callable[[Any], Any]


class Ports:
    """The types of a node's inputs, params and output.

    Attributes:
        inputs: the types of the inputs by name; those of a batch node are of one input.
        params: the types of the params by name.
        output: the type of a result, or of each value of a node that returns many.
    """

    def __init__(self) -> None:
        """Create the types of a node without annotations."""
        self.inputs: dict[str, Type] = {}
        self.params: dict[str, Type] = {}
        self.output: Type = ANY
        self._hints: dict[str, Any] = {}
        self._defaults: dict[str, Any] = {}

    def read_params(self, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> None:
        """Set the types of the params."""
        from gophersnake._worker.types.hints import read  # only nodes with annotations need it

        for each in parameters:
            self.params[each.name] = _optional(read(hints.get(each.name, Any)), each)
            self._defaults[each.name] = each.default

    def read_inputs(
        self, parameters: list[inspect.Parameter], hints: Mapping[str, Any], batch: bool
    ) -> None:
        """Set the types of the inputs. The annotation of a batch is that of a list of them."""
        from gophersnake._worker.types.hints import listed, read  # as above

        for each in parameters:
            hint = hints.get(each.name, Any)
            hint = listed(hint) if batch else hint
            found = read(hint)
            self.inputs[each.name] = _optional(found, each)
            if self.inputs[each.name] is found:
                self._hints[each.name] = hint

    def read_output(self, hint: Any, kind: str, batch: bool, stateful: bool) -> None:
        """Set the type of the output; see ``Signature`` for the arguments."""
        from gophersnake._worker.types.containers import Union  # as above
        from gophersnake._worker.types.hints import iterated, listed, read

        if batch:
            hint = listed(hint)
        elif kind.endswith("generator") or stateful:
            each = iterated(hint)
            hint = hint if stateful and each is Any and not kind.endswith("generator") else each
        self.output = read(hint)
        if stateful and isinstance(self.output, Union):  # None is no output
            rest = [each for each in self.output.members if each is not SCALARS[None]]
            self.output = rest[0] if len(rest) == 1 else Union(rest)

    def problems(self) -> list[NodeFault]:
        """Return what keeps the types from being used: the library is missing."""
        wanted = {
            name for name, each in (self.inputs | self.params).items() if _needs_library(each)
        }
        if not wanted or _library() is not None:
            return []
        names = ", ".join(map(repr, sorted(wanted)))
        return [
            NodeFault(
                f"the annotation of {names} needs the package msgspec, which is not installed, "
                "or is older than 0.18",
                "install it (pip install msgspec), or declare the node with @node(types=False)",
            )
        ]

    def misfit(self, name: str, value: Any) -> str:
        """Return why the value of a param does not fit; empty if it does."""
        try:
            self.params[name].build(value)
        except Mismatch as error:
            return f"{error.path}: {error.reason}"
        return ""

    def built(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params as they are annotated.

        Raises:
            Mismatch: one of them does not fit.
        """
        return {name: self.params.get(name, ANY).build(value) for name, value in params.items()}

    def decoder(self, most: int) -> Decoder:
        """Return the decoder of arguments: the plain one if no input has to be converted."""
        converts = {name: self.converter(name) for name in self.inputs}
        if not any(converts.values()):
            return Decoder(most)
        return TypedDecoder(most, converts)

    def converter(self, name: str) -> Convert | None:
        """Return the function that builds an input as it is annotated, ``None`` for any value.

        The function raises ``Mismatch`` if a value does not fit.
        """
        of = self.inputs.get(name, ANY)
        if of is ANY:
            return None
        if not of.parts() or name not in self._hints or not all(each.native for each in walk(of)):
            return of.build
        return _scalar(of) or _fast(of, self._hints[name]) or of.build

    def writer(self) -> Convert | None:
        """Return what results go through before they are encoded, ``None`` if nothing."""
        return self.output.write if any(each.rewrites for each in walk(self.output)) else None

    def input_schema(self, name: str) -> str:
        """Return the schema of an input, as JSON."""
        return _text(self.inputs.get(name, ANY), False)

    def param_schema(self, name: str) -> str:
        """Return the schema of a param with its default, as JSON."""
        more = {}
        if self.params.get(name, ANY) is not ANY:
            from gophersnake._worker.types.records import plain_default  # has been imported

            default = plain_default(self._defaults.get(name, ...))
            more = {} if default is ... else {"default": default}
        return _text(self.params.get(name, ANY), False, more)

    def output_schema(self) -> str:
        """Return the schema of the output, as JSON."""
        return _text(self.output, True)


class Described(Ports):
    """The types of a node whose annotations are shown, but do not change its values."""

    def __init__(self, params: list[inspect.Parameter], hints: Mapping[str, Any]) -> None:
        """Create the types of a node from the annotations of its params."""
        super().__init__()
        if hints:
            self.read_params(params, hints)

    def problems(self) -> list[NodeFault]:
        """Return nothing: no library is needed."""
        return []

    def misfit(self, name: str, value: Any) -> str:
        """Return nothing: a param may have any value."""
        return ""

    def built(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params as they are."""
        return dict(params)


def _optional(of: Type, parameter: inspect.Parameter) -> Type:
    """Return the type of a parameter, with null if that is its default."""
    if parameter.default is not None or of is ANY:
        return of
    try:
        of.build(None)
    except Mismatch:
        from gophersnake._worker.types.containers import Union  # only annotated nodes need it

        return Union([of, SCALARS[None]])
    return of


def _needs_library(of: Type) -> bool:
    return any(each.library for each in walk(of))


def _library() -> Any:
    """Return msgspec, ``None`` if it is missing or so old that ``convert`` lacks options."""
    try:
        import msgspec  # slow to import, and may be missing

        msgspec.convert(None, None, **OPTIONS)
    except (ImportError, AttributeError, TypeError):
        return None
    return msgspec


def _scalar(of: Type) -> Convert | None:
    """Return a function for a union of scalars, which takes less time than msgspec's.

    It returns ``None`` for other types.
    """
    from gophersnake._worker.types.containers import Union  # has been imported

    kinds = frozenset(each.exact for each in of.parts())
    if not isinstance(of, Union) or None in kinds:
        return None
    build = of.build

    def converted(value: Any) -> Any:
        return value if type(value) in kinds else build(value)

    return converted


def _fast(of: Type, hint: Any) -> Convert | None:
    """Return a function that converts with msgspec; ``None`` if it cannot.

    msgspec stops at a mismatch without naming all of its path, and refuses some values that
    ``Type.build`` accepts. So that decides then.
    """
    msgspec = _library()
    if msgspec is None:
        return None
    try:
        msgspec.json.Decoder(hint, dec_hook=_hook)  # it refuses some unions
    except TypeError:
        return None
    convert, invalid = msgspec.convert, msgspec.ValidationError
    needed = {each.option for each in walk(of)}  # each costs time in every call
    options = {name: option for name, option in OPTIONS.items() if name in needed}

    def build(value: Any) -> Any:
        try:
            return convert(value, hint, **options) if options else convert(value, hint)
        except invalid:
            return of.build(value)

    return build


def _hook(kind: Any, value: Any) -> Any:
    """Build what msgspec does not know."""
    from gophersnake._worker.types.texts import text_type  # msgspec has been imported as well

    found = text_type(kind)
    return value if found is None else found.build(value)


OPTIONS: dict[str, Any] = {"builtin_types": (bytes,), "str_keys": True, "dec_hook": _hook}
"""The options of ``msgspec.convert`` that some types need."""


class TypedDecoder(Decoder):
    """A decoder that builds the arguments of calls as they are annotated."""

    def __init__(self, most: int, converts: Mapping[str, Convert | None]) -> None:
        """Create the decoder.

        Args:
            most: see ``Decoder``.
            converts: the function for each input by name, ``None`` to leave it as it is.
        """
        super().__init__(most)
        self._first = next(iter(converts.values()))
        self._converts = {name: each for name, each in converts.items() if each is not None}

    def arguments(self, body: Bytes, buffers: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments as they are annotated; see ``Decoder``.

        Raises:
            ProtocolError: the body does not hold arguments.
            ValueFault: the body is not a valid value, or not what is annotated.
        """
        args, named = super().arguments(body, buffers)
        root = "input"
        try:
            if args and self._first is not None:
                args[0] = self._first(args[0])
            if named:
                for name, convert in self._converts.items():
                    if name in named:
                        root = f"input.{name}"
                        named[name] = convert(named[name])
        except Mismatch as error:
            raise ValueFault(root + error.path, error.reason) from error.__cause__
        return args, named


def _text(of: Type, output: bool, more: Schema | None = None) -> str:
    """Return a schema as JSON; that of any value if it is not valid or too large."""
    if of is ANY and not more:
        return "{}"
    try:
        schema = Document(output).whole(of) | (more or {})
        text = _plain_text(schema)
        if text is None:
            import json  # many nodes need none

            text = json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if len(text.encode()) <= MAX_SCHEMA and _depth(schema) <= MAX_DEPTH:
            return text
    except (TypeError, ValueError, RecursionError):  # a literal or a bound that JSON lacks
        pass
    return "{}"


def _plain_text(value: Any) -> str | None:
    """Return a schema of maps, lists and plain texts as JSON; ``None`` for all others."""
    if type(value) is str:
        plain = value.isascii() and value.isprintable() and not {'"', "\\"} & set(value)
        return f'"{value}"' if plain else None
    if type(value) is list:
        items = [_plain_text(each) for each in value]
        return None if None in items else f"[{','.join(map(str, items))}]"
    if type(value) is dict:
        pairs = [(_plain_text(key), _plain_text(each)) for key, each in value.items()]
        if all(None not in pair for pair in pairs):
            return f"{{{','.join(f'{key}:{each}' for key, each in pairs)}}}"
    return None


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0
