"""Calls of nodes whose annotations hold, through a real worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Serve
from tests.supervisor import Failed, Supervisor

NODES = """
from __future__ import annotations
import dataclasses, datetime
from collections.abc import AsyncIterator, Iterator
from typing import Any
from gophersnake import node

@dataclasses.dataclass
class Item:
    price: float
    count: int = 1

@node
def total(items: list[Item], factor: float = 1.0) -> float:
    return factor * sum(item.price * item.count for item in items)

@node
def ports(left: Item, right: int) -> dict[int, set[str]]:
    return {right: {"b", "a"}, 5: {type(left).__name__}}

@node
def each(item: Item) -> Iterator[set[int]]:
    yield {item.count}
    yield {2, 1}

@node
async def later(item: Item) -> Item:
    return item

@node
async def each_later(item: Item) -> AsyncIterator[complex]:
    yield complex(item.price, item.count)

@node(batch=8, max_wait_ms=200)
def together(items: list[Item]) -> list[set[float]]:
    return [{item.price} for item in items]

@node(stateful=True)
class Sum:
    def __init__(self, first: Item) -> None:
        self.total = first.price
    def process(self, item: Item) -> set[float] | None:
        self.total += item.price
        return {self.total}
    def snapshot(self):
        return self.total
    def restore(self, state):
        self.total = state

@node
def when(day: datetime.date) -> datetime.date:
    return day + datetime.timedelta(1)

@node(types=False)
def loose(value: int) -> int:
    return value

@node
def scalar(value: int) -> int:
    return value

@node
def nothing(value: int = None) -> Any:
    return value
"""

Begin = Callable[..., Supervisor]


@pytest.fixture
def begin(serve: Serve) -> Begin:
    """Return a function that starts a worker with one of the nodes."""
    return lambda node_type, **setup: serve(NODES, node_type=node_type, **setup)


def fault(call: Callable[[], Any]) -> str:
    """Return the path and the message of a call's failure, which is marshaling."""
    with pytest.raises(Failed) as caught:
        call()
    assert caught.value.body["kind"] == "marshaling"
    return f"{caught.value.body['path']}: {caught.value.body['message']}"


def test_an_input_and_a_param_are_built(begin: Begin) -> None:
    worker = begin("total", params={"factor": 2})
    assert worker.call([{"price": 1, "count": 3}, {"price": 0.5}]) == 7.0
    wrong = [{"price": 1}, {"price": "five"}]
    says = 'input[1].price: expected a number, got "five"'
    assert fault(lambda: worker.call(wrong)) == says
    assert worker.call([]) == 0, "the worker goes on"


def test_the_inputs_of_ports_are_built_and_the_output_is_written(begin: Begin) -> None:
    worker = begin("ports", ports=["left", "right"])
    assert worker.call(left={"price": 1}, right=7) == {"7": ["a", "b"], "5": ["Item"]}
    wrong = {"price": 1, "count": "x"}
    says = 'input.left.count: expected an integer, got "x"'
    assert fault(lambda: worker.call(left=wrong, right=7)) == says
    says = 'input.right: expected an integer, got "five"'
    assert fault(lambda: worker.call(left={"price": 1}, right="five")) == says


def test_the_values_of_generators_are_written(begin: Begin) -> None:
    worker = begin("each")
    assert worker.items(worker.begin({"price": 1, "count": 3})) == [[3], [1, 2]]
    assert fault(lambda: worker.items(worker.begin(5))) == "input: expected a map (Item), got 5"
    later = begin("each_later")
    assert later.items(later.begin({"price": 1, "count": 3})) == [[1.0, 3.0]]
    assert fault(lambda: later.items(later.begin(5))) == "input: expected a map (Item), got 5"


def test_an_async_node_gets_what_is_annotated(begin: Begin) -> None:
    worker = begin("later")
    assert worker.call({"price": 2}) == {"price": 2.0, "count": 1}
    assert fault(lambda: worker.call(5)) == "input: expected a map (Item), got 5"


def test_an_input_of_a_batch_fails_alone(begin: Begin) -> None:
    worker = begin("together")
    calls = [worker.begin({"price": 1}), worker.begin({"price": "x"}), worker.begin({"price": 2})]
    says = 'input.price: expected a number, got "x"'
    assert fault(lambda: worker.end(calls[1])) == says  # before the batch runs
    assert worker.end(calls[0]) == [1.0]
    assert worker.end(calls[2]) == [2.0]


def test_the_items_of_a_session_are_built_and_its_state_is_not(begin: Begin) -> None:
    worker = begin("Sum", params={"first": {"price": 1}})
    worker.end(worker.open(1))
    assert worker.items(worker.feed(1, {"price": 2})) == [[3.0]]
    assert fault(lambda: worker.items(worker.feed(1, 5))) == "input: expected a map (Item), got 5"
    assert worker.snapshot(1) == 3.0


def test_a_param_that_does_not_fit_is_a_fault_of_the_manifest(begin: Begin) -> None:
    with pytest.raises(Failed) as caught:
        begin("Sum", params={"first": {"price": "x"}})
    assert caught.value.body["kind"] == "manifest"
    says = "Sum: the parameter 'first'.price: expected a number, got \"x\""
    assert caught.value.body["message"] == says


def test_annotations_that_a_node_does_not_mean_can_be_switched_off(begin: Begin) -> None:
    assert begin("loose").call(1.5) == 1.5
    assert fault(lambda: begin("scalar").call(1.5)) == "input: expected an integer, got 1.5"


def test_a_default_of_none_takes_null(begin: Begin) -> None:
    worker = begin("nothing")
    assert worker.call(None) is None
    assert fault(lambda: worker.call("x")) == 'input: expected an integer or null, got "x"'


BROKEN = "import sys; sys.modules['msgspec'] = None\n"
"""Makes a module as if msgspec were not installed."""


def test_only_dates_need_msgspec(serve: Serve) -> None:
    source = BROKEN + NODES.replace("from __future__ import annotations\n", "")
    assert serve(source, node_type="total").call([{"price": 1}]) == 1.0
    with pytest.raises(Failed) as caught:
        serve(source, node_type="when")
    assert caught.value.body["kind"] == "manifest"
    assert "the annotation of 'day' needs the package msgspec" in caught.value.body["message"]
    assert "pip install msgspec" in caught.value.body["hint"]
    assert serve(NODES, node_type="when").call("2024-02-28") == "2024-02-29"
