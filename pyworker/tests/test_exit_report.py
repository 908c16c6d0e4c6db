"""The exit reports that dying interpreters leave in the autopsy file."""

from __future__ import annotations

import signal

import pytest

from tests.conftest import Serve
from tests.supervisor import Failed


def end(serve: Serve, how: str) -> tuple[int, str]:
    """Return the exit code and the last words of a worker whose node does that."""
    worker = serve(
        f"""
        import ctypes, faulthandler, multiprocessing, os, signal, threading

        def n(value):
            return deeper()

        def deeper():
            {how}
        """,
        python="nodes.py:n",
    )
    worker.begin(1)
    return worker.wait(), worker.exit_report()


@pytest.mark.parametrize("how", ["os._exit(3)", "os._exit(status=3)"])
def test_os_exit_leaves_the_stack_in_faulthandlers_form(serve: Serve, how: str) -> None:
    code, words = end(serve, how)
    assert code == 3
    first, empty, head, deeper, node, *_ = words.splitlines()
    assert (first, empty) == ("gophersnake: os._exit(3)", "")
    assert head == "Stack (most recent call first):"
    assert deeper.endswith('nodes.py", line 8 in deeper')
    assert node.endswith('nodes.py", line 5 in n')


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", signal.SIGSEGV),
        ("os.abort()", signal.SIGABRT),
        ("ctypes.string_at(0)", signal.SIGSEGV),
    ],
)
def test_a_fatal_signal_leaves_the_stacks(serve: Serve, how: str, number: int) -> None:
    code, words = end(serve, how)
    assert code == -number
    assert words.startswith("Fatal Python error: ")
    assert 'nodes.py", line 8 in deeper' in words


def test_os_exit_in_a_thread_is_reported_with_its_own_stack(serve: Serve) -> None:
    code, words = end(serve, "threading.Thread(target=os._exit, args=(4,)).start(); signal.pause()")
    assert code == 4
    assert words.startswith("gophersnake: os._exit(4)")
    assert "in run" in words


@pytest.mark.parametrize(
    "how",
    [
        "pid = os.fork() or os._exit(5)",
        "pid = os.fork() or os.kill(os.getpid(), signal.SIGSEGV)",
    ],
)
def test_a_forked_child_leaves_no_words(serve: Serve, how: str) -> None:
    worker = serve(
        f"import os, signal\ndef n(value):\n    {how}\n    os.waitpid(pid, 0)\n    return 'alive'",
        python="nodes.py:n",
    )
    assert worker.call(1) == "alive"
    assert worker.exit_report() == ""


def test_processes_of_multiprocessing_end_as_they_should(serve: Serve) -> None:
    worker = serve(
        """
        import multiprocessing, os

        def double(value):
            return value * 2

        def leave():
            os._exit(6)

        def n(how):
            context = multiprocessing.get_context(how)
            with context.Pool(2) as pool:
                doubled = pool.map(double, [1, 2])
            one = context.Process(target=leave)
            one.start()
            one.join()
            return [doubled, one.exitcode]
        """,
        python="nodes.py:n",
    )
    for how in ("fork", "spawn"):
        assert worker.call(how) == [[2, 4], 6]
    assert worker.exit_report() == ""
    assert worker.shut_down() == 0


def test_a_node_that_closes_all_descriptors_can_still_exit(serve: Serve) -> None:
    code, words = end(serve, "os.closerange(4, 256); os._exit(7)")
    assert (code, words) == (7, "")


def test_an_end_in_good_order_leaves_no_words(serve: Serve) -> None:
    worker = serve("import sys\ndef n(value): sys.exit(3)", python="nodes.py:n")
    with pytest.raises(Failed):
        worker.call(1)
    assert worker.wait() == 3
    assert worker.exit_report() == ""
