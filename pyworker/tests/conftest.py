"""Fixtures that several tests share."""

from __future__ import annotations

import os
import signal
import socket
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gophersnake._worker.values import arrays, media, plain
from hypothesis import HealthCheck, settings

from tests.supervisor import Supervisor

Serve = Callable[..., Supervisor]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as under a shell, behind `&`
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the workers inherit it

settings.register_profile(
    "default",
    deadline=None,  # no assertions about time
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("long", settings.get_profile("default"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def start() -> Iterator[Callable[..., Supervisor]]:
    """Start workers without a node; they end with the test."""
    started: list[Supervisor] = []

    def begin(*options: str, **named: Any) -> Supervisor:
        started.append(Supervisor(*options, **named))
        return started[-1]

    yield begin
    for worker in started:
        worker.close()


@pytest.fixture
def serve(start: Callable[..., Supervisor], tmp_path: Path) -> Serve:
    """Start a worker that serves the node ``n`` of this source text."""

    def begin(source: str, *options: str, env: dict[str, str] | None = None, **setup: Any) -> Any:
        (tmp_path / "nodes.py").write_text(textwrap.dedent(source), encoding="utf-8")
        worker = start(*options, env=env, shared="shared" in setup)
        worker.set_up(**{"base": str(tmp_path)} | setup)
        return worker

    return begin


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Return a named pipe: opening it for reading blocks until it is opened for writing."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two connected sockets."""
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(60)
        yield one, other


@pytest.fixture(params=["with numpy", "without numpy"])
def numpy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a test with NumPy, if it is installed, and as if it were not (the value is None)."""
    if request.param == "with numpy":
        return pytest.importorskip("numpy")
    without_numpy(monkeypatch)
    return None


def without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take NumPy away from the worker's modules."""
    monkeypatch.setattr(arrays, "numpy", lambda: None)
    for module in (arrays, media, plain):
        monkeypatch.setattr(module, "sys", _Sys())


class _Sys:
    """The module ``sys`` of an interpreter that has not imported NumPy."""

    @property
    def modules(self) -> dict[str, Any]:
        return {name: module for name, module in sys.modules.items() if name != "numpy"}

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)
