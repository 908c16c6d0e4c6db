"""Adapters: they run classes that were written for another system, the *host*, unchanged.

An adapter is a module of this package. It turns a class of its host into a class as nodes of
gophersnake have it, so the rest of the worker needs no case for it. ``HOSTS`` names the
adapters, and says what they recognize without importing them: a worker imports an adapter when
it finds a class of its host, and a worker of an ordinary node imports none.

A module ``adapters/NAME.py`` has these functions:

``adapt(target, name)``
    Returns a class for a class of the host. ``name`` is the node type, empty for the class's
    own. The class has the attribute ``ADAPTED`` with an ``Adapted``, the options of ``node``,
    ``__signature__`` with the params, a ``process`` whose ``__signature__`` has the inputs, and
    what nodes have: ``setup``, ``close``, ``begin``, ``finish``, ``__copy__``. Each of them may be
    ``async``. A session whose stream ends early gets a call of ``DROPPED`` in place of ``finish``.

``registered(module, name)``
    Returns the class that the host's own registries have under a node type, or ``None``.

``stand_in(name)``
    Returns the module of that name of the host's package, or ``None``. The worker calls it
    only if the package is not installed.

``registrations(module)``
    Returns the classes that a module has registered, by node type.

What an adapter cannot do must be an error that names it: a ``NodeFault`` in
``Adapted.problems``, so that ``validate`` reports it, or an exception of the call.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from gophersnake.nodes import name_of

ADAPTED = "__gophersnake_adapted__"
"""The attribute of a class that an adapter has made; its value is an ``Adapted``."""

DROPPED = "__gophersnake_dropped__"
"""The method of such a class that ends a session without its last values."""


class Adapted(NamedTuple):
    """What the worker knows of a class that an adapter has made.

    Attributes:
        host: the name of the adapter.
        target: the class of the host.
        hints: returns the annotations of the params. They are described, and nothing is
            converted.
        problems: returns the errors of a node with these params, ``NodeFault`` or others.
    """

    host: str
    target: type
    hints: Callable[[], Mapping[str, Any]]
    problems: Callable[[Mapping[str, Any]], Sequence[Exception]]


class Host(NamedTuple):
    """Another system whose classes an adapter runs.

    Attributes:
        name: the name of the adapter's module.
        package: the host's package; a class that it defines, or that inherits from one, is
            the host's.
        looks_like: whether a class that does not use the package is written for the host.
    """

    name: str
    package: str
    looks_like: Callable[[type], bool]

    def recognizes(self, target: type) -> bool:
        """Return whether a class is written for this host."""
        start = self.package + "."
        return any(str(base.__module__).startswith(start) for base in target.__mro__) or (
            self.looks_like(target)
        )


def _looks_like_remotemedia(target: type) -> bool:
    """Return whether a plain class has what RemoteMedia calls, and gophersnake does not."""
    if not callable(getattr(target, "process", None)):
        return False
    if "_node_type" in vars(target) or "_node_registration" in vars(target):
        return True  # its registries leave these attributes
    if callable(getattr(target, "initialize", None)) or callable(getattr(target, "cleanup", None)):
        return not hasattr(target, "setup") and not hasattr(target, "close")
    code = getattr(inspect.getattr_static(target, "__init__"), "__code__", None)
    return code is not None and "node_id" in code.co_varnames[1 : code.co_argcount]


HOSTS = (Host("remotemedia", "remotemedia", _looks_like_remotemedia),)
"""The hosts, in the order in which they are asked."""


def adapt(target: Any, name: str = "") -> Any:
    """Return a class of ours for a class of a host, and anything else as it is.

    Args:
        target: what a module has under the name of a node.
        name: the node type; empty for the name of the class.
    """
    host = _host_of(target)
    return target if host is None else _adapter(host).adapt(target, name)


def adapted(target: Any) -> Adapted | None:
    """Return what is known of a class that an adapter has made, ``None`` for anything else."""
    found = vars(target).get(ADAPTED) if _is_class(target) else None
    return found if isinstance(found, Adapted) else None


def find(module: ModuleType, name: str) -> Any:
    """Return the node of a host that a module has under a node type, adapted, or ``None``.

    The registries of the host come first, because a module may register a class of another
    one; then the classes of the module.
    """
    for host in HOSTS:
        if host.package in sys.modules:
            target = _adapter(host).registered(module, name)
            if target is not None:
                return adapt(target, name)
    target = vars(module).get(name)
    return None if _host_of(target) is None else adapt(target, name)


def nodes_of(module: ModuleType) -> dict[str, Any]:
    """Return the nodes of hosts that a module defines or registers, adapted, by node type."""
    found: dict[str, Any] = {}
    for host in HOSTS:
        if host.package in sys.modules:
            for name, target in _adapter(host).registrations(module).items():
                found[name] = adapt(target, name)
    registered = {vars(each)[ADAPTED].target for each in found.values()}
    for name, value in list(vars(module).items()):
        host_of = _host_of(value)
        if host_of is None or value.__module__ != module.__name__ or inspect.isabstract(value):
            continue
        if value not in registered:
            found.setdefault(name, adapt(value))
    return found


def _host_of(target: Any) -> Host | None:
    """Return the host of a class, ``None`` for nodes of gophersnake and everything else."""
    if not _is_class(target) or name_of(target) is not None or adapted(target):
        return None
    return next((host for host in HOSTS if host.recognizes(target)), None)


def _is_class(target: Any) -> bool:
    """Return whether an object is a class, without asking the object, which may be a proxy."""
    return issubclass(type(target), type)


def _adapter(host: Host) -> Any:
    return importlib.import_module(f"{__name__}.{host.name}")


class StandIns:
    """Provides the packages of hosts that are not installed. The last of ``sys.meta_path``."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module that only an adapter has, ``None`` for any other."""
        package = name.partition(".")[0]
        host = next((host for host in HOSTS if host.package == package), None)
        if host is None:
            return None
        if name != package and not _is_stand_in(sys.modules.get(package)):
            return None  # the package is installed, and has no such module
        made = _adapter(host).stand_in(name)
        if made is None:
            return None
        loader: Any = StandIn(made)
        return importlib.machinery.ModuleSpec(name, loader, is_package=True)


class StandIn:
    """Loads a module that an adapter has made."""

    def __init__(self, made: ModuleType) -> None:
        """Create the loader of one module."""
        self._made = made

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the module."""
        return self._made

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module is complete."""


def _is_stand_in(module: ModuleType | None) -> bool:
    spec = getattr(module, "__spec__", None)
    return isinstance(getattr(spec, "loader", None), StandIn)


def offer_stand_ins() -> None:
    """Let modules import the packages of hosts that are not installed."""
    if StandIns not in sys.meta_path:
        sys.meta_path.append(StandIns)
