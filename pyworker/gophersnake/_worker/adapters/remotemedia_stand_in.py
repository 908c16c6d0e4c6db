"""A stand-in for the package ``remotemedia``, for nodes whose environment lacks it.

It has the base classes, the values and the registries, which is what nodes need that were
written with the package; it has none of its nodes, and nothing that runs pipelines. Importing
what it lacks raises ``ImportError``, which names the package to install.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gophersnake._worker.adapters.remotemedia_bases import (
    ConfigurationError,
    MultiprocessNode,
    Node,
    NodeConfig,
    NodeError,
    NodeStatus,
    PipelineError,
    RemoteMediaError,
    SerializationError,
    SessionState,
    StateManager,
)
from gophersnake._worker.adapters.remotemedia_data import (
    AudioFormat,
    AudioMetadata,
    ControlMessageMetadata,
    ControlMessageType,
    DataType,
    FileMetadata,
    RuntimeData,
    TensorMetadata,
    TensorType,
    TextMetadata,
    VideoFormat,
    VideoMetadata,
)

PACKAGE = "remotemedia"
HINT = "add remotemedia-client to the pipeline's requirements"


# The registries.

_NODE_REGISTRY: dict[str, Any] = {}
_REGISTERED_NODES: dict[str, NodeRegistration] = {}
_LOADED_NODES: dict[str, dict[str, Any]] = {}


@dataclass
class NodeRegistration:
    """What ``streaming_node`` knows of a class."""

    node_type: str
    python_class: type
    python_path: str
    multi_output: bool = False
    description: str | None = None
    category: str | None = None
    accepts: list[str] = field(default_factory=list)
    produces: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


def register_node(node_type: str) -> Callable[[Any], Any]:
    """Return a decorator that registers a class under a node type."""

    def register(target: Any) -> Any:
        _NODE_REGISTRY[node_type] = target
        target._node_type = node_type
        return target

    return register


def python_requires(deps: Iterable[str]) -> Callable[[Any], Any]:
    """Return a decorator that declares the packages that a class needs."""

    def declare(target: Any) -> Any:
        target.__python_requires__ = list(deps)
        return target

    return declare


def get_node_class(node_type: str) -> Any:
    """Return the class of a node type.

    Raises:
        KeyError: there is none.
    """
    return _NODE_REGISTRY[node_type]


def list_registered_nodes() -> list[str]:
    """Return the node types of ``register_node``."""
    return list(_NODE_REGISTRY)


def get_node_requirements(node_type: str) -> list[str]:
    """Return the packages that a node type has declared."""
    return list(getattr(_NODE_REGISTRY.get(node_type), "__python_requires__", ()))


def streaming_node(
    node_type: str | None = None,
    *,
    multi_output: bool = False,
    description: str | None = None,
    category: str | None = None,
    accepts: list[str] | None = None,
    produces: list[str] | None = None,
    **metadata: Any,
) -> Callable[[Any], Any]:
    """Return a decorator that registers a class with what is known of it."""

    def register(target: Any) -> Any:
        made = NodeRegistration(
            node_type or target.__name__,
            target,
            f"{target.__module__}.{target.__name__}",
            multi_output,
            description or target.__doc__,
            category,
            accepts or [],
            produces or [],
            metadata,
        )
        _REGISTERED_NODES[made.node_type] = target._node_registration = made
        return target

    return register


def get_registered_nodes() -> dict[str, NodeRegistration]:
    """Return what ``streaming_node`` has registered."""
    return dict(_REGISTERED_NODES)


def get_node_registration(node_type: str) -> NodeRegistration | None:
    """Return what ``streaming_node`` has registered under a node type."""
    return _REGISTERED_NODES.get(node_type)


def register_node_class(
    cls: Any, *, node_type: str | None = None, inline: bool | None = None, **about: Any
) -> dict[str, Any]:
    """Register a class, and return what is known of it."""
    if not (isinstance(cls, type) and issubclass(cls, Node)):
        raise TypeError(f"{cls!r} must inherit from remotemedia.core.node.Node")
    name = node_type or cls.__name__
    streaming_node(name, **about)(cls)
    if issubclass(cls, MultiprocessNode):
        _NODE_REGISTRY[name] = cls
    found = {"node_type": name, "python_class": f"{cls.__module__}.{cls.__name__}", "class": cls}
    _LOADED_NODES[name] = found | about
    return _LOADED_NODES[name]


def register_python_node(
    file_path: str, *, node_type: str | None = None, node_class: str | None = None, **about: Any
) -> dict[str, Any]:
    """Import a file and register its classes, and return what is known of them by node type."""
    path = os.path.abspath(file_path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no Python file {path}")
    name = f"_remotemedia_node_{os.path.splitext(os.path.basename(path))[0]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    classes = [
        each
        for each in vars(loaded).values()
        if inspect.isclass(each) and issubclass(each, MultiprocessNode) and each.__module__ == name
    ]
    if node_class is not None:
        classes = [each for each in classes if each.__name__ == node_class]
    if not classes:
        raise ValueError(f"{path} has no subclass of MultiprocessNode {node_class or ''}".rstrip())
    alone = node_type if len(classes) == 1 else None
    return {
        found["node_type"]: found
        for found in (register_node_class(each, node_type=alone, **about) for each in classes)
    }


def register_python_nodes_from_config(config_path: str) -> dict[str, Any]:
    """Register the classes of the files that a JSON or YAML file lists."""
    with open(config_path, encoding="utf-8") as file:
        if config_path.endswith(".json"):
            config = json.load(file)
        else:
            import yaml  # type: ignore[import-untyped,unused-ignore]

            config = yaml.safe_load(file)
    found: dict[str, Any] = {}
    for each in config.get("python_nodes", []):
        options = {"path": each} if isinstance(each, str) else dict(each)
        path = os.path.join(os.path.dirname(config_path), options.pop("path"))
        found |= register_python_node(path, **options)
    return found


def get_loaded_nodes() -> dict[str, dict[str, Any]]:
    """Return what the functions for classes and files have registered."""
    return dict(_LOADED_NODES)


# The modules.

EXCEPTIONS = (RemoteMediaError, PipelineError, NodeError, ConfigurationError, SerializationError)
DATA = (
    DataType,
    AudioFormat,
    VideoFormat,
    TensorType,
    ControlMessageType,
    AudioMetadata,
    VideoMetadata,
    TextMetadata,
    TensorMetadata,
    ControlMessageMetadata,
    FileMetadata,
    RuntimeData,
)
NODES = (NodeStatus, NodeConfig, MultiprocessNode)
REGISTRY = (
    register_node,
    python_requires,
    get_node_class,
    list_registered_nodes,
    get_node_requirements,
)
STREAMING = (streaming_node, NodeRegistration, get_registered_nodes, get_node_registration)
LOADER = (
    register_node_class,
    register_python_node,
    register_python_nodes_from_config,
    get_loaded_nodes,
)

DEFINED: dict[str, tuple[Any, ...]] = {
    "core.exceptions": EXCEPTIONS,
    "core.node": (SessionState, StateManager, Node),
    "core.multiprocessing.data": DATA,
    "core.multiprocessing.node": NODES,
    "core.multiprocessing": REGISTRY,
    "nodes.registration": STREAMING,
    "nodes.loader": LOADER,
    "core": (),
    "nodes": (),
    "": (),
}
"""What each module defines."""

for _name, _defined in DEFINED.items():
    for _each in _defined:
        _each.__module__ = f"{PACKAGE}.{_name}"

IMPORTED: dict[str, tuple[Any, ...]] = {
    "core.multiprocessing": DATA + NODES,
    "core": EXCEPTIONS + DATA + NODES + (Node,),
    "nodes": (Node, *STREAMING, *LOADER),
    "": (*LOADER, streaming_node),
    "core.multiprocessing.node": (RuntimeData, DataType),
}
"""What each module has besides."""

PRIVATE = {
    "core.multiprocessing": {"_NODE_REGISTRY": _NODE_REGISTRY},
    "nodes.registration": {"_REGISTERED_NODES": _REGISTERED_NODES},
    "nodes.loader": {"_LOADED_NODES": _LOADED_NODES},
}


def module(name: str) -> types.ModuleType:
    """Return a module of the stand-in.

    Raises:
        ModuleNotFoundError: the stand-in has no such module.
    """
    inner = name.partition(".")[2]
    if inner not in DEFINED:
        raise ModuleNotFoundError(
            f"gophersnake's stand-in for the package {PACKAGE} has no module {name!r}; {HINT}",
            name=name,
        )
    made = _Module(name, f"gophersnake's stand-in for {name}; see {__name__}.")
    made.__path__ = []
    for each in DEFINED[inner] + IMPORTED.get(inner, ()):
        setattr(made, each.__name__, each)
    vars(made).update(PRIVATE.get(inner, {}))
    return made


class _Module(types.ModuleType):
    """A module that names the package to install if it lacks something."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"gophersnake's stand-in for {self.__name__} has no {name!r}; {HINT}")
