"""Checks of whether a process may be forked after an import."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from gophersnake._worker.process import fork_safety

from tests.templates import Begin, templates

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork server needs Linux")

EPOLL = "the import created an event loop (an epoll instance)"


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start templates; they end with the test."""
    with templates(tmp_path) as begin:
        yield begin


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(3600,), name='mine', daemon=True).start()",
            "the import started threads (mine)",
        ),
        (
            "import _thread, time\n_thread.start_new_thread(time.sleep, (3600,))",
            "the import started threads (1, not of Python's)",
        ),
        ("import socket\nopen = socket.socket()", "the import opened a socket"),
        ("import asyncio\nloop = asyncio.new_event_loop()", EPOLL),
        ("import select\nwatch = select.epoll()", EPOLL),
    ],
)
def test_a_module_that_cannot_be_forked_is_reported(begin: Begin, source: str, says: str) -> None:
    template = begin(f"{source}\ndef n(value): return value")
    assert template.prepare() == {"unsafe": says}
    assert template.wait() == 0
    assert template.output() == ""


def test_threads_that_end_before_a_fork_do_not_count(begin: Begin) -> None:
    pytest.importorskip("numpy")  # OpenBLAS has such threads
    template = begin("import numpy\ndef n(value): return value")
    assert template.prepare() == {"ready": True}


def test_a_thread_that_a_hook_ends_does_not_count(begin: Begin) -> None:
    template = begin(
        """
        import _thread, os
        gate, ended = _thread.allocate_lock(), _thread.allocate_lock()
        gate.acquire(), ended.acquire()
        def wait():
            with gate:
                ended.release()
        _thread.start_new_thread(wait, ())
        def end():
            if gate.locked():
                gate.release()
                ended.acquire()
                while len(os.listdir("/proc/self/task")) > 1:
                    pass
        os.register_at_fork(before=end)
        def n(value): return value
        """
    )
    assert template.prepare() == {"ready": True}


def test_an_open_gpu_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_safety, "GPUS", (os.devnull,))
    with open(os.devnull, "rb"):
        assert fork_safety.why_not(set()) == f"the import opened a GPU ({os.devnull})"


def test_initialized_cuda_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", torch)
    # This process has descriptors of the libraries that other tests have imported.
    monkeypatch.setattr(fork_safety, "_devices", lambda own: "")
    assert fork_safety.why_not(set()) == "the import initialized CUDA"


def test_a_process_that_cannot_be_checked_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> list[str]:
        raise PermissionError(13, "refused", path)

    monkeypatch.setattr(fork_safety, "os", SimpleNamespace(listdir=refused))
    assert "cannot be checked: [Errno 13] refused: '/proc/self/fd'" in fork_safety.why_not(set())
