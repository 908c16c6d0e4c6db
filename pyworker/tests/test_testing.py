"""``gophersnake.testing``: a test of a node sees what a worker would do."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from gophersnake import Permanent, node
from gophersnake.testing import Inputs, NodeError, call_node, open_node, open_session

from tests.conftest import Serve
from tests.supervisor import PACKAGE, Failed, Supervisor

NODES = """
from __future__ import annotations
import asyncio, dataclasses, enum
from collections.abc import AsyncIterator, Iterator
from gophersnake import Permanent, Transient, node

class Color(enum.Enum):
    RED = "red"

@dataclasses.dataclass
class Item:
    price: float
    color: Color = Color.RED

def echo(value):
    return value

def total(items: list[Item], factor: float = 1.0) -> float:
    return factor * sum(item.price for item in items)

def item(value: Item) -> Item:
    return value

def join(left: Item, right: int, by: str = "-") -> str:
    return f"{left.price}{by}{right}"

def later_input(prefix: str, value: int) -> str:
    return f"{prefix}{value}"

def tuples(value) -> tuple[int, set[int]]:
    return 1, {3, 2}

def opaque(value):
    return {"deep": [1, object()]}

def cycle(value):
    made = []
    made.append(made)
    return made

def wide(value):
    return 1 << 65

def fails(value):
    raise ValueError(f"no {value}")

def chained(value):
    try:
        {}[value]
    except KeyError as error:
        raise RuntimeError("outer") from error

def permanent(value):
    raise Permanent("never")

def transient(value):
    raise Transient("later", retry_after=2.5)

@node(permanent=(KeyError,))
def declared(value):
    raise KeyError(value)

def unreadable(value):
    class Hostile(Exception):
        def __str__(self):
            raise TypeError
    raise Hostile

def each(count: int) -> Iterator[Item]:
    for price in range(count):
        yield Item(price)

def each_opaque(value):
    yield 1
    yield object()

def each_fails(value):
    yield 1
    raise LookupError("two")

async def later(value: Item) -> Item:
    await asyncio.sleep(0)
    return value

async def later_fails(value):
    await asyncio.sleep(0)
    raise OSError("later")

async def canceled(value):
    raise asyncio.CancelledError

async def each_later(count: int) -> AsyncIterator[set[int]]:
    for number in range(count):
        await asyncio.sleep(0)
        yield {number}

@node(batch=8)
def together(items: list[Item]) -> list[float]:
    return [item.price for item in items]

@node(batch=8)
def too_few(items):
    return []

@node(batch=8)
def no_list(items):
    return 5

@node(batch=8)
def one_fails(items):
    return [ValueError("alone")]

@node(batch=8)
async def together_later(items):
    return [[each] for each in items]

@node(threads=2)
def threaded(value: int) -> int:
    return value + 1

@node(types=False)
def loose(value: int) -> int:
    return value

class Scaled:
    def __init__(self, factor: float = 1.0):
        self.factor = factor
    def setup(self):
        self.ready = 10
    def process(self, value: float) -> float:
        return value * self.factor * self.ready

class LaterScaled(Scaled):
    async def setup(self):
        self.ready = 100
        self.loop = asyncio.get_running_loop()
    async def process(self, value: float) -> float:
        assert self.loop is asyncio.get_running_loop()
        return value * self.ready

class NoSetup:
    def setup(self):
        raise RuntimeError("no model")
    def process(self, value):
        return value
