"""The seam of adapters, and that of RemoteMedia with its stand-in."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from gophersnake import Audio, Image, Json, Table
from gophersnake._worker import adapters
from gophersnake._worker.adapters import remotemedia_values as values
from gophersnake._worker.definition.lookup import NodeFault, load
from gophersnake.testing import NodeError, open_node, open_session

from tests.conftest import Serve
from tests.supervisor import DROP, Failed

numpy: Any = pytest.importorskip("numpy")

HEAD = """
    import asyncio, logging
    from remotemedia.core.multiprocessing import MultiprocessNode, NodeConfig, RuntimeData
    from remotemedia.core.node import Node
    log = logging.getLogger("node").info

    class Base(MultiprocessNode):
        async def initialize(self): pass
        async def cleanup(self): pass
"""


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that writes a module, and returns one of its nodes."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(source: str, name: str = "n") -> Any:
        path = tmp_path / f"nodes_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(textwrap.dedent(HEAD) + textwrap.dedent(source), encoding="utf-8")
        return load(str(tmp_path), path.name, name)

    return write


def test_a_worker_of_an_ordinary_node_imports_no_adapter(serve: Serve) -> None:
    worker = serve(
        """
        import sys
        from gophersnake import node
        @node
        def n(value):
            return sorted(m for m in sys.modules if "adapters." in m or "remotemedia" in m)
        """
    )
    assert worker.call(1) == []


@pytest.mark.parametrize(
    ("source", "recognized"),
    [
        ("class n:\n def process(self, x): pass", False),
        ("class n:\n def initialize(self): pass\n def process(self, x): pass", True),
        ("class n:\n def cleanup(self): pass\n def process(self, x): pass", True),
        ("class n:\n def __init__(self, node_id): pass\n def process(self, x): pass", True),
        (
            "class n:\n def initialize(self): pass\n def setup(self): pass\n"
            " def process(self, x): pass",
            False,
        ),
        ("class n:\n def initialize(self): pass", False),
        ("def n(node_id): pass", False),
    ],
)
def test_plain_classes_are_recognized_by_what_remotemedia_calls(
    source: str, recognized: bool
) -> None:
    scope: dict[str, Any] = {"__name__": "anywhere"}
    exec(source, scope)
    made = adapters.adapt(scope["n"])
    assert (adapters.adapted(made) is not None) == recognized
    assert recognized or made is scope["n"]


def test_a_node_of_gophersnake_is_never_adapted(nodes: Any) -> None:
    target = nodes(
        """
    from gophersnake import node

    @node
    class n:
        def initialize(self): raise AssertionError
        def process(self, value): return value
    """
    )
    assert adapters.adapted(target) is None


def test_each_stream_has_an_instance_that_is_initialized_and_cleaned_up(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    class n(Node):
        made = 0
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            n.made += 1
            self.number = n.made
        async def initialize(self): log(f"initialized {self.number}")
        def process(self, data): return [self.number, data]
        def flush(self): return "rest"
        def cleanup(self): log(f"cleaned {self.number}")
    """
    )
    assert "initialized 1" in [record["message"] for record in worker.logs]
    for number, session in ((1, 7), (2, 8)):
        worker.end(worker.open(session))
        assert worker.items(worker.feed(session, "x")) == [[number, "x"]]
    assert worker.items(worker.finish(7)) == ["rest"]
    assert worker.logs[-1]["message"] == "cleaned 1"
    worker.send(DROP, session=8)
    assert worker.until_log("cleaned 2")
    worker.end(worker.open(9))
    assert worker.shut_down() == 0
    assert worker.until_log("cleaned 3")


