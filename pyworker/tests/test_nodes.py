"""The options of ``@node``, and the ones that it refuses."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from gophersnake import node
from gophersnake._worker.definition.signature import Signature
from gophersnake.nodes import Options, name_of, options_of


def plain(value: Any) -> Any:
    return value


def generator(value: Any) -> Iterator[Any]:
    yield value


async def later(value: Any) -> Any:
    return value


async def generator_later(value: Any) -> AsyncIterator[Any]:
    yield value


class Keeps:
    def process(self, value: Any) -> Any:
        return value


class Restores(Keeps):
    def snapshot(self) -> Any: ...
    def restore(self, state: Any) -> None: ...


class Snaps(Keeps):
    def snapshot(self) -> Any: ...


class OnlyRestores(Keeps):
    def restore(self, state: Any) -> None: ...


class Later:
    async def process(self, value: Any) -> Any:
        return value


def described(target: Any, **options: Any) -> dict[str, Any]:
    """Return the description of a node, without touching the original."""
    copied = type(target.__name__, (target,), {}) if isinstance(target, type) else wrapped(target)
    found = Signature(node(**options)(copied)).describe()
    names = ("many", "stateful", "restores", "concurrency", "batch", "max_wait")
    return {name: found[name] for name in names}


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    return functools.partial(function)


NOTHING = {
    "many": False,
    "stateful": False,
    "restores": False,
    "concurrency": 1,
    "batch": 0,
    "max_wait": 0.0,
}


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        (plain, {}, {}),
        (generator, {}, {"many": True}),
        (later, {}, {"concurrency": 64}),
        (generator_later, {}, {"many": True, "concurrency": 64}),
        (later, {"concurrency": 4096}, {"concurrency": 4096}),
        (Later, {"concurrency": 1}, {"concurrency": 1}),
        (plain, {"batch": 2}, {"batch": 2}),
        (later, {"batch": 4096, "max_wait_ms": 2.5}, {"batch": 4096, "max_wait": 0.0025}),
        (Keeps, {"batch": 2, "max_wait_ms": 0}, {"batch": 2}),
        (Keeps, {"stateful": True}, {"many": True, "stateful": True}),
        (Later, {"stateful": True}, {"many": True, "stateful": True, "concurrency": 64}),
        (
            Later,
            {"stateful": True, "concurrency": 2},
            {"many": True, "stateful": True, "concurrency": 2},
        ),
        (Restores, {"stateful": True}, {"many": True, "stateful": True, "restores": True}),
        (Restores, {}, {}),
        (Snaps, {}, {}),
    ],
)
def test_the_description_says_how_a_node_is_called(
    target: Any, options: dict[str, Any], says: dict[str, Any]
) -> None:
    assert described(target, **options) == NOTHING | says


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        (plain, {"stateful": True}, "make it a class"),
        (Snaps, {"stateful": True}, "snapshot alone has no effect; .* needs restore"),
        (OnlyRestores, {"stateful": True}, "restore alone has no effect; .* needs snapshot"),
        (Keeps, {"stateful": True, "batch": 2}, "its inputs one by one"),
        (Keeps, {"stateful": True, "concurrency": 2}, "make it async def, or give the node more"),
        (plain, {"batch": 1}, "from 2 to 4096, not 1"),
        (plain, {"batch": 4097}, "from 2 to 4096, not 4097"),
        (plain, {"batch": 2.5}, "batch must be an integer"),
        (plain, {"batch": True}, "batch must be an integer"),
        (generator, {"batch": 2}, "must return a list, not yield"),
        (generator_later, {"batch": 2}, "must return a list, not yield"),
        (later, {"batch": 2, "concurrency": 2}, "one after another; remove concurrency"),
        (plain, {"max_wait_ms": 5}, "set batch as well"),
        (plain, {"batch": 2, "max_wait_ms": -1}, "from 0 to 60000, not -1"),
        (plain, {"batch": 2, "max_wait_ms": float("nan")}, "from 0 to 60000, not nan"),
        (plain, {"batch": 2, "max_wait_ms": "5"}, "max_wait_ms must be a number"),
        (plain, {"batch": 2, "max_wait_ms": True}, "max_wait_ms must be a number"),
        (plain, {"concurrency": 2}, "concurrency is for async def"),
        (generator, {"concurrency": 2}, "concurrency is for async def"),
        (Keeps, {"concurrency": 2}, "concurrency is for async def"),
        (later, {"concurrency": 0}, "from 1 to 4096, not 0"),
        (later, {"concurrency": 4097}, "from 1 to 4096, not 4097"),
        (later, {"concurrency": True}, "concurrency must be an integer"),
        (plain, {"permanent": (ValueError, "KeyError")}, "must be an exception or a tuple of"),
        (plain, {"permanent": KeyboardInterrupt}, "must be an exception or a tuple of"),
        (plain, {"permanent": [ValueError]}, "must be an exception or a tuple of"),
        (plain, {"name": "ö" * 513}, "at most 1024 bytes, not 1026"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    target: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        node(**options)(target)
    assert options_of(target) is None


def test_options_belong_to_the_declared_target() -> None:
    @node(name="Base", stateful=True)
    class Base(Keeps):
        pass

    class Sub(Base):
        pass

    assert options_of(Base) == Options("Base", stateful=True)
    assert options_of(Sub) is None
    assert Signature(Sub).stateful is False
    assert Signature(Sub).name == "Sub"
    assert (name_of(Base), name_of(Sub)) == ("Base", None)


def test_a_node_is_still_called_as_it_was() -> None:
    @node(batch=8, max_wait_ms=2)
    def double(values: list[int]) -> list[int]:
        return [2 * value for value in values]

    assert double([1, 2]) == [2, 4]
