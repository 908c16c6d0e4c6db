"""The signatures of nodes of all kinds."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from gophersnake import Audio, node
from gophersnake._worker.definition.signature import MAX_DOC, MAX_TEXT, Signature
from gophersnake.nodes import MAX_PARAMETERS, kind_of


def names(parameters: list[Any]) -> list[str]:
    return [parameter.name for parameter in parameters]


def faults(target: Any, params: Any = (), ports: Any = ()) -> list[str]:
    params = dict(params)
    return [str(fault) for fault in Signature(target, params, ports).problems(params, ports)]


def plain(value: Any, rate: int = 8000, *, loud: bool = False) -> list[Any]:
    """Do something.

    Quite plain.
    """
    return [value, rate, loud]


class Node:
    def __init__(self, language: str = "en", *, beam: int) -> None: ...

    def process(self, audio: Audio, other: Any = None) -> str:
        return ""


class Static:
    @staticmethod
    def process(value: Any) -> Any:
        return value


class ByClass:
    @classmethod
    def process(cls, value: Any) -> Any:
        return value


class Slotted:
    __slots__ = ()

    def process(self, value: Any) -> Any:
        return value


class Callable_:
    """It is called."""

    def __call__(self, value: Any, scale: int = 1) -> Any:
        return value * scale


class FromC(dict):  # type: ignore[type-arg]
    def process(self, value: Any) -> Any:
        return value


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **named: Any) -> Any:
        return function(*args, **named)

    return wrapper


@pytest.mark.parametrize(
    ("target", "inputs", "params"),
    [
        (plain, ["value"], ["rate", "loud"]),
        (wrapped(plain), ["value"], ["rate", "loud"]),
        (functools.partial(plain, loud=True), ["value"], ["rate", "loud"]),
        (functools.partial(plain, 5), ["rate"], ["loud"]),
        (lambda: None, [], []),
        (lambda *args: None, ["args"], []),
        (lambda **named: None, [], ["named"]),
        (lambda value, /, rate=1: None, ["value"], ["rate"]),
        (lambda *, rate: None, [], ["rate"]),
        (Callable_(), ["value"], ["scale"]),
        (len, ["obj"], []),
        (max, ["value"], []),
        (Node, ["audio"], ["language", "beam"]),
        (Static, ["value"], []),
        (ByClass, ["value"], []),
        (Slotted, ["value"], []),
    ],
)
def test_inputs_and_params_are_distinguished(
    target: Any, inputs: list[str], params: list[str]
) -> None:
    signature = Signature(target)
    assert names(signature.inputs) == inputs
    assert names(signature.params) == params
    assert signature.describe()["kind"] == ("class" if isinstance(target, type) else "function")


def test_a_class_that_says_nothing_of_itself_takes_any_params() -> None:
    assert faults(FromC) == []
    assert faults(FromC, {"a": 1}) == []
    assert names(Signature(FromC).inputs) == ["value"]


@pytest.mark.parametrize(
    ("params", "ports", "inputs"),
    [
        ({"value": 1}, [], []),
        ({}, ["rate"], ["rate"]),
        ({}, ["value", "rate"], ["value", "rate"]),
        ({}, ["loud"], ["loud"]),
    ],
)
def test_ports_and_params_determine_the_inputs(
    params: dict[str, Any], ports: list[str], inputs: list[str]
) -> None:
    assert names(Signature(plain, params, ports).inputs) == inputs


def test_the_first_without_a_default_takes_the_place_of_one_that_params_set() -> None:
    def two(scale: int, flag: bool = False, *, more: int = 0) -> None: ...
    def three(scale: int, value: Any, flag: bool = False) -> None: ...

    assert names(Signature(two, {"scale": 1}).inputs) == []
    assert names(Signature(three, {"scale": 1}).inputs) == ["value"]


@pytest.mark.parametrize(
    ("target", "params", "ports", "says"),
    [
        (plain, {"rat": 1}, [], "plain has no parameter 'rat'; did you mean rate?"),
        (plain, {"zzz": 1}, [], "there are: rate, loud"),
        (plain, {}, ["valeu"], "plain has no input 'valeu'; did you mean value?"),
        (plain, {"value": 1, "rate": 2}, ["value"], "from a connection, not from params"),
        (plain, {"rate": "x"}, [], "the parameter 'rate': expected an integer, got \"x\""),
        (plain, {}, ["rate"], "needs the parameter 'value'"),
        (lambda v: None, {"x": 1}, [], "it has none"),
        (Node, {}, [], "Node needs the parameter 'beam'"),
        (Node, {"beam": "x"}, [], "Node: the parameter 'beam': expected an integer"),
        (Node, {"beam": 1}, ["other"], "Node needs the input 'audio'"),
        (Node, {"beam": 1, "self": 1}, [], "Node has no parameter 'self'"),
        (Node, {"beam": 1}, ["audo"], "did you mean audio?"),
        (functools.partial(plain), {"rat": 1}, [], "plain has no parameter 'rat'"),
        (functools.partial(plain), {"rate": "x"}, [], "expected an integer"),
        (Callable_(), {"scal": 1}, [], "Callable_ has no parameter 'scal'"),
    ],
)
def test_mismatches_are_reported(
    target: Any, params: dict[str, Any], ports: list[str], says: str
) -> None:
    assert any(says in fault for fault in faults(target, params, ports))


@pytest.mark.parametrize(
    ("target", "params", "ports"),
    [
        (plain, {"rate": 1}, []),
        (plain, {}, ["value", "rate"]),
        (plain, {"value": 1}, []),
        (lambda **named: None, {"anything": 1}, ["left"]),
        (lambda value, **named: None, {"anything": 1}, ["value", "left"]),
        (Node, {"beam": 1}, []),
        (Node, {"beam": 1}, ["audio", "other"]),
        (Static, {}, ["value"]),
        (len, {}, []),
        (max, {}, []),
    ],
)
def test_matching_params_are_no_fault(
    target: Any, params: dict[str, Any], ports: list[str]
) -> None:
    assert faults(target, params, ports) == []


def test_null_fits_where_it_is_the_default() -> None:
    def n(value: Any, size: int = None) -> None: ...  # type: ignore[assignment] # noqa: RUF013

    assert faults(n, {"size": None}) == []
    assert faults(n, {"size": "x"})


@pytest.mark.parametrize(
    ("target", "params", "args", "named", "want"),
    [
        (plain, {}, [1], {}, [1, 8000, False]),
        (plain, {"rate": 5}, [1], {}, [1, 5, False]),
        (plain, {"value": 1}, [], {}, [1, 8000, False]),
        (plain, {"value": 1}, [], {"rate": 2}, [1, 2, False]),
        (lambda scale, value, more=0: [scale, value, more], {"scale": 3}, [1], {}, [3, 1, 0]),
        (functools.partial(plain, loud=True), {"rate": 5}, [1], {}, [1, 5, True]),
        (Callable_(), {"scale": 3}, [2], {}, 6),
    ],
)
def test_a_node_is_called_with_its_params(
    target: Any, params: dict[str, Any], args: list[Any], named: dict[str, Any], want: Any
) -> None:
    signature = Signature(target, params, list(named))
    assert signature.call_with(target, params)(*args, **named) == want


def test_a_default_that_cannot_be_compared_or_shown_does_no_harm() -> None:
    np = pytest.importorskip("numpy")
    window, silent = np.ones(2), Unspeakable()

    def n(scale: Any = window, value: Any = silent, more: Any = None) -> Any:
        return [scale, value]

    n.__annotations__["more"] = Unspeakable()
    signature = Signature(n, {"scale": 1}, ["value"])
    assert signature.problems({"scale": 1}, ["value"]) == []
    assert signature.call_with(n, {"scale": 1})(value=2) == [1, 2]
    shown = Signature(n).describe()
    assert shown["params"][0]["default"] == "<Unspeakable>"
    assert shown["params"][1]["annotation"] == "<Unspeakable>"


def test_the_description_of_a_node() -> None:
    shown = Signature(plain).describe()
    assert shown["doc"] == "Do something.\n\nQuite plain."
    assert shown["file"] == __file__
    assert shown["line"] == plain.__code__.co_firstlineno
    assert shown["returns"] == "list[Any]"
    assert shown["inputs"] == [
        {
            "name": "value",
            "annotation": "Any",
            "default": None,
            "required": True,
            "schema": "{}",
        }
    ]
    assert shown["params"][0] == {
        "name": "rate",
        "annotation": "int",
        "default": "8000",
        "required": False,
        "schema": '{"type":"integer","default":8000}',
    }
    assert Signature(wrapped(plain)).describe()["line"] == shown["line"]


def test_long_texts_of_a_description_are_cut_in_whole_characters() -> None:
    def n(value: Any) -> Any:
        return value

    n.__annotations__ = {"value": "x" * 9000, "return": "ö" * 9000}
    n.__doc__ = "d" * (MAX_DOC + 1)
    shown = Signature(n).describe()
    assert shown["doc"] == "d" * (MAX_DOC - 3) + "…"
    assert shown["inputs"][0]["annotation"] == "x" * (MAX_TEXT - 3) + "…"
    assert shown["returns"] == "ö" * ((MAX_TEXT - 3) // 2) + "…"
    n.__doc__ = "d" * MAX_DOC
    assert Signature(n).describe()["doc"] == n.__doc__


def test_a_node_has_bounds_for_its_parameters() -> None:
    parameters = ", ".join(f"p{i}=0" for i in range(MAX_PARAMETERS + 1))
    scope: dict[str, Any] = {}
    exec(f"def n(value, {parameters}): ...\ndef m(value, {'x' * 1025}=0): ...", scope)
    assert faults(scope["n"]) == ["n has 1025 params, more than 1024"]
    assert faults(scope["m"]) == [f"the name {'x' * 40}… has 1025 bytes, more than 1024"]


@pytest.mark.parametrize(
    ("target", "name", "doc"),
    [
        (functools.partial(functools.partial(plain, 1), 2), "plain", ""),
        (Callable_(), "Callable_", "It is called."),
        (len, "len", "Return the number of items in a container."),
        (Node, "Node", ""),
        (node(name="Other")(wrapped(plain)), "Other", "Do something.\n\nQuite plain."),
    ],
)
def test_names_and_docstrings(target: Any, name: str, doc: str) -> None:
    shown = Signature(target).describe()
    assert (shown["name"], shown["doc"]) == (name, doc)
    assert shown["file"] in (__file__, "")


def test_the_kinds_of_functions() -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def later() -> None: ...

    async def generator_later() -> AsyncIterator[int]:
        yield 1

    class Called:
        async def __call__(self, value: Any) -> None: ...

    assert kind_of(plain) == "value"
    assert kind_of(generator) == "generator"
    assert kind_of(later) == "async"
    assert kind_of(generator_later) == "async generator"
    assert kind_of(functools.partial(generator_later)) == "async generator"
    assert kind_of(Called()) == "async"
    assert kind_of(len) == "value"
    assert kind_of(Callable_().__call__) == "value"
