"""Runs the Python nodes of RemoteMedia: its base classes, and plain classes of the same form.

Each class becomes a stateful node with one instance for each stream, as each session of
RemoteMedia has its own. The first stream takes the instance that the worker has set up.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from gophersnake._worker.adapters import ADAPTED, DROPPED, Adapted
from gophersnake._worker.adapters import remotemedia_values as values
from gophersnake._worker.adapters.remotemedia_instance import Instance, methods_of
from gophersnake._worker.definition.lookup import NodeFault
from gophersnake.nodes import node

PACKAGE = "remotemedia."
STAND_IN = "gophersnake._worker.adapters.remotemedia_stand_in"
CONTROL_INPUTS = ("config", "node_id", "self")
"""The params of a constructor that the adapter sets, not the manifest."""

ITERATED = ("AsyncGenerator", "AsyncIterator", "AsyncIterable")
"""What the annotation of a ``process`` that takes a whole stream names."""


class Form:
    """How a class is constructed and called.

    Attributes:
        target: the class.
        name: its node type.
        is_node: whether it inherits from RemoteMedia's ``Node``.
        is_multiprocess: whether it inherits from ``MultiprocessNode``.
        takes_runtime_data: whether its values are ``RuntimeData``.
        takes_stream: whether ``process`` takes the stream of all items, by its signature.
        is_async: whether its code runs on the event loop.
        parameters: the parameters of ``process``.
    """

    def __init__(self, target: type, name: str) -> None:
        """Inspect a class."""
        self.target = target
        self.name = name or target.__name__
        bases = {base.__name__ for base in target.__mro__ if _is_own(base)}
        self.is_multiprocess = "MultiprocessNode" in bases
        self.is_node = "Node" in bases
        process = target.process  # type: ignore[attr-defined]
        static = isinstance(inspect.getattr_static(target, "process"), (staticmethod, classmethod))
        self.parameters = _parameters(process)[0 if static else 1 :]
        first = self.parameters[0] if self.parameters else None
        annotation = _text(first.annotation) if first is not None else ""
        streams = any(name in annotation for name in ITERATED)
        self.takes_stream = first is not None and (first.name.endswith("stream") or streams)
        self.takes_runtime_data = self.is_multiprocess or "RuntimeData" in annotation
        self.is_generator = inspect.isasyncgenfunction(process)
        is_async = self.is_generator or inspect.iscoroutinefunction(process)
        self.is_async = is_async or self.is_multiprocess
        self.constructor = _parameters(target)

    @property
    def takes_config(self) -> bool:
        """Whether the constructor takes a ``NodeConfig``."""
        config = next((p for p in self.constructor if p.name == "config"), None)
        if config is None:
            return False
        return self.is_multiprocess or "NodeConfig" in _text(config.annotation)

    def params(self) -> list[inspect.Parameter]:
        """Return the params that the manifest can set."""
        set_here = CONTROL_INPUTS if self.takes_config else CONTROL_INPUTS[1:]
        rest = [p for p in self.constructor if p.kind is not p.VAR_POSITIONAL]
        if self.node_id_at is not None:
            rest = [p for p in rest if p.name != self.node_id_at]
        found = [p.replace(kind=_keyword(p)) for p in rest if p.name not in set_here]
        if self.takes_config and not any(p.kind is p.VAR_KEYWORD for p in found):
            found.append(inspect.Parameter("params", inspect.Parameter.VAR_KEYWORD))
        return found

    @functools.cached_property
    def node_id_at(self) -> str | None:
        """The positional parameter that takes the node id if none has that name."""
        names = [p.name for p in self.constructor]
        if not self.is_multiprocess or "node_id" in names or self.takes_config:
            return None
        required = [p for p in self.constructor if p.default is p.empty and p.kind in POSITIONAL]
        return required[0].name if len(required) == 1 else None

    def construct(self, node_id: str, params: Mapping[str, Any], session: str) -> Any:
        """Return a new object of the class."""
        named = dict(params)
        names = [p.name for p in self.constructor]
        if "node_id" in names:
            named.setdefault("node_id", node_id)
        if not self.takes_config:
            if self.node_id_at is not None:
                return self.target(node_id, **named)
            return self.target(**named)
        module = importlib.import_module("remotemedia.core.multiprocessing.node")
        config = module.NodeConfig(node_id, self.name, dict(params), session)
        named = {name: value for name, value in named.items() if name in names}
        return self.target(config=config, **named)

    def problems(self, params: Mapping[str, Any]) -> list[Exception]:
        """Return what the adapter cannot do with the class."""
        found: list[Exception] = []
        if self.takes_stream and not self.is_generator:
            found.append(
                NodeFault(
                    f"{self.name}: a process that takes a stream of items must be an async "
                    "generator",
                    "write async def process(self, data_stream), with yield",
                )
            )
        found += requirement_problems(self.name, getattr(self.target, "__python_requires__", ()))
        return found


POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _keyword(parameter: inspect.Parameter) -> Any:
    kind = parameter.kind
    return parameter.KEYWORD_ONLY if kind in POSITIONAL else kind


def _parameters(target: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return []


def _text(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def requirement_problems(name: str, requirements: Any) -> list[Exception]:
    """Return the errors of packages that ``python_requires`` names, and that are missing."""
    if not requirements:
        return []
    from importlib import metadata

    found: list[Exception] = []
    for requirement in requirements:
        package, fits = _requirement(str(requirement))
        if package is None:
            continue
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            have = "is not installed"
        else:
            if fits(version):
                continue
            have = f"is {version}"
        found.append(
            NodeFault(
                f"{name} requires {requirement!r} (python_requires), but {package} {have}",
                f"add it to the pipeline's requirements: {requirement}",
            )
        )
    return found


def _requirement(text: str) -> tuple[str | None, Any]:
    """Return a requirement's package, ``None`` if it is not for this interpreter, and its test."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:  # then only whether the package is there
        end = next((i for i, c in enumerate(text) if not (c.isalnum() or c in "-_.")), len(text))
        return (text[:end] or None) if ";" not in text else None, lambda version: True
    try:
        parsed = Requirement(text)
    except InvalidRequirement as error:
        raise NodeFault(f"python_requires: {text!r} is not a requirement: {error}") from None
    if parsed.marker is not None and not parsed.marker.evaluate():
        return None, None
    return parsed.name, lambda version: parsed.specifier.contains(version, prereleases=True)


