"""Nodes that replace functions of the standard library, as gevent and eventlet do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from gophersnake import _worker

from tests.conftest import Serve
from tests.templates import Forked, templates
from tests.test_heartbeat import beats, linux

REPLACED = {
    "_thread": "LockType allocate_lock exit get_ident stack_size start_new_thread",
    "os": "close fdopen fork forkpty open posix_spawn posix_spawnp read wait waitpid write",
    "queue": "LifoQueue PriorityQueue Queue SimpleQueue",
    "select": "epoll poll select",
    "selectors": "DefaultSelector EpollSelector PollSelector SelectSelector",
    "signal": "getsignal set_wakeup_fd signal",
    "socket": "SocketType create_connection fromfd getaddrinfo socket socketpair",
    "subprocess": "Popen call check_call check_output run",
    "threading": "Condition Event Lock RLock Semaphore Thread Timer current_thread get_ident local",
    "time": "sleep",
}
"""What gevent 26.9 and eventlet 0.41 replace, by module, and what is made of that."""

SOURCES = sorted(Path(_worker.__path__[0]).rglob("*.py"))

ALLOWED = {
    ("originals.py", "*"),
    ("remotemedia_bases.py", "threading"),  # node code, which libraries may patch
    ("reaper.py", "select.poll"),  # alone, it is a program of its own
    ("handlers.py", "signal.signal"),  # it replaces these itself
    ("handlers.py", "signal.getsignal"),
    ("ending.py", "threading.current_thread"),  # it joins the threads that the node knows
    ("fork_safety.py", "threading.current_thread"),  # the threads of the module
    ("threadloop.py", "threading.current_thread"),  # it only names the thread
}


def uses(tree: ast.AST) -> Iterator[str]:
    """Return the functions of REPLACED that a module uses, not from ``originals``."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.asname or each.name: each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in REPLACED:
            yield from (f"{node.module}.{each.name}" for each in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{names.get(node.value.id)}.{node.attr}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_worker_code_uses_no_function_that_a_library_replaces(path: Path) -> None:
    for use in uses(ast.parse(path.read_text(encoding="utf-8"))):
        module, _, name = use.partition(".")
        found = {(path.name, use), (path.name, module), (path.name, "*")}
        if name in REPLACED.get(module, "").split() and not found & ALLOWED:
            pytest.fail(f"{path.name} uses {use}: import the module from _worker.originals")


KEPT = {"_thread.allocate_lock", "threading.RLock", "threading.current_thread", "threading.local"}
"""What logging and the import system need. A library replaces it by what works."""

NODE = f"""
import importlib, logging, os, sys, threading, time
fork, waitpid = os.fork, os.waitpid
threading._active[1] = threading.main_thread()

def fail(*args, **named):
    raise RuntimeError("a function that a library has replaced")

replaced = {{importlib.import_module(module): names for module, names in {REPLACED!r}.items()}}
for module, names in replaced.items():
    for name in names.split():
        if hasattr(module, name) and f"{{module.__name__}}.{{name}}" not in {KEPT!r}:
            setattr(module, name, (lambda: 1) if name == "get_ident" else fail)

def n(what):
    if what == "fork":
        child = fork()
        if child == 0:
            os._exit(3)
        return os.waitstatus_to_exitcode(waitpid(child, 0)[1])
    if what == "log":
        logging.info("a record")
    if what == "long":
        sum(range(5_000_000))
    return what
"""


@linux
def test_a_worker_needs_nothing_that_a_node_replaces(serve: Serve) -> None:
    worker = serve(NODE, python="nodes.py:n", log_level="info")
    for _ in range(3):
        assert worker.call("fork") == 3
        assert worker.call("log") == "log"
        calls = [worker.begin(what) for what in ("one", "long", "two", "three")]
        assert [worker.end(call) for call in calls] == ["one", "long", "two", "three"]
        assert beats(worker)
    # It is not shut down: the interpreter's own end needs the functions of threading.


@linux
def test_forked_workers_need_nothing_that_a_node_replaces(tmp_path: Path) -> None:
    with templates(tmp_path) as begin:
        template = begin(NODE)
        assert template.prepare() == {"ready": True}
        for _ in range(2):
            worker = Forked(template)
            try:
                worker.set_up(python="nodes.py:n", base=str(tmp_path))
                assert worker.call("fork") == 3
                assert worker.call("log") == "log"
                assert worker.shut_down() == 0
            finally:
                worker.close()
