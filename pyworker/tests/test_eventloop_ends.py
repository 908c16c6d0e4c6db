"""How the calls of an async node end early, and how its worker ends, calls under way."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgpack
import pytest

from tests.conftest import Serve
from tests.supervisor import (
    CALL,
    CANCEL,
    ITEM,
    LOG,
    PING,
    PONG,
    SHUTDOWN,
    Failed,
    Supervisor,
    frame,
)
from tests.test_eventloop import HEAD, answer

WAITS = (
    HEAD
    + """
    async def n(value):
        if value == "quick":
            return value
        try:
            log(f"at work on {value}")
            await gate(value).wait()
        finally:
            await asyncio.sleep(0)
            with open(here / "ended", "a") as file: print(value, file=file)
    """
)


def cancelled(worker: Supervisor, call: int, silent: bool = True) -> None:
    """Check that the next answer says that the call was canceled, and that the worker continues."""
    number, body = answer(worker)
    assert (number, body["kind"], body["class"]) == (call, "canceled", "gophersnake.Cancelled")
    assert worker.call("quick") == "quick"
    assert worker.stderr() == "" or not silent


def test_a_cancel_hits_its_call_alone(serve: Serve) -> None:
    worker = serve(WAITS, python="nodes.py:n")
    calls = [worker.begin(name) for name in "abc"]
    worker.until_log("at work on c")
    for i in (1, 0, 2):
        worker.cancel(calls[i])
        cancelled(worker, calls[i])


def test_a_call_that_is_cancelled_before_it_begins_is_not_made(serve: Serve) -> None:
    worker = serve(WAITS, python="nodes.py:n", log_level="info")
    assert worker.socket is not None
    body = msgpack.packb([["a"], {}])
    worker.socket.sendall(frame(CALL, 7, body) + frame(CANCEL, 7, b"") * 2)
    cancelled(worker, 7)
    assert worker.logs == []


def test_a_cancel_without_its_signal_is_heard(serve: Serve) -> None:
    worker = serve(WAITS, python="nodes.py:n")
    call = worker.begin("a")
    worker.until_log("at work on a")
    worker.send(CANCEL, call)
    cancelled(worker, call)


@pytest.mark.parametrize("then", ["return value", "await asyncio.sleep(3600)"])
def test_a_call_that_blocks_the_loop_is_cancelled_where_it_awaits(
    serve: Serve, tmp_path: Path, then: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    worker = serve(
        HEAD
        + f"""
    async def n(value):
        if value == "quick": return value
        log("blocks")
        open(value).read()
        {then}
    """,
        python="nodes.py:n",
    )
    call = worker.begin(str(tmp_path / "fifo"))
    worker.until_log("blocks")
    worker.cancel(call)
    (tmp_path / "fifo").write_text("on")
    if then == "return value":
        assert answer(worker) == (call, str(tmp_path / "fifo"))
    else:
        cancelled(worker, call)


def test_a_call_that_fails_while_it_is_cancelled_says_so(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        try:
            log("at work")
            await gate(value).wait()
        finally:
            raise OSError("while cleaning up")
    """,
        python="nodes.py:n",
    )
    call = worker.begin(1)
    worker.until_log("at work")
    worker.cancel(call)
    number, body = answer(worker)
    assert (number, body["kind"], body["class"]) == (call, "execution", "OSError")


def test_a_shutdown_waits_for_the_calls_that_are_under_way(serve: Serve, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    worker = serve(
        HEAD
        + """
    @node
    class n:
        async def process(self, value):
            log("at work")
            return await asyncio.to_thread((here / value).read_text)

        async def close(self):
            (here / "closed").touch()
    """
    )
    call = worker.begin("fifo")
    worker.until_log("at work")
    worker.send(SHUTDOWN)
    worker.send(PING, 5)
    assert worker.until(PONG).call == 5
    (tmp_path / "fifo").write_text("done")
    assert worker.end(call) == "done"
    assert worker.wait() == 0
    assert (tmp_path / "closed").exists()


def test_a_call_can_be_cancelled_after_the_shutdown(serve: Serve) -> None:
    worker = serve(WAITS, python="nodes.py:n")
    call = worker.begin("a")
    worker.until_log("at work on a")
    worker.send(SHUTDOWN)
    worker.cancel(call)
    assert answer(worker)[1]["kind"] == "canceled"
    assert worker.wait() == 0


def test_remaining_tasks_are_cancelled_after_the_node_is_closed(
    serve: Serve, tmp_path: Path
) -> None:
    worker = serve(
        HEAD
        + """
    async def background(name):
        try:
            await gate(name).wait()
            say(f"{name} ends")
        except asyncio.CancelledError:
            say(f"{name} is cancelled")
            raise OSError("in vain")

    async def values():
        try:
            while True: yield 1
        finally:
            say("closed")

    def say(what):
        with open(here / "said", "a") as file: print(what, file=file)

    @node
    class n:
        async def process(self, value):
            self.tasks = [asyncio.create_task(background(name)) for name in ("one", "other")]
            self.values = values()
            async for value in self.values:
                return value

        async def close(self):
            gate("one").set()
            await self.tasks[0]
            say("close")
    """
    )
    assert worker.call(1) == 1
    worker.send(SHUTDOWN)
    record = worker.until(LOG).message
    assert (record["logger"], record["level"]) == ("asyncio", "error")
    assert "OSError: in vain" in record["message"]
    assert worker.wait() == 0
    said = (tmp_path / "said").read_text().splitlines()
    assert said == ["one ends", "close", "other is cancelled", "closed"]


def test_a_supervisor_that_hangs_up_ends_the_calls_that_are_under_way(
    serve: Serve, tmp_path: Path
) -> None:
    worker = serve(WAITS, python="nodes.py:n")
    for name in "abc":
        worker.begin(name)
    worker.until_log("at work on c")
    assert worker.socket is not None
    worker.socket.close()
    assert worker.wait() == 0
    assert sorted((tmp_path / "ended").read_text().split()) == ["a", "b", "c"]
    assert worker.stderr() == ""


def test_a_generator_that_swallows_its_cancellation_ends_with_the_connection(
    serve: Serve,
) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        while True:
            try:
                yield value
                await gate("never").wait()
            except asyncio.CancelledError:
                pass
    """,
        python="nodes.py:n",
    )
    worker.begin(1)
    worker.until(ITEM)
    assert worker.socket is not None
    worker.socket.close()
    assert worker.wait() == 0
    assert worker.stderr() == ""


def test_a_call_that_swallows_its_cancellation_is_not_answered_after_the_end(
    serve: Serve,
) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        try:
            log("at work")
            await gate("never").wait()
        except asyncio.CancelledError:
            return value
    """,
        python="nodes.py:n",
    )
    worker.begin(1)
    worker.until_log("at work")
    assert worker.socket is not None
    worker.socket.close()
    assert worker.wait() == 0
    assert worker.stderr() == ""


