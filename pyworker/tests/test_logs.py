"""Logging, warnings, progress and print, in real workers."""

from __future__ import annotations

import math
import os
import textwrap

import pytest

from tests.conftest import Serve
from tests.supervisor import PROGRESS, Failed

HEAD = """
    import logging, os, sys, threading, warnings
    from gophersnake import node, progress
    log = logging.getLogger("a.b")
"""


def n(body: str) -> str:
    return HEAD + f"\n    def n(value):\n        {body}\n"


def test_a_record_has_level_logger_and_fields(serve: Serve) -> None:
    worker = serve(
        n(
            "log.warning('%s items', 3, extra=dict(a=1, b=2.5, c=None, d=True, e='x',"
            " f=1 << 70, g=[1], h=float('nan'), i='\\udcff'))"
        ),
        python="nodes.py:n",
    )
    worker.call(1)
    (record,) = worker.logs
    assert (record["level"], record["logger"], record["message"]) == ("warn", "a.b", "3 items")
    fields = record["fields"]
    assert math.isnan(fields.pop("h"))
    assert fields == {
        "a": 1,
        "b": 2.5,
        "c": None,
        "d": True,
        "e": "x",
        "f": str(1 << 70),
        "g": "[1]",
        "i": "\\udcff",
    }
    assert record["time"] > 1.6e9


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("trace", ["trace", "debug", "info", "warn", "error", "error"]),
        ("debug", ["debug", "info", "warn", "error", "error"]),
        ("info", ["info", "warn", "error", "error"]),
        ("warn", ["warn", "error", "error"]),
        ("error", ["error", "error"]),
        ("off", []),
        ("unheard of", ["info", "warn", "error", "error"]),
    ],
)
def test_the_level_is_set_by_the_supervisor(serve: Serve, level: str, seen: list[str]) -> None:
    worker = serve(
        n("[log.log(k, 'x') for k in (5, 10, 20, 30, 40, 50)]; return 1"),
        python="nodes.py:n",
        log_level=level,
    )
    worker.call(1)
    assert [record["level"] for record in worker.logs] == seen


def test_a_traceback_is_part_of_the_message(serve: Serve) -> None:
    worker = serve(
        n("\n        try: 1 / 0\n        except Exception: log.exception('oh')"),
        python="nodes.py:n",
    )
    worker.call(1)
    message = worker.logs[0]["message"]
    assert message.startswith("oh\nTraceback")
    assert message.endswith("ZeroDivisionError: division by zero")


def test_huge_texts_are_shortened(serve: Serve) -> None:
    worker = serve(
        n("log.info('x' * 10_000_000, extra={'f': 'y' * 10_000_000})"), python="nodes.py:n"
    )
    worker.call(1)
    assert worker.logs[0]["message"].endswith("… (10000000 characters)")
    assert worker.logs[0]["fields"]["f"].endswith("… (10000000 characters)")


def test_a_record_that_cannot_be_formatted_is_reported_on_stderr(serve: Serve) -> None:
    worker = serve(n("log.info('%d items', 'three'); log.info('next')"), python="nodes.py:n")
    worker.call(1)
    assert [record["message"] for record in worker.logs] == ["next"]
    assert "Logging error" in worker.stderr()


def test_a_field_without_a_text_does_not_lose_the_message(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    class Mute:
        def __str__(self): raise RuntimeError

    def n(value):
        log.info("kept", extra={"f": Mute()})
""",
        python="nodes.py:n",
    )
    worker.call(1)
    assert worker.logs[0]["message"] == "kept"
    assert "Mute that cannot be shown" in worker.logs[0]["fields"]["f"]


def test_threads_log_too(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    def n(value):
        def work(i):
            for j in range(50): log.info("%d %d", i, j, extra={"pad": "x" * 5000})
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
""",
        python="nodes.py:n",
    )
    worker.call(1)
    messages = {record["message"] for record in worker.logs}
    assert messages == {f"{i} {j}" for i in range(4) for j in range(50)}


