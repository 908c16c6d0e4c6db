"""The template, and the workers that it forks."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.supervisor import PATIENCE
from tests.templates import Begin, Forked, Template, templates

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork server needs Linux")

Fork = Callable[..., Forked]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start templates; they end with the test."""
    with templates(tmp_path) as begin:
        yield begin


@pytest.fixture
def fork(begin: Begin) -> Iterator[Fork]:
    """Return a function that forks a worker from a template of that source text."""
    forked: list[Forked] = []

    def fork(source: str | Template, set_up: bool = True, **setup: Any) -> Forked:
        template = source
        if isinstance(template, str):
            template = begin(template)
            assert template.prepare() == {"ready": True}, template.output()
        forked.append(Forked(template, shared="shared" in setup))
        if set_up:
            base = template._setup["base"]
            forked[-1].set_up(base=base, python="nodes.py:n", **setup)
        return forked[-1]

    yield fork
    for worker in forked:
        worker.close()


def test_a_worker_serves_the_module_that_the_template_imported(fork: Fork, tmp_path: Path) -> None:
    source = f"""
        import os
        with open({str(tmp_path / "imports")!r}, "a") as file:
            file.write("imported ")
        def n(value):
            return [value, os.getppid()]
    """
    first = fork(source)
    template = first._template
    second = fork(template)
    assert first.call("v") == ["v", first.reaper]
    assert second.call("w") == ["w", second.reaper]
    assert first.pid != second.pid
    assert (tmp_path / "imports").read_text() == "imported "


def test_a_forked_worker_is_like_a_spawned_one(serve: Serve, fork: Fork) -> None:
    source = """
        import os, resource, signal, sys
        def n(value):
            return {
                "argv": sys.argv, "folder": os.getcwd(), "variables": dict(os.environ),
                "leads": os.getpid() == os.getpgrp(), "sessions": os.getsid(0) == os.getsid(os.getppid()),
                "stdin": os.readlink("/proc/self/fd/0"), "main": sys.modules["__main__"].__file__,
                "inherited": [fd for fd in range(100) if open_to_children(fd)],
                "lifeline": os.get_blocking(3), "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
                "depth": depth(sys._getframe()), "argv0": open("/proc/self/cmdline").read(),
            }
        def open_to_children(fd):
            try:
                return os.get_inheritable(fd)
            except OSError:
                return False
        def depth(frame):
            return 1 + depth(frame.f_back) if frame else 0
    """
    spawned = serve(source, python="nodes.py:n").call(1)
    assert fork(source).call(1) == spawned
    assert spawned["leads"]
    assert not {3, 4, 5} & set(spawned["inherited"])


@pytest.mark.parametrize(
    "node",
    [
        "@node\ndef n(value): return news()",
        "@node\ndef n(value: int) -> list[str]: return news()",
        "@node\nasync def n(value): return news()",
        "@node(batch=2)\ndef n(values): return [news()]",
        "@node(threads=2)\ndef n(value): return news()",
    ],
)
def test_a_forked_worker_imports_nothing(fork: Fork, node: str) -> None:
    source = f"""
import os, sys
from gophersnake import node
before = set()
os.register_at_fork(after_in_child=lambda: before.update(sys.modules))
def news():
    return sorted(set(sys.modules) - before)
{node}
"""
    assert fork(source, node_type="n").call(1) == []


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("sys.exit(4)", 4),
        ("ctypes.string_at(0)", -signal.SIGSEGV),
    ],
)
def test_the_reaper_reports_how_a_worker_ended(fork: Fork, how: str, status: int) -> None:
    worker = fork(f"import ctypes, os, signal, sys\ndef n(value):\n    {how}")
    worker.begin(1)
    ended = worker.ended()
    assert worker.status == status
    assert ended["max_rss"] > 1000  # KiB
    assert ended["user"] + ended["system"] > 0
    if "sys" not in how:
        assert 'nodes.py", line 3 in n' in worker.exit_report()


def test_a_running_reaper_is_not_reaped(fork: Fork) -> None:
    worker = fork("def n(value): return value")
    template = worker._template
    assert "has not ended" in template.ask({"reap": worker.reaper})["error"]
    assert worker.call("v") == "v"
    assert worker.shut_down() == 0
    # A process closes its descriptors a moment before it can be reaped.
    while "error" in (answer := template.ask({"reap": worker.reaper})):
        assert "has not ended" in answer["error"]
    assert answer == {"reaped": True}
    assert "cannot reap" in template.ask({"reap": worker.reaper})["error"]