"""

CASES: list[tuple[str, Any, dict[str, Any]]] = [
    ("echo", None, {}),
    ("echo", {"a": [1, 2.5, "ü", b"\x00"], "b": None}, {}),
    ("echo", (1, (2,)), {}),
    ("total", [{"price": 1}, {"price": 0.5, "color": "red"}], {"factor": 2}),
    ("total", [{"price": 1}, {"price": "five"}], {}),
    ("total", [{"price": 1, "color": "blue"}], {}),
    ("total", 5, {}),
    ("total", [], {"factor": "x"}),
    ("total", [], {"facto": 2}),
    ("total", [], {"items": []}),
    ("item", {"price": 1}, {}),
    ("item", {}, {}),
    ("join", Inputs(left={"price": 1}, right=2), {"by": "+"}),
    ("join", Inputs(left={"price": 1}, right="x"), {}),
    ("join", Inputs(left={"color": 1}, right=2), {}),
    ("join", Inputs(left={"price": 1}), {}),
    ("join", Inputs(left={"price": 1}, wrong=2), {}),
    ("later_input", 5, {"prefix": "n"}),
    ("later_input", 5, {}),
    ("tuples", 1, {}),
    ("opaque", 1, {}),
    ("cycle", 1, {}),
    ("wide", 1, {}),
    ("fails", "x", {}),
    ("chained", "x", {}),
    ("permanent", 1, {}),
    ("transient", 1, {}),
    ("declared", "x", {}),
    ("unreadable", 1, {}),
    ("each", 2, {}),
    ("each", "x", {}),
    ("each_opaque", 1, {}),
    ("each_fails", 1, {}),
    ("later", {"price": 1}, {}),
    ("later", 5, {}),
    ("later_fails", 1, {}),
    ("canceled", 1, {}),
    ("each_later", 2, {}),
    ("each_later", None, {}),
    ("together", {"price": 1}, {}),
    ("together", {"price": "x"}, {}),
    ("too_few", 1, {}),
    ("no_list", 1, {}),
    ("one_fails", 1, {}),
    ("together_later", 1, {}),
    ("threaded", 1, {}),
    ("threaded", "x", {}),
    ("loose", 1.5, {}),
    ("Scaled", 2, {"factor": 3}),
    ("Scaled", "x", {}),
    ("Scaled", 2, {"factor": "x"}),
    ("LaterScaled", 2, {}),
    ("NoSetup", 2, {}),
]


def load(path: Path) -> ModuleType:
    """Import a file of nodes."""
    spec = importlib.util.spec_from_file_location(f"nodes_of_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def nodes(tmp_path: Path) -> ModuleType:
    """Import the nodes in the process of the test."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "nodes.py").write_text(NODES, encoding="utf-8")
    return load(folder / "nodes.py")