@pytest.mark.parametrize(
    "config",
    [
        "logging.basicConfig()",
        "logging.basicConfig(level=logging.DEBUG, format='%(message)s')",
    ],
)
def test_a_node_that_configures_logging_is_still_heard_once(serve: Serve, config: str) -> None:
    worker = serve(
        HEAD + f"\n    {config}\n    def n(value): log.warning('x')", python="nodes.py:n"
    )
    worker.call(1)
    assert [record["message"] for record in worker.logs] == ["x"]
    assert worker.stderr() == ""


def test_a_node_that_takes_logging_over_is_heard_on_stderr(serve: Serve) -> None:
    worker = serve(
        HEAD + "\n    logging.basicConfig(force=True)\n    def n(value): log.warning('x')",
        python="nodes.py:n",
    )
    worker.call(1)
    assert worker.logs == []
    assert worker.stderr() == "WARNING:a.b:x\n"


def test_a_node_that_disables_logging_is_silent_and_can_be_cancelled(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    logging.disable()
    def n(value):
        log.error("x")
        progress("at work")
        while value: pass
""",
        python="nodes.py:n",
    )
    worker.call(0)
    assert worker.logs == []
    call = worker.begin(1)
    assert worker.until(PROGRESS)
    worker.cancel(call)
    with pytest.raises(Failed, match="Cancelled"):
        worker.end(call)


def test_warnings_are_logged(serve: Serve) -> None:
    worker = serve(n("warnings.warn('old', stacklevel=1)"), python="nodes.py:n")
    worker.call(1)
    assert worker.logs[0]["logger"] == "py.warnings"
    assert "UserWarning: old" in worker.logs[0]["message"]


def test_progress_is_clamped_to_its_bounds(serve: Serve) -> None:
    worker = serve(
        n("progress('a'); progress('b', 0.5); progress('c', 7); progress(5, -1)"),
        python="nodes.py:n",
    )
    call = worker.begin(1)
    worker.end(call)
    assert worker.progress == [
        {"message": "a", "fraction": None, "calls": [call]},
        {"message": "b", "fraction": 0.5, "calls": [call]},
        {"message": "c", "fraction": 1.0, "calls": [call]},
        {"message": "5", "fraction": 0.0, "calls": [call]},
    ]


def test_reports_that_say_hardly_more_than_the_last_one_are_not_sent(serve: Serve) -> None:
    worker = serve(
        n("[progress('step', i / 1_000_000) for i in range(1_000_001)]; progress('step', 1)"),
        python="nodes.py:n",
    )
    worker.call(1)
    assert len(worker.progress) < 1000
    assert worker.progress[0]["fraction"] == 0.0
    assert worker.progress[-1]["fraction"] == 1.0


def test_a_long_message_is_shortened(serve: Serve) -> None:
    worker = serve(n("progress('x' * 10_000_000)"), python="nodes.py:n")
    worker.call(1)
    assert worker.progress[0]["message"] == "x" * 2047 + "…"


def test_setup_and_close_report_for_no_call(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node
    class Model:
        def setup(self): progress("loading")
        def process(self, value):
            progress("working")
            return value
        def close(self): progress("closing")
    """,
        python="nodes.py:Model",
    )
    call = worker.begin(1)
    worker.end(call)
    worker.shut_down()
    assert [(p["message"], p["calls"]) for p in worker.progress] == [
        ("loading", []),
        ("working", [call]),
    ]


