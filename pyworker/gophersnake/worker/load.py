"""Finds the Python code of a node: a module, and a function or class in it."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

from gophersnake.nodes import name_of


class NodeFault(Exception):
    """The manifest and the Python code do not fit together.

    Attributes:
        hint: what to do next; empty where the message says it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        """Take the message and the hint."""
        super().__init__(message)
        self.hint = hint


def load(base: str, python: str, node_type: str) -> Any:
    """Return the function or class of a node.

    Args:
        base: the folder that Python paths are relative to.
        python: ``path.py[:Object]`` or ``package.module[:Object]``.
        node_type: looked up in the module where ``python`` names no object.

    Raises:
        NodeFault: there is no such file, module or node.
        BaseException: whatever the module raises while it is imported.
    """
    source, _, attribute = python.partition(":") if ".py:" in python else _split(python)
    module = load_module(base, source)
    if attribute:
        return _object(module, source, attribute)
    return _node(module, source, node_type)


def _split(python: str) -> tuple[str, str, str]:
    source, colon, attribute = python.rpartition(":")
    return (source, colon, attribute) if colon else (python, "", "")


def load_module(base: str, source: str) -> ModuleType:
    """Return the module of a file or a dotted name, imported at most once."""
    if source.endswith(".py") or "/" in source:
        return _load_file(os.path.abspath(os.path.join(base, source)))
    _search(os.path.abspath(base))
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if source != missing and not source.startswith(missing + "."):
            raise  # the module is there, and misses another one
        raise NodeFault(
            f"there is no Python module {source!r}: {error}",
            f"it is looked for in {base} and in the environment; is it in the requirements?",
        ) from None


def _load_file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise NodeFault(f"there is no Python file {path}")
    _search(os.path.dirname(path))
    name = os.path.splitext(os.path.basename(path))[0]
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == path:
        return known
    if known is not None or name in sys.stdlib_module_names or not name.isidentifier():
        name = f"gophersnake_node_{abs(hash(path)):x}"
        if name in sys.modules:
            return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise NodeFault(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _search(folder: str) -> None:
    """Let a module import what lies beside it, as ``python path.py`` would."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _object(module: ModuleType, source: str, attribute: str) -> Any:
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            meant = _nearest(name, [n for n in dir(found) if not n.startswith("_")])
            raise NodeFault(f"{source} has no {attribute}{meant}")
        found = getattr(found, name)
    if not callable(found):
        raise NodeFault(f"{source}:{attribute} is no function or class, but {found!r:.80}")
    if isinstance(found, type) and not callable(getattr(found, "process", None)):
        raise NodeFault(
            f"the class {source}:{attribute} has no method process",
            "give it process(self, input)",
        )
    return found


def _node(module: ModuleType, source: str, node_type: str) -> Any:
    nodes = nodes_of(module)
    if node_type in nodes:
        return nodes[node_type]
    if callable(getattr(module, node_type, None)):
        raise NodeFault(
            f"{node_type} in {source} is no node",
            f"put @node on it, or name it in the manifest: python: {source}:{node_type}",
        )
    raise NodeFault(f"{source} has no node {node_type!r}{_nearest(node_type, list(nodes))}")


def nodes_of(module: ModuleType) -> dict[str, Any]:
    """Return the nodes of a module by type, in the order in which they stand there."""
    found: dict[str, Any] = {}
    for value in list(vars(module).values()):
        name = name_of(value)
        if name is not None:
            found.setdefault(name, value)
    return found


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are: {', '.join(known)}" if known else "; there are none: put @node on one"
