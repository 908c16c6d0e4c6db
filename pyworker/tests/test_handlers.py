"""Handlers of signals that nodes set, which may raise at any time."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.supervisor import LOG, Failed, Supervisor
from tests.templates import Forked, templates
from tests.test_heartbeat import linux

HEAD = """
import logging, os, signal, sys, time
log = logging.getLogger("node").info

def handle(number, frame):
    raise TimeoutError("from the handler")

signal.signal(signal.SIGUSR2, handle)
signal.signal(signal.SIGALRM, handle)
"""

ECHO = {kind: HEAD + f"\n{kind}def n(value): return value" for kind in ("", "async ")}


def raised(worker: Supervisor, name: str) -> str:
    """Return the log record that says what a handler has raised."""
    while True:
        message: str = worker.until(LOG).message["message"]
        if f"the node's handler of {name} raised" in message:
            return message


@pytest.mark.parametrize("kind", ECHO)
@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGUSR2, "TimeoutError"), (signal.SIGINT, "KeyboardInterrupt")]
)
def test_what_a_handler_raises_in_an_idle_worker_is_logged(
    serve: Serve, kind: str, number: signal.Signals, error: str
) -> None:
    worker = serve(ECHO[kind], python="nodes.py:n", log_level="info")
    for i in range(3):
        assert worker.call(i) == i
        os.kill(worker.pid, number)
        assert f"raised {error} while none" in raised(worker, number.name)
    assert worker.call("x") == "x"
    assert worker.shut_down() == 0
    assert worker.stderr() == ""


@pytest.mark.parametrize("work", ["while True: pass", "time.sleep(3600)", "while True: log('x')"])
def test_what_a_handler_raises_while_a_node_runs_is_raised_in_the_node(
    serve: Serve, work: str
) -> None:
    worker = serve(
        HEAD
        + f"""
def n(value):
    if value == "quick": return value
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    {work}
""",
        python="nodes.py:n",
        log_level="info",
    )
    for _ in range(5):
        with pytest.raises(Failed, match="TimeoutError: from the handler"):
            worker.call("long")
        assert worker.call("quick") == "quick"
    assert worker.stderr() == ""


@pytest.mark.parametrize("kind", ECHO)
def test_handlers_that_raise_all_the_time_break_no_frame(serve: Serve, kind: str) -> None:
    worker = serve(
        HEAD
        + f"""
{kind}def n(value):
    if value == "on": signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    if value == "off": signal.setitimer(signal.ITIMER_REAL, 0)
    return value
""",
        python="nodes.py:n",
        log_level="off",
    )

    def call(value: Any) -> None:
        try:
            assert worker.call(value) == value
        except Failed as failed:
            if failed.body["class"] != "TimeoutError":
                raise

    call("on")
    for i in range(30):
        call(bytes([i]) * (i * 30_000))
        call(i)
    call("off")
    assert worker.call("x") == "x"
    assert worker.shut_down() == 0


@pytest.mark.parametrize("kind", ECHO)
def test_a_handler_ends_an_idle_worker_by_sys_exit(serve: Serve, kind: str) -> None:
    source = ECHO[kind].replace('raise TimeoutError("from the handler")', "sys.exit(5)")
    worker = serve(source, python="nodes.py:n")
    assert worker.call(1) == 1
    os.kill(worker.pid, signal.SIGUSR2)
    assert worker.wait() == 5
    report = worker.exit_report()
    assert report.startswith("gophersnake: sys.exit(5)\n")
    assert 'nodes.py", line 6 in handle' in report


def test_a_node_finds_the_handlers_that_it_has_set(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
def n(value):
    ignored = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    return [
        signal.getsignal(signal.SIGALRM) is handle,
        ignored is handle,
        signal.signal(signal.SIGUSR2, handle) is signal.SIG_IGN,
        signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
    ]
""",
        python="nodes.py:n",
    )
    assert worker.call(1) == [True] * 5
    assert worker.call(1) == [True] * 5


@linux
def test_handlers_of_a_module_that_a_template_has_imported_are_guarded(tmp_path: Path) -> None:
    with templates(tmp_path) as begin:
        template = begin(ECHO[""])
        assert template.prepare() == {"ready": True}
        os.kill(template.pid, signal.SIGUSR2)
        worker = Forked(template)
        try:
            worker.set_up(python="nodes.py:n", base=str(tmp_path), log_level="info")
            assert worker.call(1) == 1
            os.kill(worker.pid, signal.SIGUSR2)
            assert "raised TimeoutError" in raised(worker, "SIGUSR2")
            assert worker.call(2) == 2
            assert worker.shut_down() == 0
        finally:
            worker.close()
