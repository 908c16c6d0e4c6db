"""The hints for errors that a node's sandbox causes.

Here nothing is isolated: the errors are made, and those of a real kernel are looked at
by the tests of the Go package runner.
"""

from __future__ import annotations

import errno
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gophersnake._worker import originals
from gophersnake._worker.process import sandbox
from gophersnake._worker.serving import failure

STRICT: dict[str, Any] = {
    "read": ["/nodes"],
    "write": None,
    "network": False,
    "signals": False,
    "processes": 0,
}


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    sandbox.configure(STRICT)
    yield
    sandbox.configure(None)


def hint(raising: Callable[[], Any]) -> str:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        raising()
    hint: str = failure.remote_error(caught.value, "call").get("hint", "")
    return hint


def fork() -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def kill() -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def mount() -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def refuse(code: int, name: Any = None) -> Callable[[], None]:
    def look() -> None:
        raise OSError(code, os.strerror(code), name)

    return look


def test_a_node_without_isolation_gets_no_hint() -> None:
    sandbox.configure(None)
    assert hint(refuse(errno.EACCES, "/etc/shadow")) == ""
    assert hint(fork) == ""


def test_each_hint_names_the_restriction() -> None:
    assert "seccomp refuses further processes" in hint(fork)
    assert "Landlock refuses signals" in hint(kill)
    assert "seccomp refuses this system call" in hint(mount)
    assert "seccomp refuses sockets" in hint(refuse(errno.EACCES))
    assert "seccomp refuses to change the modes" in hint(refuse(errno.EPERM, "/etc/passwd"))
    assert "Landlock keeps /no/such/secret" not in hint(refuse(errno.ENOENT, "/no/such/secret"))


def lock() -> None:
    raise PermissionError(errno.EACCES, "Permission denied")  # as _multiprocessing.SemLock does


def test_semaphores_are_not_taken_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused_open(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("gophersnake._worker.originals.os.open", refused_open)
    memory = refuse(errno.EACCES, "/dev/shm/memory")
    for refused in (lock, memory):
        said = hint(refused)
        assert "isolation.processes" in said
        assert "isolation.write" in said
        assert "network" not in said
    sandbox.configure(STRICT | {"processes": -1})
    for refused in (lock, memory):
        said = hint(refused)
        assert "isolation.processes" not in said
        assert "isolation.write" in said
        assert "network" not in said


def test_a_refused_mode_is_accepted_if_it_only_keeps_others_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Any, mode: int, **_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", path)

    monkeypatch.setattr(os, "chmod", refused)
    monkeypatch.setattr(sandbox, "SHARED_MEMORY", f"{tmp_path.parent}/memory/")
    sandbox.accept_private_modes()
    file, outside = tmp_path / "file", tmp_path.parent / "outside"
    memory = tmp_path.parent / "memory"
    memory.mkdir()
    for each in (file, outside, memory / "file"):
        each.touch(0o644)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    os.chmod(file, 0o600)
    os.chmod(str(file), 0o640)
    os.chmod(os.fsencode(memory / "file"), 0o600)
    (tmp_path / "socket").chmod(0o600)
    for path, mode in [
        (file, 0o666),
        (file, 0o444),
        (file, 0o755),
        (file, 0o4600),
        (outside, 0o600),
    ]:
        with pytest.raises(PermissionError):
            os.chmod(path, mode)
    with file.open() as opened, pytest.raises(PermissionError):
        os.chmod(opened.fileno(), 0o600)
    link = tmp_path / "link"
    link.symlink_to(outside)
    with pytest.raises(PermissionError):
        os.chmod(link, 0o600)
    sandbox.configure(STRICT | {"write": [str(memory)]})  # which others may reach, then
    with pytest.raises(PermissionError):
        os.chmod(memory / "file", 0o600)
    assert pickle.loads(pickle.dumps(os.chmod)) is os.chmod


def test_a_readable_file_was_opened_for_writing(tmp_path: Path) -> None:
    assert "lets it read /etc/passwd, but not change it" in hint(
        refuse(errno.EACCES, b"/etc/passwd")
    )
    assert "lets it read /etc/new/file, but not change it" in hint(
        refuse(errno.EACCES, "/etc/new/file")
    )
    assert "Landlock keeps /dev/null from it" in hint(refuse(errno.EACCES, "/dev/null"))
    long = f"/{'x' * 300}"
    assert f"Landlock keeps {long} from it" in hint(refuse(errno.EACCES, long))
    assert hint(refuse(errno.EACCES, str(tmp_path / "own"))) == "", "its own mode is to blame"


def test_a_file_that_cannot_be_opened_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(originals.os, "open", refused)
    kept = hint(refuse(errno.EACCES, "/etc/passwd"))
    assert "Landlock keeps /etc/passwd from it" in kept
    assert "to isolation.read or isolation.write" in kept
    made = hint(refuse(errno.EACCES, "/etc/new"))
    assert "to isolation.write in the manifest" in made


def test_a_refusal_that_caused_another_error_is_found() -> None:
    def wrapped() -> None:
        try:
            fork()
        except OSError as error:
            raise RuntimeError("the tool does not run") from error

    assert "further processes" in hint(wrapped)

    def library() -> None:
        raise ImportError("libx.so: cannot open shared object file: Permission denied")

    assert "load no library" in hint(library)

    def missing() -> None:
        raise ImportError("no module named x")

    assert hint(missing) == ""

    def lookup() -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    assert "seccomp refuses sockets" in hint(lookup)


def test_a_cycle_of_causes_ends_the_search() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first

    def loop() -> None:
        raise first

    assert hint(loop) == ""


def test_a_number_of_processes_is_named() -> None:
    sandbox.configure(STRICT | {"processes": 3, "network": True, "signals": True})

    def fork() -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    def thread() -> None:
        raise RuntimeError("can't start new thread")

    assert "room for 3 further processes" in hint(fork)
    assert "room for 3 further processes" in hint(thread)
    assert "seccomp refuses this system call" in hint(kill)
    assert hint(refuse(errno.EACCES)) == ""
    assert hint(refuse(errno.EAGAIN)) == ""
    sandbox.configure(STRICT)
    assert "limits.threads" in hint(thread)