def tried(call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Return the result of a call, or what its error says, in a worker or in the test."""
    try:
        return call(*args, **named)
    except Failed as failed:
        body = failed.body
        names = ("kind", "stage", "message", "path", "hint", "class", "retryable")
        found = tuple(body.get(name, "") for name in names)
    except NodeError as error:
        found = (
            error.kind,
            error.stage,
            error.message,
            error.path,
            error.hint,
            error.error_class,
            "" if error.retryable is None else error.retryable,
        )
    # Each side imports the nodes under a name of its own.
    return tuple(str(each).split("<locals>")[-1] for each in found)


def in_worker(serve: Serve, name: str, value: Any, params: dict[str, Any]) -> Any:
    """Return the result of a call in a real worker."""
    ports = list(value.values) if isinstance(value, Inputs) else None
    worker: Supervisor = serve(NODES, python=f"nodes.py:{name}", params=params, ports=ports)
    call = worker.begin(**value.values) if ports else worker.begin(value)
    many = name.startswith("each")
    return worker.items(call) if many else worker.end(call)


@pytest.mark.parametrize(("name", "value", "params"), CASES)
def test_a_call_in_a_test_equals_one_in_a_worker(
    serve: Serve, nodes: ModuleType, name: str, value: Any, params: dict[str, Any]
) -> None:
    here = tried(call_node, getattr(nodes, name), value, **params)
    assert here == tried(in_worker, serve, name, value, params)


STATEFUL = """
import dataclasses
from gophersnake import node

@dataclasses.dataclass
class Item:
    price: float

@node(stateful=True)
class Sums:
    def __init__(self, start: float = 0):
        self.start = start
    def begin(self):
        self.sum = self.start
    def process(self, item: Item):
        self.sum += item.price
        return (self.sum,) if item.price else None
    def finish(self):
        yield "last"
        yield self.sum
    def snapshot(self):
        return (self.sum,)
    def restore(self, state):
        self.sum = state[0]

@node(stateful=True)
class Later:
    async def begin(self):
        self.count = 0
    async def process(self, value: int):
        self.count += value
        yield self.count
        yield {self.count}
"""


def fed(worker: Supervisor) -> Callable[[Any], list[Any]]:
    """Return a function that feeds the worker's first session."""
    return lambda value: worker.items(worker.feed(1, value))


def test_a_session_in_a_test_equals_one_in_a_worker(serve: Serve, tmp_path: Path) -> None:
    worker = serve(STATEFUL, python="nodes.py:Sums", params={"start": 1})
    worker.end(worker.open(1))
    nodes = load(tmp_path / "nodes.py")
    with open_session(nodes.Sums, start=1) as session:
        for price in (2, 0, "x", 3):
            item = {"price": price}
            assert tried(session.process, item) == tried(fed(worker), item)
        state = session.snapshot()
        assert state == worker.snapshot(1) == [6.0]
        assert session.finish() == worker.items(worker.finish(1)) == ["last", 6.0]
        session.restore(state)
        worker.end(worker.open(2, state))
        assert session.process({"price": 1}) == worker.items(worker.feed(2, {"price": 1}))
    assert call_node(nodes.Sums, {"price": 2}) == [[2.0], "last", 2.0]


def test_an_async_session_in_a_test_equals_one_in_a_worker(serve: Serve, tmp_path: Path) -> None:
    worker = serve(STATEFUL, python="nodes.py:Later")
    worker.end(worker.open(1))
    nodes = load(tmp_path / "nodes.py")
    with open_session(nodes.Later) as session:
        for value in (2, "x", 3):
            assert tried(session.process, value) == tried(fed(worker), value)


def test_an_array_arrives_read_only_and_apart_from_that_of_the_test() -> None:
    np = pytest.importorskip("numpy")
    for size in (4, 100_000):  # beside the body if it is large
        given = np.zeros(size)
        seen: list[Any] = []
        result = call_node(lambda value, seen=seen: seen.append(value) or value, given)
        given[0] = 5
        assert not seen[0].flags.writeable
        assert not result.flags.writeable
        assert result[0] == 0
        assert result.shape == (size,)


@pytest.mark.parametrize(
    ("result", "message"),
    [({b"key": 1}, "a map key"), ({1: "a"}, "a map key"), (object(), "object")],
)
def test_what_the_supervisor_refuses_is_refused(result: Any, message: str) -> None:
    with pytest.raises(NodeError, match=message) as caught:
        call_node(lambda value: result, 1)
    assert (caught.value.kind, caught.value.stage) == ("marshaling", "encode")
    assert caught.value.path.startswith("result")
    with pytest.raises(NodeError, match=message) as caught:
        call_node(lambda value: 1, result)
    assert (caught.value.kind, caught.value.stage) == ("marshaling", "input")
    assert caught.value.path.startswith("input")


def test_nesting_beyond_the_protocol_is_refused() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(NodeError, match="nested deeper"):
        call_node(lambda value: deep, 1)


def test_the_exception_of_the_node_is_the_cause() -> None:
    def fails(value: int) -> int:
        return 1 // value

    with pytest.raises(NodeError, match="call: ZeroDivisionError: ") as caught:
        call_node(fails, 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


class Model:
    """Counts what is done to it."""

    done: ClassVar[list[str]] = []

    def setup(self) -> None:
        self.done.append("setup")

    def process(self, value: Any) -> Any:
        self.done.append("process")
        if value is None:
            raise Permanent("none")
        return value

    def close(self) -> None:
        self.done.append("close")


def test_a_class_is_set_up_once_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "done", [])
    with open_node(Model) as model:
        assert model(1) == 1
        with pytest.raises(NodeError) as caught:
            model(None)
        assert caught.value.retryable is False
        assert model(2) == 2
    assert Model.done == ["setup", "process", "process", "process", "close"]


def test_a_class_is_closed_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "done", [])
    with pytest.raises(NodeError, match="none"):
        call_node(Model, None)
    assert Model.done[-1] == "close"