@pytest.mark.parametrize("others", [0, 1])
def test_an_answer_on_a_closed_connection_ends_the_worker(
    serve: Serve, tmp_path: Path, others: int
) -> None:
    os.mkfifo(tmp_path / "fifo")
    worker = serve(
        HEAD
        + """
    async def n(value):
        log("at work")
        return open(value).read() if value else await gate("never").wait()
    """,
        python="nodes.py:n",
    )
    for path in [""] * others + [str(tmp_path / "fifo")]:
        worker.begin(path)
        worker.until_log("at work")
    assert worker.socket is not None
    worker.socket.close()
    (tmp_path / "fifo").write_text("on")
    assert worker.wait() == 0
    assert worker.stderr() == ""


def test_a_sys_exit_while_the_supervisor_has_hung_up_changes_nothing(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def background():
        try:
            await gate("never").wait()
        finally:
            sys.exit(3)

    async def n(value):
        gates["task"] = asyncio.create_task(background())
        await asyncio.sleep(0)
        return value
    """,
        python="nodes.py:n",
    )
    assert worker.call(1) == 1
    assert worker.socket is not None
    worker.socket.close()
    assert worker.wait() == 0


@pytest.mark.parametrize(
    "where", ["sys.exit(value)", "await asyncio.create_task(leave(value))", "raise MemoryError"]
)
def test_an_error_that_ends_the_interpreter_fails_its_call_alone(serve: Serve, where: str) -> None:
    worker = serve(
        HEAD
        + f"""
    async def leave(value):
        gate("exit").set()
        sys.exit(value)

    async def n(value):
        if not value:
            log("at work")
            await gate("exit").wait()
            return value
        if "create_task" not in {where!r}:
            gate("exit").set()
        {where}
    """,
        python="nodes.py:n",
    )
    worker.begin(0)
    worker.until_log("at work")
    call = worker.begin(3)
    number, body = answer(worker)
    assert (body["kind"], body["fatal"]) == ("python_vm", True)
    assert (body["class"], worker.wait()) in (("SystemExit", 3), ("MemoryError", 70))
    assert number == call or "create_task" in where
    with pytest.raises(EOFError):
        answer(worker)


def test_a_sys_exit_between_calls_ends_the_worker(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        asyncio.get_running_loop().call_later(0.001, sys.exit, value)
        return value
    """,
        python="nodes.py:n",
    )
    assert worker.call(3) == 3
    assert worker.wait() == 3


def test_a_keyboard_interrupt_is_an_error_like_others(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        if value: raise KeyboardInterrupt("now")
        return value
    """,
        python="nodes.py:n",
    )
    with pytest.raises(Failed) as failed:
        worker.call(1)
    assert (failed.value.body["kind"], failed.value.body["message"]) == ("execution", "now")
    assert worker.call(0) == 0


def test_a_forked_child_neither_answers_nor_ends_the_other_calls(
    serve: Serve, tmp_path: Path
) -> None:
    worker = serve(
        WAITS
        + """
    waits = n

    async def n(value):
        if value != "fork":
            return await waits(value)
        pid = os.fork()
        if pid == 0:
            return value
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """,
        python="nodes.py:n",
    )
    call = worker.begin("a")
    worker.until_log("at work on a")
    assert worker.call("fork") == 0
    assert not (tmp_path / "ended").exists()
    worker.cancel(call)
    # From 3.14 on, asyncio reports that tasks of its parent do not run in a forked child.
    cancelled(worker, call, silent=sys.version_info < (3, 14))
    assert worker.call("fork") == 0


@pytest.mark.parametrize("how", ["create_task(later())", "call_later(0.01, fail)"])
def test_a_keyboard_interrupt_of_a_background_task_is_logged(serve: Serve, how: str) -> None:
    worker = serve(
        HEAD
        + f"""
    def fail():
        raise KeyboardInterrupt("behind the back")

    async def later():
        await asyncio.sleep(0.01)
        fail()

    async def n(value):
        if value == "begin":
            n.kept = asyncio.get_running_loop().{how}
        if value == "wait":
            log("at work")
            await gate(value).wait()
        return value
    """,
        python="nodes.py:n",
        log_level="info",
    )
    waiting = worker.begin("wait")
    worker.until_log("at work")
    for _ in range(2):
        assert worker.call("begin") == "begin"
        while "KeyboardInterrupt: behind the back" not in worker.until(LOG).message["message"]:
            pass
    assert worker.call("next") == "next"
    worker.cancel(waiting)
    cancelled(worker, waiting)
    assert worker.shut_down() == 0
