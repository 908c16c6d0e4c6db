"""Nodes with annotations, defaults and params of all sorts are described and checked."""

from __future__ import annotations

import collections.abc
import contextlib
import inspect
import json
import typing
from typing import Annotated, Any, Literal, NewType, Optional, TypeVar, Union

import gophersnake
import msgpack
from gophersnake._worker.definition.lookup import NodeFault
from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.types.hints import read
from gophersnake._worker.types.kinds import Document, Mismatch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.test_properties import plain


class Odd:
    """Compares, hashes and represents itself in unexpected ways."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Meta(type):
    """A class whose classes are as odd."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __repr__(cls) -> str:
        raise RuntimeError("no words")


OddClass = Meta("OddClass", (), {})
UserId = NewType("UserId", int)
T = TypeVar("T")


class Movie(typing.TypedDict):
    """A map with known keys."""

    title: str


simple = st.sampled_from(
    [int, float, str, bool, bytes, list, dict, type(None), None, Any, object, UserId, T, Movie,
     gophersnake.Audio, gophersnake.Tensor, collections.abc.Sequence, "NotThere", "int", ...]
)  # fmt: skip
odd = st.sampled_from([OddClass, [int], {"a": int}, 3, b"x", inspect.Parameter.empty]) | st.builds(
    Odd
)


def _combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(_of, st.sampled_from([list, Optional, collections.abc.Iterable]), inner),
        inner.map(lambda each: _of(dict, (str, each))),
        inner.map(lambda each: _of(tuple, (each, ...))),
        inner.map(lambda each: _of(Annotated, (each, []))),
        st.builds(_of, st.just(Union), st.tuples(inner, inner)),
        st.lists(plain, min_size=1, max_size=3).map(lambda members: _of(Literal, tuple(members))),
    )


def _of(generic: Any, args: Any) -> Any:
    """Return the annotation that has these arguments, plain ``int`` if Python refuses it."""
    try:
        return generic[args]
    except Exception:
        return int


hinted: st.SearchStrategy[Any] = st.recursive(simple | odd, _combined, max_leaves=4)
names = st.sampled_from(["value", "rate", "x", "größe", "self", "_"])
kinds = st.sampled_from(list(inspect._ParameterKind))


@st.composite
def functions(draw: st.DrawFn) -> Any:
    """Draw a function whose signature says anything."""
    parameters = []
    for name in draw(st.lists(names, unique=True, max_size=5)):
        kind = draw(kinds)
        default: Any = inspect.Parameter.empty
        if kind.name not in ("VAR_POSITIONAL", "VAR_KEYWORD"):
            default = draw(st.just(default) | plain | st.builds(Odd))
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=draw(hinted)))
    parameters.sort(key=lambda p: (p.kind, p.default is not p.empty))

    def node(*args: Any, **named: Any) -> None: ...

    try:
        node.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            parameters, return_annotation=draw(hinted)
        )
    except ValueError:  # *args twice
        pass
    node.__annotations__ = {p.name: p.annotation for p in parameters}
    node.__doc__ = draw(st.none() | st.text(max_size=20))
    return node


@given(
    functions(), st.dictionaries(names, plain, max_size=3), st.lists(names, unique=True, max_size=2)
)
def test_any_signature_is_described_and_checked(
    node: Any, params: dict[str, Any], ports: list[str]
) -> None:
    signature = Signature(node, params, ports)
    for problem in signature.problems(params, ports):
        assert isinstance(problem, NodeFault)
        assert str(problem)
    description = signature.describe()
    json.dumps(description)
    msgpack.packb(description, unicode_errors="backslashreplace")
    assert isinstance(description["returns"], str)
    for parameter in description["params"] + description["inputs"]:
        assert isinstance(parameter["annotation"], str)
        assert parameter["required"] == (parameter["default"] is None)


@given(plain, hinted)
@example([1], _of(list, _of(Annotated, (str, []))))
def test_any_value_fits_an_annotation_or_not(value: Any, hint: Any) -> None:
    of = read(hint)
    Document(False).whole(of)
    with contextlib.suppress(Mismatch):
        of.build(value)


FITTING: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(), float: st.floats(), str: st.text(), bool: st.booleans(),
    type(None): st.none(), UserId: st.integers(), Any: plain,
}  # fmt: skip


@st.composite
def fitting(draw: st.DrawFn, depth: int = 3) -> tuple[Any, Any]:
    """Draw an annotation that a manifest can satisfy, and a value that does."""
    form = draw(st.sampled_from(["plain", "list", "map", "optional", "annotated", "literal"]))
    if depth == 0 or form == "plain":
        hint = draw(st.sampled_from(list(FITTING)))
        return hint, draw(FITTING[hint])
    hint, value = draw(fitting(depth - 1))
    if form == "list":
        return _of(list, hint), draw(st.just([value]) | st.just([]))
    if form == "map":
        return _of(dict, (str, hint)), {"k": value}
    if form == "optional":
        return _of(Optional, hint), draw(st.just(value) | st.none())
    if form == "annotated":
        return _of(Annotated, (hint, "said")), value
    member = draw(st.integers() | st.text() | st.booleans())
    return _of(Literal, member), member


@given(fitting())
def test_matching_params_are_accepted(drawn: tuple[Any, Any]) -> None:
    hint, value = drawn
    read(hint).build(value)