def adapt(target: type, name: str = "") -> type:
    """Return a node of ours for a class of RemoteMedia's form; see the package."""
    if not callable(getattr(target, "process", None)):
        raise NodeFault(f"{target.__name__} has no method process", "give it process(self, data)")
    form = Form(target, name)
    made: Any = type(target.__name__, (Instance,), methods_of(form))
    made.__module__, made.__qualname__ = target.__module__, target.__qualname__
    made.__doc__ = target.__doc__
    made.__wrapped__ = target  # so that the description names its file
    made.__signature__ = inspect.Signature(form.params())
    hints = functools.partial(_hints, target)
    setattr(made, ADAPTED, Adapted("remotemedia", target, hints, form.problems))
    assert hasattr(made, DROPPED)
    marked: type = node(name=form.name, stateful=True, types=False)(made)
    return marked


def _hints(target: type) -> dict[str, Any]:
    """Return the annotations of the params of a class; none if they cannot be evaluated."""
    import typing

    try:
        return typing.get_type_hints(target.__init__)  # type: ignore[misc]
    except Exception:  # names that only type checkers import
        return {}


# The registries of the package.


def registered(module: ModuleType, name: str) -> Any:
    """Return the class that a registry has under a node type, ``None`` if none has it."""
    own = vars(module).get(name)
    target = _registries().get(name)
    if target is None and module.__name__.startswith(PACKAGE):
        target = _builtin(name) if own is None else None
    if target is None or (isinstance(own, type) and target.__module__ != module.__name__):
        return None
    return target


def registrations(module: ModuleType) -> dict[str, Any]:
    """Return the classes that a module has registered, by node type, but not the package's own."""
    inside = module.__name__.startswith(PACKAGE)
    return {
        name: target
        for name, target in _registries().items()
        if (target.__module__ == module.__name__ if inside else not _is_own(target))
    }


def _is_own(target: Any) -> bool:
    return str(getattr(target, "__module__", "")).startswith(PACKAGE)


def _registries() -> dict[str, Any]:
    """Return what the registries of the package hold, by node type."""
    ours = sys.modules.get(STAND_IN)

    def registry(module: str, name: str) -> dict[str, Any]:
        return getattr(ours or sys.modules.get(PACKAGE + module), name, {})

    nodes = registry("nodes.registration", "_REGISTERED_NODES")
    found = {name: each.python_class for name, each in nodes.items()}
    loaded = registry("nodes.loader", "_LOADED_NODES")
    found |= {name: each["class"] for name, each in loaded.items()}
    return found | registry("core.multiprocessing", "_NODE_REGISTRY")


def _builtin(name: str) -> Any:
    """Return a node type of the package that it imports when it is asked for."""
    get = getattr(sys.modules.get(PACKAGE + "core.multiprocessing"), "get_node_class", None)
    try:
        return None if get is None else get(name)
    except KeyError:
        return None


def stand_in(name: str) -> ModuleType | None:
    """Return a module of our stand-in for the package; see ``adapters``."""
    from gophersnake._worker.adapters import remotemedia_stand_in  # only without the package

    return remotemedia_stand_in.module(name)


__all__ = ["adapt", "registered", "registrations", "stand_in", "values"]
