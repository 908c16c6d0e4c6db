"""Real workers, driven over real sockets."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import gophersnake
import msgpack
import pytest

from tests.conftest import Serve
from tests.supervisor import (
    CALL,
    CANCEL,
    HELLO,
    PING,
    PONG,
    READY,
    RESULT,
    SETUP,
    Supervisor,
    frame,
)

ECHO = """
    from gophersnake import node

    @node
    def n(value):
        return value
"""


def test_it_says_hello_and_describes_its_node(serve: Serve, start: Serve) -> None:
    hello = start().connect()
    assert hello["protocol"] == 1
    assert hello["package"] == gophersnake.__version__
    assert hello["python"] == sys.version.split()[0]
    assert hello["implementation"] == "cpython"
    assert hello["pid"] > 0


def test_a_call_is_answered_with_the_result(serve: Serve) -> None:
    worker = serve(ECHO)
    value: object
    for value in (None, True, -5, 1 << 63, 0.5, "höhe", b"\x00\xff", [1, [2]], {"a": {"b": []}}):
        assert worker.call(value) == value
    assert worker.shut_down() == 0
    assert worker.stderr() == ""


@pytest.mark.parametrize("size", [0, 1, 65_511, 65_512, 131_047, 131_049, 1 << 20, 5_000_001])
def test_payloads_of_all_sizes_come_back(serve: Serve, size: int) -> None:
    payload = os.urandom(size)
    assert serve(ECHO).call(payload) == payload


def test_calls_that_arrive_together_are_answered_in_order(serve: Serve) -> None:
    worker = serve(ECHO)
    assert worker.socket is not None
    bodies = [msgpack.packb([[i], {}]) for i in range(100)]
    worker.socket.sendall(b"".join(frame(CALL, i, body) for i, body in enumerate(bodies)))
    assert [worker.end(i) for i in range(100)] == list(range(100))


def test_arrays_are_read_only_and_keep_their_content(serve: Serve) -> None:
    np = pytest.importorskip("numpy")
    worker = serve(
        """
        from gophersnake import node
        kept = []

        @node
        def n(value):
            kept.append(value)
            assert not value.flags.writeable
            return [kept[0], kept[-1] * 2]
        """
    )
    first = np.arange(10_000, dtype="f4")
    assert (worker.call(first)[1] == first * 2).all()
    for i in range(5):  # the memory of the first one must not be used again
        again = worker.call(np.full(10_000, i, "f4"))
        assert (again[0] == first).all()
        assert (again[1] == 2 * i).all()


def test_a_tensor_is_passed_through_without_numpy(serve: Serve) -> None:
    worker = serve(
        """
        import sys
        sys.modules["numpy"] = None  # an import fails
        from gophersnake import Tensor, node

        @node
        def n(value):
            assert type(value) is Tensor
            assert memoryview(value.data).readonly
            return [value, Tensor("int8", (2,), b"ab")]
        """
    )
    np = pytest.importorskip("numpy")
    for size in (3, 30_000):
        given = np.arange(size, dtype="i4")
        back, small = worker.call(given)
        assert (back == given).all()
        assert small.tolist() == [97, 98]


def test_a_ping_is_answered_with_its_id(serve: Serve) -> None:
    worker = serve(ECHO)
    worker.send(PING, 77)
    assert worker.until(PONG).call == 77


def test_a_late_cancel_is_ignored(serve: Serve) -> None:
    worker = serve(ECHO)
    call = worker.begin(1)
    assert worker.end(call) == 1
    worker.cancel(call)
    assert worker.call(2) == 2


def test_a_node_can_be_a_class_with_setup_and_close(serve: Serve, tmp_path: Path) -> None:
    worker = serve(
        """
        from dataclasses import dataclass
        from pathlib import Path
        from gophersnake import node, progress

        @node
        @dataclass(slots=True)
        class n:
            log: str
            times: int = 2
            ready: bool = False

            async def setup(self):
                progress("loading", float("nan"))
                self.ready = True

            def process(self, value):
                return [self.ready, value * self.times]

            def close(self):
                Path(self.log).write_text("closed")
        """,
        params={"log": str(tmp_path / "log"), "times": 3},
    )
    assert worker.progress == [{"message": "loading", "fraction": None, "calls": []}]
    assert worker.call(2) == [True, 6]
    assert worker.shut_down() == 0
    assert (tmp_path / "log").read_text() == "closed"


@pytest.mark.parametrize("how", ["raise OSError('no')", "import sys; sys.exit(0)"])
def test_a_failing_close_is_reported_and_ends_the_worker(serve: Serve, how: str) -> None:
    worker = serve(
        f"""
        from gophersnake import node

        @node
        class n:
            def process(self, value): ...
            def close(self):
                {how}
        """
    )
    assert worker.shut_down() == 1
    assert "in close" in worker.stderr()


@pytest.mark.parametrize(
    "body",
    [
        "async def n(k):\n    return list(range(k))",
        "def n(k):\n    async def later():\n        return list(range(k))\n    return later()",
        "def n(k):\n    async def later():\n        for i in range(k): yield i\n    return later()",
        "def n(k):\n    return (i for i in range(k))",
    ],
)
def test_a_node_kind_that_a_decorator_hides_is_one_value(serve: Serve, body: str) -> None:
    assert serve(body, python="nodes.py:n").call(3) == [0, 1, 2]


@pytest.mark.parametrize(
    "body",
    [
        "def n(k):\n    yield from range(k)",
        "async def n(k):\n    for i in range(k):\n        yield i",
    ],
)
def test_a_generator_gives_items(serve: Serve, body: str) -> None:
    worker = serve(body, python="nodes.py:n")
    for count in (3, 0, 40):
        assert worker.items(worker.begin(count)) == list(range(count))


def test_ports_name_the_arguments(serve: Serve) -> None:
    worker = serve(
        "def n(left, right, scale=1): return [left, right, scale]",
        python="nodes.py:n",
        ports=["left", "right"],
        params={"scale": 3},
    )
    assert worker.call(left=1, right=2) == [1, 2, 3]


def test_a_param_can_take_the_place_of_the_first_argument(serve: Serve) -> None:
    worker = serve(
        "def n(scale, value): return [scale, value]", python="nodes.py:n", params={"scale": 3}
    )
    assert worker.call("x") == [3, "x"]


@pytest.mark.parametrize("python", ["builtins:len", "operator:neg", "math:sqrt"])
def test_a_builtin_can_be_a_node(serve: Serve, python: str) -> None:
    worker = serve("", python=python)
    given = [1, 2, 3, 4] if python == "builtins:len" else 4
    assert worker.call(given) in (4, -4, 2.0)


# The protocol.


def test_a_stranger_without_the_secret_is_turned_away(start: Serve) -> None:
    worker: Supervisor = start()
    path = worker.stdout.readline().split("|")[3]
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(60)
        stranger.connect(path)
        stranger.sendall(bytes(32))
        assert stranger.recv(1) == b""
    worker.socket = socket.socket(socket.AF_UNIX)
    worker.socket.settimeout(60)
    worker.socket.connect(path)
    worker.socket.sendall(worker._secret)
    assert worker.until(HELLO)
    assert not os.path.exists(worker.folder)


def test_a_shutdown_before_the_set_up_is_the_end(start: Serve) -> None:
    worker = start()
    worker.connect()
    assert worker.shut_down() == 0


def test_a_supervisor_that_hangs_up_is_the_end(serve: Serve) -> None:
    worker = serve(ECHO)
    assert worker.socket is not None
    worker.socket.close()
    assert worker.wait() == 0
    assert worker.stderr() == ""


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        (SETUP, b"", "sent a setup frame"),
        (RESULT, b"", "sent a result frame"),
        (200, b"", "type 200"),
        (CALL, msgpack.packb(5), "a map of arguments"),
        (CALL, msgpack.packb([[], []]), "a map of arguments"),
    ],
)
def test_protocol_violations_end_the_worker(
    serve: Serve, kind: int, body: bytes, says: str
) -> None:
    worker = serve(ECHO)
    worker.send(kind, 1, body)
    assert worker.wait() == 70
    assert says in worker.stderr()


def test_anything_but_a_set_up_after_hello_is_out_of_protocol(start: Serve) -> None:
    worker = start()
    worker.connect()
    worker.send(READY)
    assert worker.wait() == 70
    assert "a ready frame instead of setup" in worker.stderr()


def test_the_end_of_the_lifeline_ends_the_worker(serve: Serve) -> None:
    worker = serve("def n(value):\n    while True: pass", python="nodes.py:n")
    worker.begin(1)
    os.close(worker.lifeline)
    worker.lifeline = -1
    assert worker.wait() == -signal.SIGKILL


def test_frames_cut_anywhere_are_put_together(serve: Serve) -> None:
    worker = serve(ECHO)
    assert worker.socket is not None
    worker.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    body = msgpack.packb([["hello"], {}])
    whole = b"".join(
        frame(kind, i, data)
        for i, (kind, data) in enumerate([(CALL, body), (PING, b""), (CANCEL, b""), (CALL, body)])
    )
    for i in range(len(whole)):
        worker.socket.sendall(whole[i : i + 1])
    assert worker.end(0) == "hello"
    assert worker.until(PONG).call == 1
    assert worker.end(3) == "hello"