def test_a_dropped_session_of_an_async_node_is_cleaned_up(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    class n(Base):
        async def process(self, data): return data
        async def cleanup(self):
            await asyncio.sleep(0)
            log("cleaned")
    """
    )
    worker.end(worker.open(1))
    assert worker.items(worker.feed(1, "x")) == ["x"]
    worker.send(DROP, session=1)
    assert worker.until_log("cleaned")
    assert worker.shut_down() == 0


def test_asking_for_the_next_item_means_that_the_previous_one_is_done(nodes: Any) -> None:
    target = nodes(
        """
    class n(Node):
        async def process(self, data_stream):
            yield "before"
            async for item in data_stream:
                for i in range(item):
                    yield [item, i]
            yield "after"
    """
    )
    with open_session(target) as session:
        assert session.process(1) == ["before", [1, 0]]
        assert session.process(0) == []
        assert session.process(2) == [[2, 0], [2, 1]]
        assert session.finish() == ["after"]


def test_a_generator_that_has_raised_is_over(nodes: Any) -> None:
    target = nodes(
        """
    class n(Node):
        async def process(self, data_stream):
            async for item in data_stream:
                yield 1 / item
    """
    )
    with open_session(target) as session:
        assert session.process(2) == [0.5]
        for _ in range(2):
            with pytest.raises(NodeError, match="ZeroDivisionError"):
                session.process(0)
        assert session.finish() == []


def test_a_generator_that_ends_early_ignores_the_rest(nodes: Any) -> None:
    target = nodes(
        """
    class n(Node):
        async def process(self, data_stream):
            async for item in data_stream:
                yield item
                return
    """
    )
    with open_session(target) as session:
        assert [*session.process(1), *session.process(2), *session.finish()] == [1]


CONSTRUCTORS = {
    "node_id": "def __init__(self, node_id): super().__init__({'node_id': node_id})",
    "positional": "def __init__(self, me): super().__init__({'node_id': me})",
    "config": "def __init__(self, config: NodeConfig): super().__init__(config)",
    "both": "def __init__(self, node_id=None, config=None): super().__init__(config)",
    "inherited": "pass",
}


@pytest.mark.parametrize("constructor", CONSTRUCTORS.values(), ids=CONSTRUCTORS)
def test_constructors(nodes: Any, constructor: str) -> None:
    target = nodes(
        f"""
    class n(Base):
        {constructor}
        async def process(self, data):
            return RuntimeData.json([self.node_id, self.config])
    """
    )
    takes_params = "config" in constructor or constructor == "pass"
    params = {"k": 1} if takes_params else {}
    with open_session(target, **params) as session:
        assert session.process("x") == [["n", params]]


SENT: list[Any] = [
    "text",
    7,
    [1, {"a": None}],
    Audio(numpy.float32([[0, 1], [2, 3]]), 8000),
    Image(numpy.zeros((2, 3, 3), numpy.uint8), "bgr8", pts=1.5),
    numpy.arange(4, dtype=numpy.int16),
    {values.KIND: "text", "data": "x", "language": "de"},
    {values.KIND: "json", "data": [1], "timestamp": 3.0},
    b"bytes",
]


@pytest.mark.parametrize("value", SENT, ids=[str(i) for i in range(len(SENT))])
@pytest.mark.parametrize("base", ["Node", "Base"])
def test_values_come_back_as_they_were_sent(nodes: Any, value: Any, base: str) -> None:
    if base == "Node" and type(value) is dict:
        pytest.skip("a node without RuntimeData gets it as a tuple")
    process = "async def process(self, data): return data"
    target = nodes(f"class n({base}):\n    {process}")
    with open_session(target) as session:
        (got,) = session.process(value)
    assert type(got) is type(value)
    if isinstance(value, Audio):
        assert got.rate == value.rate
        numpy.testing.assert_array_equal(got.samples, value.samples)
    elif isinstance(value, Image):
        assert (got.format, got.pts) == (value.format, value.pts)
        numpy.testing.assert_array_equal(got.pixels, value.pixels)
    elif isinstance(value, numpy.ndarray):
        assert got.dtype == value.dtype
        numpy.testing.assert_array_equal(got, value)
    else:
        assert got == value


def test_tuples_arrive_as_tuples(nodes: Any) -> None:
    target = nodes(
        """
    class n(Node):
        def process(self, data):
            return (1, ("a", [2])) if data is True else repr(data)
    """
    )
    with open_session(target) as session:
        (made,) = session.process(True)
        assert made == {values.TUPLE: [1, {values.TUPLE: ["a", [2]]}]}
        assert session.process(made) == ["(1, ('a', [2]))"]
        assert session.process(Json('{"a": 1}')) == ["{'a': 1}"]
        annotated = {values.KIND: "text", "data": "x", "session_id": "s"}
        assert session.process(annotated) == ["('x', {'session_id': 's'})"]


def test_what_has_no_form_as_runtime_data_is_an_error(nodes: Any) -> None:
    target = nodes("class n(Base):\n    async def process(self, data): return data")
    for value, message in (
        (Table(b"x"), "Table"),
        ({values.TUPLE: [1]}, "a tuple has no form"),
        ({values.KIND: "control", "message_type": "No"}, "no control message 'No'"),
        ({values.KIND: "video", "data": b"", "format": "XYZ"}, "YUV420"),
    ):
        session = values.Session("s")
        with pytest.raises(Exception, match=message):
            values.for_runtime(value, session)
    assert target is not None


def test_the_stand_in_names_what_it_lacks(nodes: Any) -> None:
    with pytest.raises(ModuleNotFoundError, match="add remotemedia-client to the pipeline"):
        nodes("import remotemedia.nodes.audio")
    with pytest.raises(ImportError, match="cannot import name 'Pipeline'"):
        nodes("from remotemedia.core import Pipeline")


def test_a_package_that_is_installed_is_left_alone(tmp_path: Path) -> None:
    package = tmp_path / "remotemedia"
    package.mkdir()
    (package / "__init__.py").write_text("own = True\n")
    source = textwrap.dedent(
        f"""
        import sys; sys.path.insert(0, {str(tmp_path)!r})
        from gophersnake._worker import adapters
        adapters.offer_stand_ins()
        import remotemedia
        assert remotemedia.own
        try: import remotemedia.runtime
        except ModuleNotFoundError as error: assert "stand-in" not in str(error)
        else: raise AssertionError
        """
    )
    subprocess.run([sys.executable, "-c", source], check=True)


def test_unknown_node_types_name_those_of_the_adapter(nodes: Any) -> None:
    with pytest.raises(NodeFault, match="did you mean Caller"):
        nodes("class Caller(Node):\n    def process(self, data): return data", "caller")


def test_control_messages_and_errors_of_their_handlers(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    class n(Base):
        async def process(self, data): return data
        async def process_control_message(self, message):
            raise ValueError(message.metadata.deadline_us)
    """
    )
    worker.end(worker.open(1))
    message = {values.KIND: "control", "message_type": "DeadlineWarning", "deadline_us": 5}
    with pytest.raises(Failed, match="5"):
        worker.items(worker.feed(1, message))
    assert worker.items(worker.feed(1, "x")) == ["x"]


def test_a_node_without_a_session_is_an_error_of_the_test_helper(nodes: Any) -> None:
    target = nodes("class n(Node):\n    def process(self, data): return data")
    with open_node(target) as opened, pytest.raises(TypeError, match="stateful"):
        opened(1)


def test_hostile_objects_in_a_module_are_not_asked(nodes: Any) -> None:
    target = nodes(
        """
    class Proxy:
        @property
        def __class__(self): raise RuntimeError("asked")

    proxy = Proxy()

    class Odd:
        pass

    Odd.__module__ = None

    class n(Node):
        def process(self, data): return data
    """
    )
    module = sys.modules[target.__module__]
    assert list(adapters.nodes_of(module)) == ["n"]