def test_a_report_of_a_batch_is_for_all_its_calls(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node(batch=3, max_wait_ms=60_000)
    def n(inputs):
        progress("working")
        return inputs
    """
    )
    calls = [worker.begin(i) for i in range(3)]
    for call in calls:
        worker.end(call)
    assert worker.progress == [{"message": "working", "fraction": None, "calls": calls}]


def test_print_is_a_log_stream_and_never_the_protocol(serve: Serve) -> None:
    worker = serve(
        n("print('to stdout', flush=False); print('\\udcff', file=sys.stderr)"), python="nodes.py:n"
    )
    worker.call(1)
    assert worker.stdout.readline() == "to stdout\n"
    assert worker.stderr() == "\\udcff\n"


def test_a_broken_stdout_is_an_exception_in_the_node_alone(serve: Serve) -> None:
    worker = serve(n("print('x' * value)"), python="nodes.py:n")
    worker.stdout.close()
    with pytest.raises(Failed, match="BrokenPipeError"):
        worker.call(1)
    with pytest.raises(Failed, match="BrokenPipeError"):
        worker.call(1_000_000)
    assert worker.shut_down() == 0


@pytest.mark.parametrize(
    "how",
    [
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout = sys.stderr = None",
        "os.close(1); os.close(2)",
    ],
)
def test_closed_streams_do_not_end_the_worker(serve: Serve, how: str) -> None:
    worker = serve(
        HEAD
        + f"""
    {how}
    class n:
        def process(self, value): log.info("%d", "not a number")
        def close(self): raise RuntimeError
""",
        python="nodes.py:n",
    )
    assert worker.call(1) is None
    assert worker.call(1) is None
    assert worker.shut_down() == 1


THREADED = """
def threaded(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize(
    ("body", "known"),
    [
        ("def n(value): log.info(value)", True),
        ("def n(value):\n    log.info(value)\n    yield value", True),
        ("def n(value): threaded(lambda: log.info(value))", False),
        ("import gophersnake\n@gophersnake.node(threads=2)\ndef n(value): log.info(value)", True),
        ("async def n(value): log.info(value)", True),
        ("async def n(value):\n    await asyncio.sleep(0)\n    log.info(value)", True),
        ("async def n(value):\n    log.info(value)\n    yield value", True),
        ("async def n(value): await asyncio.gather(later(value))", True),
        ("async def n(value): await asyncio.to_thread(log.info, value)", True),
    ],
)
def test_a_record_has_the_call_that_is_known_to_log_it(
    serve: Serve, body: str, known: bool
) -> None:
    source = (
        textwrap.dedent(HEAD)
        + "import asyncio\nasync def later(value): log.info(value)\n"
        + THREADED
        + "log.info('import')\n"
        + body
    )
    worker = serve(source, python="nodes.py:n")
    calls = [worker.begin(f"value {i}") for i in range(3)]
    for call in calls:
        worker.items(call) if "yield" in body else worker.end(call)
    records = [record for record in worker.logs if record["logger"] == "a.b"]  # not asyncio's
    found = {record["message"]: record["call"] for record in records}
    assert found == {"import": 0} | {
        f"value {i}": call if known else 0 for i, call in enumerate(calls)
    }


def test_the_records_of_a_session_have_the_ids_of_its_operations(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    from gophersnake import node
    @node(stateful=True)
    class n:
        def __init__(self): log.info("made")
        def begin(self): log.info("begin")
        def process(self, value): log.info("process")
        def finish(self): log.info("finish")
        def close(self): log.info("close")
"""
    )
    begin = worker.open(1)
    worker.end(begin)
    process = worker.feed(1, 5)
    worker.items(process)
    finish = worker.finish(1)
    worker.items(finish)
    found = {record["message"]: record["call"] for record in worker.logs}
    assert found == {"made": 0, "begin": begin, "process": process, "finish": finish}


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="the node opens the test's pipe in /proc")
def test_logging_on_a_closed_connection_does_not_fail_the_node(serve: Serve) -> None:
    read, write = os.pipe()
    with os.fdopen(read) as gone, os.fdopen(write, "w") as hang_up:
        path = f"/proc/{os.getpid()}/fd/{gone.fileno()}"
        worker = serve(
            n(f"open({path!r}).readline(); log.info('x'); print('went on')"), python="nodes.py:n"
        )
        worker.begin(1)
        assert worker.socket is not None
        worker.socket.close()
        hang_up.write("now\n")
        hang_up.flush()
        assert worker.wait() == 0
    assert worker.stdout.read() == "went on\n"
    assert worker.stderr() == ""
