"""Tests of the fragile node; modes that kill the interpreter run in a subprocess."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest
from gophersnake import Permanent, Transient
from resilient import MODES, Order, fragile

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Set a temporary folder for the test and its child processes."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    assert list(tmp_path.iterdir()) == [], "a file with a count remains"


def alone(order: Order) -> subprocess.CompletedProcess[str]:
    """Run the node once in a fresh interpreter, as a replaced worker would."""
    code = "import json, sys, resilient as r; print(json.dumps(r.fragile(json.loads(sys.argv[1]))))"
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(order)],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # the same modules as here
        capture_output=True,
        text=True,
        check=False,
    )


def test_fine() -> None:
    assert alone({"mode": "fine"}).returncode == 0


@pytest.mark.parametrize(("mode", "code"), [("crash", -signal.SIGSEGV), ("exit", 3)])
def test_what_ends_the_interpreter(mode: str, code: int) -> None:
    assert alone({"mode": mode}).returncode == code


@pytest.mark.parametrize(("mode", "code"), [("crash", -signal.SIGSEGV), ("exit", 3)])
def test_the_count_outlives_the_interpreter(mode: str, code: int) -> None:
    order: Order = {"mode": mode, "times": 2, "id": "an order/7"}
    assert [alone(order).returncode for _ in range(3)] == [code, code, 0]
    assert alone(order).returncode == code, "a success resets the count"
    assert alone({**order, "times": 0}).returncode == 0


def test_hang() -> None:
    class Deadline(Exception):
        pass

    def ring(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise Deadline

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Deadline):
            fragile({"mode": "hang"})
    finally:
        signal.signal(signal.SIGALRM, before)


def test_raise_then_fine() -> None:
    order: Order = {"mode": "raise", "times": 1}
    with pytest.raises(ValueError, match="decimal comma"):
        fragile(order)
    result = fragile(order)
    assert isinstance(result, dict)
    assert (result["status"], result["failures"]) == ("fine", 1)


def test_transient_and_permanent() -> None:
    with pytest.raises(Transient, match="busy"):
        fragile({"mode": "transient"})
    with pytest.raises(Permanent, match="catalog"):
        fragile({"mode": "permanent"})


def test_value_is_an_open_file() -> None:
    result = fragile({"mode": "value"})
    assert isinstance(result, dict)
    handle = result["items"][1]["handle"]
    assert not handle.closed
    handle.close()


@pytest.mark.parametrize("order", [None, "crash", {}, {"mode": "explode"}, {"mode": ["crash"]}])
def test_another_order_is_refused_with_the_modes(order: Order) -> None:
    with pytest.raises(Permanent, match=", ".join(MODES)):
        fragile(order)


@pytest.mark.parametrize("times", ["once", -1, 0.5])
def test_another_number_of_times_is_refused(times: int) -> None:
    with pytest.raises(Permanent, match="number of failures"):
        fragile({"mode": "raise", "times": times})