def test_an_exception_of_close_fails_the_test() -> None:
    class Broken:
        def process(self, value: Any) -> Any:
            return value

        def close(self) -> None:
            raise OSError("busy")

    with pytest.raises(NodeError, match="close: OSError: busy"):
        call_node(Broken, 1)


def test_ctrl_c_and_a_skipped_test_are_not_errors_of_the_node() -> None:
    def interrupted(value: type[BaseException]) -> None:
        raise KeyboardInterrupt

    def skipped(value: Any) -> None:
        pytest.skip("in the node")

    with pytest.raises(KeyboardInterrupt):
        call_node(interrupted, 1)
    with pytest.raises(pytest.skip.Exception):
        call_node(skipped, 1)


def test_other_inputs_than_those_of_the_node_are_a_fault_of_the_test() -> None:
    with open_node(lambda left, right: left, "left", "right") as opened:
        assert opened(Inputs(left=1, right=2)) == 1
        with pytest.raises(TypeError, match="opened for left, right, and got left"):
            opened(Inputs(left=1))
    with pytest.raises(TypeError, match="not stateful"), open_session(Model):
        pass


def test_an_async_node_within_a_running_loop_says_what_to_write() -> None:
    async def later(value: int) -> int:
        return value

    async def test() -> Any:
        with pytest.raises(RuntimeError, match="to_thread"):
            call_node(later, 1)
        return await asyncio.to_thread(call_node, later, 1)

    assert asyncio.run(test()) == 1


def test_tasks_that_an_async_node_leaves_behind_end_with_it() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def starts(value: Any) -> None:
        starts.task = asyncio.ensure_future(forever())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    call_node(starts, 1)
    assert ended == ["task"]


@node(stateful=True)
class Uncopied:
    """A stateful node that refuses to be copied."""

    def process(self, value: Any) -> Any:
        return value

    def __copy__(self) -> Any:
        raise TypeError("one only")


def test_a_node_that_cannot_be_copied_has_no_session() -> None:
    with pytest.raises(NodeError, match="give the class a __copy__ method") as caught:
        call_node(Uncopied, 1)
    assert caught.value.stage == "begin"


def test_the_process_of_the_test_is_left_as_it_is() -> None:
    """Functions of modules, signal handlers and the event loop are those of before."""
    code = f"""
import sys
sys.path.insert(0, {str(PACKAGE)!r})
import asyncio, gc, logging, os, select, signal, socket, threading, time
modules = (gc, logging, os, select, signal, socket, threading, time, sys)
def state():
    handlers = [signal.getsignal(each) for each in signal.valid_signals()]
    found = [dict(vars(module)) for module in modules]
    for each in found:
        each.pop("_cache", None)
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook, sys.stdout, sys.stderr
    return handlers, found, hooks, logging.root.handlers[:], os.environ.copy(), gc.get_threshold()
before = state()
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
from gophersnake.testing import call_node
async def later(value: int):
    return value
assert call_node(later, 5) == 5
after = state()
for index, (one, other) in enumerate(zip(before, after)):
    assert one == other, index
assert asyncio.get_event_loop() is loop
loop.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_fixture_of_the_plugin_calls_nodes(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["gophersnake.pytest_plugin"]\n')
    (tmp_path / "test_nodes.py").write_text(
        "def double(value: int) -> int:\n"
        "    return 2 * value\n"
        "def test_double(call_node):\n"
        "    assert call_node(double, 4) == 8\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PACKAGE)},
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