LEAVES_A_DAEMON = """
    import os, signal
    def n(value):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(3, 100)
                while True:
                    signal.pause()
            os._exit(0)
        os.wait()
        os.write(1, b"left\\n")
        while True:
            signal.pause()
"""


@pytest.mark.parametrize("end", ["worker", "supervisor"])
def test_the_reaper_ends_the_daemons_of_a_worker(fork: Fork, end: str) -> None:
    worker = fork(LEAVES_A_DAEMON)
    worker.begin(1)
    assert worker.stdout.readline() == "left\n"
    if end == "worker":
        os.kill(worker.pid, signal.SIGKILL)
    else:
        worker._channel.shutdown(socket.SHUT_WR)  # the reaper can still report
    assert worker.wait() == -signal.SIGKILL
    assert worker.stdout.read() == "", "no process holds the pipe"


def test_the_lifeline_of_a_worker_ends_only_its_group(fork: Fork) -> None:
    worker = fork(
        """
        import os, signal
        def n(value):
            if value == "wait":
                return "v"
            if os.fork() == 0:
                while True:
                    signal.pause()
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            os.close(1)
            while True:
                signal.pause()
        """
    )
    other = fork(worker._template)
    worker.begin(1)
    os.close(worker.lifeline)
    worker.lifeline = -1
    assert worker.wait() == -signal.SIGKILL
    assert worker.stdout.read() == ""  # the child is gone, too
    assert other.call("wait") == "v"
    assert other.shut_down() == 0


def test_a_worker_has_the_channel_of_shared_memory(fork: Fork) -> None:
    numpy = pytest.importorskip("numpy")
    worker = fork("def n(array): return array * 2", shared={})
    result = worker.call(numpy.arange(100_000, dtype="float32"))
    assert (result == 2 * numpy.arange(100_000, dtype="float32")).all()
    assert worker.shut_down() == 0


def test_workers_draw_different_numbers(fork: Fork) -> None:
    pytest.importorskip("numpy")
    first = fork(
        """
        import random
        import numpy
        import numpy.random
        drawn = [random.random(), float(numpy.random.random())]
        def n(value):
            return [*drawn, random.random(), float(numpy.random.random())]
        """
    )
    one, other = first.call(1), fork(first._template).call(1)
    assert one[:2] == other[:2], "what was drawn by the import is the same"
    assert one[2] != other[2]
    assert one[3] != other[3]


def test_the_generator_of_torch_is_seeded_in_each_worker(fork: Fork) -> None:
    worker = fork(
        """
        import sys, types
        module = types.ModuleType("torch.random")  # it is too large to be installed here
        module.seeded = 0
        def seed():
            module.seeded += 1
        module.seed = seed
        sys.modules["torch.random"] = module
        def n(value):
            return module.seeded
        """
    )
    assert worker.call(1) == 1


LOGGING = """
    import logging
    {how}
    logging.getLogger("early").warning("while it is imported")
    def n(value):
        logging.getLogger("late").log(value, "while it is called")
        return [logging.getLogger().level, [type(h).__name__ for h in logging.getLogger().handlers]]
"""


@pytest.mark.parametrize(
    "how",
    [
        "pass",
        "logging.basicConfig(level=logging.DEBUG)",
        "logging.getLogger().setLevel(logging.ERROR)",
        "logging.basicConfig(force=True)",
        "logging.getLogger().addHandler(logging.NullHandler())",
    ],
)
def test_the_modules_logging_is_as_in_a_spawned_worker(serve: Serve, fork: Fork, how: str) -> None:
    source = LOGGING.format(how=how)
    spawned = serve(source, python="nodes.py:n", log_level="info")
    forked = fork(source, log_level="info")
    assert forked.call(30) == spawned.call(30)
    early, *late = [each["message"] for each in spawned.logs] or [""]
    if early:
        assert [each["message"] for each in forked.logs] == late
    if how != "logging.getLogger().setLevel(logging.ERROR)":
        assert forked._template.output().count("while it is imported") == 1


def test_changes_made_by_the_import_remain(fork: Fork) -> None:
    worker = fork(
        """
        import os, signal, time
        os.environ["SET_BY_THE_IMPORT"] = "yes"
        os.close(0)
        os.closerange(3, 5)
        heard = []
        signal.signal(signal.SIGCHLD, lambda *_: heard.append(1))
        print("imported", flush=False)
        def n(value):
            if (pid := os.fork()) == 0:
                os._exit(0)
            os.waitpid(pid, 0)
            while not heard:  # another thread may have got the signal
                time.sleep(0.001)
            return [os.environ["SET_BY_THE_IMPORT"], len(heard)]
        """
    )
    assert worker.call(1) == ["yes", 1]
    assert worker.shut_down() == 0, "known although the module listens to SIGCHLD"
    assert worker.stdout.read() == ""
    assert worker._template.output() == "imported\n"


