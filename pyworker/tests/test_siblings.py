"""Modules beside a node's file: which of them its imports find, compared with plain Python."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.supervisor import Failed

SIBLING, LIBRARY = "sibling", "library"

NODE = """
import {name}
FOUND = {library!r} if getattr({name}, "MARK", None) is None else {sibling!r}
def n(value): return FOUND
if __name__ == "__main__": print(FOUND)
"""


def node(name: str) -> str:
    """Return the source of a node that says which module it has imported."""
    return NODE.format(name=name, library=LIBRARY, sibling=SIBLING)


def in_plain_python(tmp_path: Path) -> str:
    """Return what the same file prints under plain Python, or how it ends."""
    done = subprocess.run(
        [sys.executable, "nodes.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    return done.stdout.strip() or "fails"


def kept(tmp_path: Path, name: str) -> str:
    """Return what is said of a sibling that is not imported."""
    return (
        f"{tmp_path}/{name}.py is not imported: the worker has imported Python's own module "
        f"{name}; rename the file if the node needs it"
    )


@pytest.mark.parametrize(
    "name",
    ["utils", "config", "secrets", "calendar", "statistics", "code", "test", "sched"],
)
def test_a_sibling_is_imported_as_by_plain_python(serve: Serve, tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("MARK = 1")
    worker = serve(node(name), python="nodes.py:n")
    assert (worker.call(1), worker.logs) == (SIBLING, [])
    assert in_plain_python(tmp_path) == SIBLING


@pytest.mark.parametrize("name", ["time", "os", "math"])
def test_parts_of_python_itself_are_not_hidden_as_in_plain_python(
    serve: Serve, tmp_path: Path, name: str
) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin not in {"built-in", "frozen"}:
        pytest.skip("this module is in a file of its own here")
    (tmp_path / f"{name}.py").write_text("MARK = 1")
    worker = serve(node(name), python="nodes.py:n")
    assert (worker.call(1), worker.logs) == (LIBRARY, [])
    assert in_plain_python(tmp_path) == LIBRARY


@pytest.mark.parametrize(
    "name", ["logging", "types", "signal", "socket", "json", "asyncio", "token"]
)
def test_a_sibling_that_the_library_has_forestalled_is_named_in_a_warning(
    serve: Serve, tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text("MARK = 1")
    worker = serve(node(name), python="nodes.py:n")
    assert worker.call(1) == LIBRARY
    (record,) = worker.logs
    assert (record["level"], record["logger"]) == ("warn", "gophersnake")
    assert record["message"] == kept(tmp_path, name)


def test_a_sibling_that_no_file_imports_is_not_mentioned(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "logging.py").write_text("MARK = 1")
    worker = serve("def n(value): return value", python="nodes.py:n")
    assert (worker.call(1), worker.logs) == (1, [])


@pytest.mark.parametrize(
    ("sibling", "statement", "message", "hint"),
    [
        (
            "logging",
            "from logging import setup_mine",
            "cannot import name 'setup_mine' from 'logging'",
            "BASE/logging.py is not imported: the worker has imported Python's own module logging; "
            "rename the file if the node needs it",
        ),
        (
            "types",
            "import types; types.Mine",
            "module 'types' has no attribute 'Mine'",
            "BASE/types.py is not imported: the worker has imported Python's own module types; "
            "rename the file if the node needs it",
        ),
        (
            "secrets",
            "import secrets; secrets.token_hex()",
            "module 'secrets' has no attribute 'token_hex'",
            "BASE/secrets.py takes the place of Python's own module secrets: "
            "rename it if that was not meant",
        ),
        (
            "sched",
            "from sched import scheduler",
            "cannot import name 'scheduler' from 'sched'",
            "BASE/sched.py takes the place of Python's own module sched: "
            "rename it if that was not meant",
        ),
        (
            "numpy",
            "",
            "BASE/numpy.py hides the package numpy, which the values of nodes need",
            "rename the file",
        ),
        (
            "utils",
            "from . import utils",
            "attempted relative import with no known parent package",
            "a file is not part of a package: import the modules beside it without the dot, "
            "or name the node as package.module:Object",
        ),
        (
            "my-utils",
            "import my_utils",
            "No module named 'my_utils'",
            "add the package that provides 'my_utils' to the pipeline's requirements",
        ),
    ],
)
def test_the_hint_names_the_file_that_is_in_the_way(
    serve: Serve, tmp_path: Path, sibling: str, statement: str, message: str, hint: str
) -> None:
    (tmp_path / f"{sibling}.py").write_text("MARK = 1")
    with pytest.raises(Failed) as failed:
        serve(f"{statement}\ndef n(value): return value", python="nodes.py:n")
    body = failed.value.body
    assert body["message"].replace(str(tmp_path), "BASE").startswith(message)
    assert body["hint"].replace(str(tmp_path), "BASE") == hint


def test_the_hint_is_there_in_a_call_too(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "secrets.py").write_text("")
    source = "import secrets\ndef n(value): return secrets.token_hex()"
    worker = serve(source, python="nodes.py:n")
    with pytest.raises(Failed) as failed:
        worker.call(1)
    assert failed.value.body["hint"].startswith(f"{tmp_path}/secrets.py takes the place of")


@pytest.mark.parametrize("how", ["def", "async def", "@node(threads=2)\ndef"])
def test_the_worker_uses_the_library_beside_siblings_of_all_its_names(
    serve: Serve, tmp_path: Path, how: str
) -> None:
    np = pytest.importorskip("numpy")
    for name in sys.stdlib_module_names:
        if name.isidentifier() and not name.startswith("_"):
            (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong one')")
    worker = serve(
        "from gophersnake import Json, node\n"
        f"{how} n(value): return 1 / 0 if value is None else [value, Json('1')]",
        python="nodes.py:n",
    )
    assert (worker.call(np.arange(3))[0] == [0, 1, 2]).all()
    with pytest.raises(Failed, match="ZeroDivisionError"):
        worker.call(None)


def test_numpy_keeps_the_library_beside_a_sibling_that_it_would_import(
    serve: Serve, tmp_path: Path
) -> None:
    pytest.importorskip("numpy")
    (tmp_path / "secrets.py").write_text("KEY = 'k'")
    source = """
    import secrets
    import numpy
    def n(value): return [secrets.KEY, numpy.random.default_rng(1).integers(1)]
    """
    assert serve(source, python="nodes.py:n").call(1) == ["k", 0]


@pytest.mark.parametrize("name", ["queue", "secrets", "logging"])
def test_a_package_can_be_a_sibling(serve: Serve, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("from . import inner\nMARK = inner.MARK")
    (folder / "inner.py").write_text("MARK = 1")
    worker = serve(node(name), python="nodes.py:n")
    assert worker.call(1) == (LIBRARY if name == "logging" else SIBLING)
    assert len(worker.logs) == (name == "logging")


def test_a_folder_without_modules_is_no_sibling(serve: Serve, tmp_path: Path) -> None:
    for name in ("calendar", "test", "numpy"):
        (tmp_path / name).mkdir()
    worker = serve(node("calendar"), python="nodes.py:n")
    assert worker.call(1) == LIBRARY
    assert in_plain_python(tmp_path) == LIBRARY


def test_what_a_node_sees_of_its_file_and_process(serve: Serve, tmp_path: Path) -> None:
    source = """
    import os, sys, utils
    SEEN = "in __main__" if __name__ == "__main__" else "imported"
    def n(value):
        return [__name__, __file__, __package__, SEEN, sys.argv[1:], utils.__file__]
    """
    (tmp_path / "utils.py").write_text("")
    found: list[Any] = serve(source, python="nodes.py:n").call(1)
    assert found == [
        "nodes",
        f"{tmp_path}/nodes.py",
        "",
        "imported",
        [],
        f"{tmp_path}/utils.py",
    ]


def test_two_workers_have_a_copy_each_of_a_sibling(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "shared_state.py").write_text("COUNT = []")
    source = "import shared_state\ndef n(value): shared_state.COUNT.append(value); return len(shared_state.COUNT)"
    one, other = (serve(source, python="nodes.py:n") for _ in range(2))
    assert [one.call(1), one.call(1), other.call(1)] == [1, 2, 1]
