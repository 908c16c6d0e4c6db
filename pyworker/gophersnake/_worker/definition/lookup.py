"""Finds the Python code of a node: imports its module, and looks up the function or class."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import zlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from gophersnake._worker import adapters
from gophersnake._worker.definition import siblings
from gophersnake.nodes import name_of


class NodeFault(Exception):
    """The manifest and the Python code of a node do not match.

    Attributes:
        hint: what to do next; empty if the message says it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        """Create the error with a message and a hint."""
        super().__init__(message)
        self.hint = hint


def load(base: str, python: str, node_type: str) -> Any:
    """Return the function or class of a node.

    Args:
        base: the folder to which Python paths are relative.
        python: ``path.py[:Object]`` or ``package.module[:Object]``.
        node_type: the node to find in the module if ``python`` names no object.

    Raises:
        NodeFault: the file, module, object or node does not exist, or is not a node.
        BaseException: whatever the module raises while it is imported.
    """
    source, attribute = _split(python)
    module = load_module(base, source)
    if attribute:
        return _object(module, source, attribute, node_type)
    return _node(module, source, node_type)


def _split(python: str) -> tuple[str, str]:
    """Return the file or module of a ``python`` path, and the object, which may be empty."""
    source, colon, attribute = python.rpartition(":")
    if not colon or python.endswith(".py"):  # a folder may have a colon in its name
        return python, ""
    return source, attribute


def load_module(base: str, source: str) -> ModuleType:
    """Return the module of a file or a dotted name, imported at most once.

    Raises:
        NodeFault: the file or module does not exist.
        BaseException: whatever the module raises while it is imported.
    """
    if source.endswith(".py") or "/" in source:
        return _load_file(os.path.abspath(os.path.join(base, source)))
    if not all(part.isidentifier() for part in source.split(".")):
        raise NodeFault(
            f"{source!r} is not a Python module", "write path.py:Object or package.module:Object"
        )
    _search(os.path.abspath(base), "")
    adapters.offer_stand_ins()
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if source != missing and not source.startswith(missing + "."):
            raise  # the module exists, and imports another one that does not
        raise NodeFault(
            f"there is no Python module {source!r}: {error}",
            f"it was searched in {base} and in the environment; is it in the requirements?",
        ) from None


def _load_file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise NodeFault(f"there is no Python file {path}{_nearest_file(path)}")
    name = os.path.splitext(os.path.basename(path))[0]
    _search(os.path.dirname(path), name)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == path:
        return known
    if known is not None or name in sys.stdlib_module_names or not name.isidentifier():
        # The same name in every process, because class names in errors contain it.
        name = f"gophersnake_node_{zlib.crc32(os.fsencode(path)):08x}"
        if name in sys.modules:
            return sys.modules[name]
    adapters.offer_stand_ins()
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise NodeFault(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # first, since dataclasses and pickle look it up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _nearest_file(path: str) -> str:
    folder, name = os.path.split(path)
    try:
        files = [each for each in sorted(os.listdir(folder)) if each.endswith(".py")]
    except OSError:
        return f"; there is no folder {folder}"
    return nearest(name, files, "that folder has none")


def _search(folder: str, own: str) -> None:
    """Let a node import the modules beside it, as ``python nodes.py`` would.

    Args:
        folder: the folder of those modules.
        own: the name of the node's own file without its suffix, empty for a package.

    Raises:
        NodeFault: one of them would hide a package that the worker needs.
    """
    if folder in sys.path:
        return
    try:
        siblings.admit(folder, own)
    except siblings.Hidden as error:
        raise NodeFault(str(error), "rename the file") from None
    # Behind the standard library, from which admit has excepted some names.
    standard = os.path.dirname(os.__file__)
    library = (standard, os.path.join(standard, "lib-dynload"))
    at = [i for i, entry in enumerate(sys.path) if entry in library]
    sys.path.insert(at[-1] + 1 if at else 0, folder)


def _object(module: ModuleType, source: str, attribute: str, node_type: str) -> Any:
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            known = [each for each in dir(found) if not each.startswith("_")]
            raise NodeFault(f"{source} has no {attribute}{nearest(name, known, 'it is empty')}")
        found = getattr(found, name)
    if not callable(found):
        raise NodeFault(
            f"{source}:{attribute} is not a function or class, but a {type(found).__qualname__}"
        )
    found = adapters.adapt(found, node_type)
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
    if (found := adapters.find(module, node_type)) is not None:
        return found
    nodes |= adapters.nodes_of(module)
    if callable(getattr(module, node_type, None)):
        raise NodeFault(
            f"{node_type} in {source} is not a node",
            f"put @node on it, or name it in the manifest: python: {source}:{node_type}",
        )
    suggestion = nearest(node_type, nodes, "it has none: put @node on a function or class")
    raise NodeFault(f"{source} has no node {node_type!r}{suggestion}")


def nodes_of(module: ModuleType) -> dict[str, Any]:
    """Return the nodes of a module by node type, in the order of their definition."""
    found: dict[str, Any] = {}
    for value in list(vars(module).values()):
        name = name_of(value)
        if name is not None:
            found.setdefault(name, value)
    return found


def nearest(name: str, known: Iterable[str], none: str) -> str:
    """Return the end of a message about an unknown name: the nearest known one, or all.

    Args:
        name: the unknown name.
        known: the known names.
        none: the text to use if there are no known names.
    """
    import difflib  # only mistakes need it

    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are: {', '.join(known[:20])}" if known else f"; {none}"