def test_the_memory_limit_holds_for_the_import(begin: Begin) -> None:
    template = begin("data = bytes(512 << 20)\ndef n(value): return value", memory=256 << 20)
    assert template.prepare() == {"failed": "MemoryError: "}
    assert template.wait() == 0


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("import sys; sys.exit(9)", "SystemExit: 9"),
        ("def f(:", "SyntaxError: "),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_reported(begin: Begin, source: str, says: str) -> None:
    template = begin(source)
    assert template.prepare()["failed"].startswith(says)
    assert template.wait() == 0


def test_a_module_without_the_node_can_still_have_others(begin: Begin) -> None:
    assert begin("m = 1").prepare() == {"ready": True}


@pytest.mark.parametrize(("how", "status"), [("os._exit(7)", 7), ("os.abort()", -signal.SIGABRT)])
def test_a_module_that_ends_the_process_ends_the_template(
    begin: Begin, how: str, status: int
) -> None:
    template = begin(f"import os; {how}")
    assert template.prepare() is None
    assert template.wait() == status


def test_the_template_ends_with_its_socket(begin: Begin) -> None:
    template = begin("def n(value): return value")
    assert template.prepare() == {"ready": True}
    assert template.hang_up() == 0


def test_workers_outlive_the_template(fork: Fork) -> None:
    worker = fork("def n(value): return value")
    worker._template.kill()
    assert worker.call("v") == "v"
    worker.send(12)  # shutdown
    assert select.select([worker._pidfd], [], [], PATIENCE)[0]


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"nonsense": 1}, "unknown request ['nonsense']"),
        ({"fork": []}, "a worker cannot start with 0 descriptors"),
        ({"reap": 1}, "cannot reap 1"),
        ({"reap": "x"}, "cannot reap 'x'"),
        ({"reap": 1 << 40}, f"cannot reap {1 << 40}"),
    ],
)
def test_an_invalid_request_is_answered_with_an_error(
    begin: Begin, question: Any, says: str
) -> None:
    template = begin("def n(value): return value")
    assert template.prepare() == {"ready": True}
    assert template.ask(question)["error"].startswith(says)
    assert template.hang_up() == 0


@pytest.mark.parametrize("message", [b"\xc1", b"\x01", random.Random(1).randbytes(70_000)])
def test_a_question_that_cannot_be_read_ends_the_template(begin: Begin, message: bytes) -> None:
    template = begin("def n(value): return value")
    assert template.ask(message) is None
    assert template.wait() == 1
    assert "cannot be read" in template.output()


def test_too_many_descriptors_end_the_template(begin: Begin) -> None:
    template = begin("def n(value): return value")
    assert template.prepare() == {"ready": True}
    assert template.ask({"fork": []}, *[0] * 20) is None
    assert template.wait() == 1


def test_a_request_before_setup_ends_the_template(begin: Begin) -> None:
    template = begin("")
    assert template.ask({"reap": 1}) == {"error": "the first request must be setup"}
    assert template.wait() == 0


def test_a_failed_fork_is_reported(begin: Begin) -> None:
    template = begin(
        """
        from gophersnake._worker.originals import os
        def fork():
            raise BlockingIOError(11, "there are too many")
        os.fork = fork
        def n(value): return value
        """
    )
    assert template.prepare() == {"ready": True}
    assert template.ask({"fork": []}, 0, 0, 0, 0, 0) == {
        "error": "cannot fork: [Errno 11] there are too many"
    }


def test_a_worker_without_a_lifeline_does_not_come_up(begin: Begin) -> None:
    template = begin("def n(value): return value")
    assert template.prepare() == {"ready": True}
    out, into = os.pipe()
    channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with open(os.devnull, "wb") as nothing, channel, theirs:
        worker = ["GOPHERSNAKE_WORKER=b3d1c2f0"]
        descriptors = [theirs.fileno(), nothing.fileno(), into, *[nothing.fileno()] * 2]
        answer = template.ask({"fork": worker}, *descriptors)
        channel.send(b"adopted")
        os.close(into)
        with os.fdopen(out) as stderr:
            assert "Bad file descriptor" in stderr.read()  # it is not open for reading
        pidfd = os.pidfd_open(answer["forked"])
        assert select.select([pidfd], [], [], PATIENCE)[0]
        os.close(pidfd)
        assert sorted(channel.recv(64).split()[0] for _ in range(3)) == [
            b"ended",
            b"reaper",
            b"worker",
        ]
    assert template.ask({"reap": answer["forked"]}) == {"reaped": True}
