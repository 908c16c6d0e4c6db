"""Failures in real workers: how they are reported, and which ones end the worker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.supervisor import CALL, RESULT, Failed

ECHO = """
    from gophersnake import node

    @node
    def n(value):
        return value
"""


def test_an_exception_is_reported_with_its_frames(serve: Serve) -> None:
    worker = serve(
        """
        from gophersnake import node

        @node
        def n(value):
            return value["missing"]
        """
    )
    with pytest.raises(Failed) as failed:
        worker.call({})
    body = failed.value.body
    assert (body["kind"], body["class"], body["stage"]) == ("execution", "KeyError", "call")
    assert [frame["source"] for frame in body["frames"]] == ['return value["missing"]']
    assert worker.stderr() == ""
    with pytest.raises(Failed):  # and the worker lives
        worker.call({})


def test_an_async_traceback_begins_in_the_node(serve: Serve) -> None:
    worker = serve("async def n(value):\n    return 1 / 0", python="nodes.py:n")
    with pytest.raises(Failed) as failed:
        worker.call(1)
    assert [frame["function"] for frame in failed.value.body["frames"]] == ["n"]
    assert "asyncio" not in failed.value.body["text"]


def test_a_result_that_cannot_be_carried_names_its_place(serve: Serve) -> None:
    worker = serve("def n(value): return {'a': [1, {2, 3}]}", python="nodes.py:n")
    with pytest.raises(Failed) as failed:
        worker.call(1)
    body = failed.value.body
    assert (body["kind"], body["path"], body["stage"]) == ("marshaling", "result.a[1]", "encode")
    assert body["message"] == "a set has no form on the wire"
    assert (
        body["hint"] == "instead of x, return list(x), or sorted(x) if its elements have an order"
    )


@pytest.mark.parametrize(
    ("limits", "value", "reason"),
    [
        ({"body": 1000}, "'x' * 2000", "more than the limit of 1000"),
        ({"inline": 30000}, "[Tensor('int8', (20000,), bytes(20000))] * 2", "take 40000 bytes"),
        ({"buffers": 1}, "[Tensor('int8', (20000,), bytes(20000))] * 2", "2 large buffers"),
        ({"buffer_bytes": 30000}, "[Tensor('int8', (20000,), bytes(20000))] * 2", "40000 bytes"),
    ],
)
def test_a_result_beyond_the_limits_is_refused(
    serve: Serve, limits: dict[str, int], value: str, reason: str
) -> None:
    source = f"from gophersnake import Tensor\ndef n(value): return {value}"
    worker = serve(source, python="nodes.py:n", limits=limits)
    with pytest.raises(Failed, match=reason):
        worker.call(1)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("", 0),
        ("None", 0),
        ("3", 3),
        ("256", 0),
        ("-1", 255),
        ("'no'", 1),
        ("1 << 70", 255),
        ("True", 1),
    ],
)
def test_sys_exit_ends_the_worker_with_its_code(serve: Serve, how: str, code: int) -> None:
    worker = serve(f"import sys\ndef n(value): sys.exit({how})", python="nodes.py:n")
    with pytest.raises(Failed) as failed:
        worker.call(1)
    assert failed.value.body["kind"] == "python_vm"
    assert failed.value.body["fatal"]
    assert failed.value.body["exit_code"] == code
    assert worker.wait() == code


def test_an_exception_that_cannot_be_looked_at_does_not_end_the_worker(serve: Serve) -> None:
    worker = serve(
        """
        class Hostile(Exception):
            def __getattribute__(self, name):
                raise RuntimeError("leave me alone")

        def n(value):
            raise Hostile("x")
        """,
        python="nodes.py:n",
    )
    for _ in range(2):
        with pytest.raises(Failed, match="Hostile"):
            worker.call(1)


def test_a_transient_of_a_subclass_needs_no_delay(serve: Serve) -> None:
    worker = serve(
        """
        import gophersnake

        class Busy(gophersnake.Transient):
            def __init__(self): ...

        def n(value):
            raise Busy
        """,
        python="nodes.py:n",
    )
    with pytest.raises(Failed) as failed:
        worker.call(1)
    assert failed.value.body["retryable"] is True
    assert failed.value.body["retry_after"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")
def test_the_memory_limit_is_an_error_and_the_end(serve: Serve) -> None:
    worker = serve(
        "hoard = []\ndef n(value):\n    while True: hoard.append(bytearray(1 << 20))",
        python="nodes.py:n",
        limits={"memory": 128 << 20},
    )
    with pytest.raises(Failed) as failed:
        worker.call(1)
    body = failed.value.body
    assert (body["kind"], body["class"], body["fatal"]) == ("python_vm", "MemoryError", True)
    assert worker.wait() == 70


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")
def test_an_input_beyond_the_memory_limit_fails_its_call(serve: Serve) -> None:
    worker = serve(ECHO, limits={"memory": 128 << 20})
    assert worker.socket is not None
    # A header alone: there is no need to send what cannot be taken.
    worker.socket.sendall(bytes([0x47, 1, CALL, 0]) + (250 << 20).to_bytes(4, "little"))
    worker.socket.sendall((9).to_bytes(8, "little") + bytes(8))
    with pytest.raises(Failed) as failed:
        worker.until(RESULT)
    assert failed.value.body["class"] == "MemoryError"
    assert failed.value.body["stage"] == "decode"
    assert worker.wait() == 70


@pytest.mark.parametrize(
    ("source", "setup", "stage", "kind", "says"),
    [
        ("import nothing_like_it", {}, "import", "execution", "nothing_like_it"),
        ("def n(:", {}, "import", "execution", ""),
        ("import sys; sys.exit(5)", {}, "import", "python_vm", "5"),
        ("from .other import x", {}, "import", "execution", "relative import"),
        ("def n(v): ...", {}, "import", "manifest", "n in nodes.py is not a node"),
        ("def n(v): ...", {"python": "node.py"}, "import", "manifest", "did you mean nodes.py"),
        ("def n(v, a=1): ...", {"params": {"aa": 1}}, "params", "manifest", "no parameter 'aa'"),
        ("def n(v, a: int=1): ...", {"params": {"a": "x"}}, "params", "manifest", "an integer"),
    ],
)
def test_a_set_up_that_fails_says_where(
    serve: Serve, source: str, setup: dict[str, object], stage: str, kind: str, says: str
) -> None:
    if setup.get("params"):
        setup = setup | {"python": "nodes.py:n"}
    with pytest.raises(Failed) as failed:
        serve(source, **setup)
    assert failed.value.body["stage"] == stage
    assert failed.value.body["kind"] == kind
    assert says in failed.value.body["message"]


def test_a_set_up_that_raises_ends_the_worker(serve: Serve, start: Serve, tmp_path: Path) -> None:
    (tmp_path / "nodes.py").write_text(
        "from gophersnake import node\n@node\nclass n:\n"
        "    def setup(self): raise OSError('no model')\n    def process(self, v): ...\n"
    )
    worker = start()
    with pytest.raises(Failed) as failed:
        worker.set_up(base=str(tmp_path))
    assert (failed.value.body["stage"], failed.value.body["class"]) == ("setup", "OSError")
    assert worker.wait() == 1
