"""What a worker imports before its node's first line: each module costs every start."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import Serve

NODES = """
    import sys
    from gophersnake import node

    @node
    def plain(value):
        return list(sys.modules)

    @node
    def typed(value: str | None) -> list[str]:
        return list(sys.modules)
"""

LIBRARY = [
    "array",
    "ast",
    "atexit",
    "bisect",
    "collections.abc",
    "contextlib",
    "contextvars",
    "copy",
    "dataclasses",
    "datetime",
    "enum",
    "errno",
    "faulthandler",
    "fcntl",
    "functools",
    "gc",
    "importlib.machinery",
    "importlib.util",
    "inspect",
    "io",
    "itertools",
    "linecache",
    "logging",
    "math",
    "mmap",
    "msgpack",
    "operator",
    "os",
    "re",
    "resource",
    "select",
    "selectors",
    "signal",
    "socket",
    "stat",
    "struct",
    "sys",
    "textwrap",
    "threading",
    "time",
    "traceback",
    "types",
    "typing",
    "warnings",
    "weakref",
    "zlib",
    "__future__",
]
"""The modules outside the package that it may import at the start. The list may only shrink."""

PACKAGE = 58
"""The most modules of the package that a node without annotations needs. It may only shrink."""

FOR_TYPES = 8
"""How many more of them a node with annotations needs. It may only shrink."""


def own(modules: list[str]) -> set[str]:
    """Return the modules of the package."""
    return {name for name in modules if name.partition(".")[0] == "gophersnake"}


@pytest.fixture(scope="module")
def library() -> set[str]:
    """All modules that an interpreter has once it has imported those of the list."""
    code = f"import json, {', '.join(LIBRARY)}; print(json.dumps(list(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    return {name for name in json.loads(run.stdout) if name.partition(".")[0] != "json"}


@pytest.mark.parametrize(("node", "most"), [("plain", PACKAGE), ("typed", PACKAGE + FOR_TYPES)])
def test_a_worker_imports_only_what_it_needs(
    serve: Serve, library: set[str], node: str, most: int
) -> None:
    modules = serve(NODES, node_type=node).call("")
    foreign = set(modules) - own(modules) - library - {"__main__", "nodes"}
    assert not foreign, "these modules are new at the start of each worker"
    assert len(own(modules)) <= most
