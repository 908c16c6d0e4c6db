"""What a node takes and returns, and whether the manifest gives it that."""

from __future__ import annotations

import difflib
import functools
import inspect
import platform
from collections.abc import Callable, Collection, Mapping
from typing import Any

import gophersnake
from gophersnake.nodes import name_of
from gophersnake.worker import hints
from gophersnake.worker.load import NodeFault

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Signature:
    """The parameters of a node, told apart: its inputs, and those that params set.

    Without ports, the input is the first positional parameter; one that params
    set is none, and then the first of those that have no default.

    Attributes:
        target: the function or class.
        inputs: the parameters that take inputs; empty where the node takes none.
        params: all others.
    """

    def __init__(
        self, target: Any, params: Collection[str] = (), ports: Collection[str] = ()
    ) -> None:
        """Look at a function or class, given what the manifest sets and connects."""
        self.target = target
        is_class = isinstance(target, type)
        self.process: Callable[..., Any] = getattr(target, "process") if is_class else target  # noqa: B009
        called = _parameters(self.process)
        if isinstance(target, type):
            called = called[1:] if not isinstance(_raw(target, "process"), staticmethod) else called
            self.inputs = _inputs(called, (), ports)
            self.params = _parameters(target)
            self._others = [p for p in called if p not in self.inputs]
        else:
            self.inputs = _inputs(called, params, ports)
            self.params = [p for p in called if p not in self.inputs]
            self._others = []

    def problems(self, params: Mapping[str, Any], ports: Collection[str]) -> list[NodeFault]:
        """Return what the manifest gives that the node does not take, and what it lacks."""
        return [
            *self._port_problems(ports),
            *self._unknown(params),
            *self._missing(params, ports),
            *self._misfits(params),
        ]

    def _port_problems(self, ports: Collection[str]) -> list[NodeFault]:
        known = [p.name for p in self.inputs + self._others if p.kind in NAMED]
        if isinstance(self.target, type) and _takes_any(_parameters(self.process)):
            return []
        if not isinstance(self.target, type):
            known += [p.name for p in self.params if p.kind in NAMED]
            if _takes_any(self.params):
                return []
        return [
            NodeFault(f"{self.title} has no input {port!r}{_nearest(port, known)}")
            for port in ports
            if port not in known
        ]

    def _unknown(self, params: Mapping[str, Any]) -> list[NodeFault]:
        if _takes_any(self.params):
            return []
        known = [p.name for p in self.params if p.kind in NAMED]
        inputs = [p.name for p in self.inputs]
        return [
            NodeFault(
                f"{self.title} takes its parameter {name!r} from a connection, not from params"
                if name in inputs
                else f"{self.title} has no parameter {name!r}{_nearest(name, known)}"
            )
            for name in params
            if name not in known
        ]

    def _missing(self, params: Mapping[str, Any], ports: Collection[str]) -> list[NodeFault]:
        missing = [
            NodeFault(
                f"{self.title} needs the parameter {p.name!r}",
                f"set it in the node's params ({p.name}: …)"
                + (
                    ""
                    if isinstance(self.target, type)
                    else f", or connect an input to it (to: ID.{p.name})"
                ),
            )
            for p in self.params
            if p.kind in (*POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
            and p.default is p.empty
            and p.name not in params
        ]
        missing += [
            NodeFault(
                f"{self.title} needs the input {p.name!r}",
                f"connect one to it (to: ID.{p.name})",
            )
            for p in self._others
            if p.kind in (*POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
            and p.default is p.empty
            and p.name not in ports
        ]
        return missing

    def _misfits(self, params: Mapping[str, Any]) -> list[NodeFault]:
        if not params:
            return []
        init = getattr(self.target, "__init__", None) if isinstance(self.target, type) else self.target
        wanted = hints.of(init) if init is not None else {}
        return [
            NodeFault(f"{self.title}: the parameter {name!r} {reason}")
            for name, value in params.items()
            if name in wanted and (reason := hints.misfit(value, wanted[name]))
        ]

    @property
    def title(self) -> str:
        """How messages name the node."""
        return self.name

    @property
    def name(self) -> str:
        """The node type."""
        return name_of(self.target) or str(getattr(self.target, "__name__", repr(self.target)))

    @property
    def flavour(self) -> str:
        """How the node gives its result: value, generator, async or async generator."""
        return flavour(self.process)

    def call_with(
        self, process: Callable[..., Any], params: Mapping[str, Any]
    ) -> Callable[..., Any]:
        """Return what is called with the inputs.

        Args:
            process: the function with ``params`` still to be given, or the bound method.
            params: of a function; those of a class went into its ``__init__``.
        """
        if not params:
            return process
        if self.inputs and not self._input_is_first():
            name = self.inputs[0].name

            def call(*value: Any, **ports: Any) -> Any:
                return process(**dict(zip((name,), value, strict=False)), **ports, **params)

            return call
        return functools.partial(process, **params)

    def _input_is_first(self) -> bool:
        first = _parameters(self.process)[0]
        return first == self.inputs[0]

    def describe(self) -> dict[str, Any]:
        """Return the signature and docstring as the protocol has them."""
        file, line = _place(self.target)
        return {
            "name": self.name,
            "kind": "class" if isinstance(self.target, type) else "function",
            "flavour": self.flavour,
            "doc": inspect.cleandoc(self.target.__doc__ or ""),
            "file": file,
            "line": line,
            "params": [_describe(p) for p in self.params if p.kind in (*NAMED, *POSITIONAL)],
            "inputs": [_describe(p) for p in self.inputs],
            "returns": _annotation(inspect.signature(self.process).return_annotation),
            "python": platform.python_version(),
            "package": gophersnake.__version__,
        }


def flavour(process: Callable[..., Any]) -> str:
    """Return how a function gives its result."""
    if inspect.isasyncgenfunction(process):
        return "async generator"
    if inspect.iscoroutinefunction(process):
        return "async"
    return "generator" if inspect.isgeneratorfunction(process) else "value"


def _parameters(target: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(target).parameters.values())
    except ValueError:  # written in C, and says nothing of itself
        return [inspect.Parameter("value", inspect.Parameter.POSITIONAL_ONLY)]


def _inputs(
    parameters: list[inspect.Parameter], params: Collection[str], ports: Collection[str]
) -> list[inspect.Parameter]:
    if ports:
        return [p for p in parameters if p.name in ports and p.kind in NAMED]
    positional = [p for p in parameters if p.kind in POSITIONAL]
    if not positional:
        return [p for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]
    if positional[0].name not in params:
        return positional[:1]
    return [p for p in positional if p.default is p.empty and p.name not in params][:1]


def _takes_any(parameters: list[inspect.Parameter]) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _raw(target: type, name: str) -> Any:
    return inspect.getattr_static(target, name)


def _describe(parameter: inspect.Parameter) -> dict[str, Any]:
    required = parameter.default is parameter.empty
    return {
        "name": parameter.name,
        "annotation": _annotation(parameter.annotation),
        "default": None if required else f"{parameter.default!r:.80}",
        "required": required,
    }


def _annotation(annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _place(target: Any) -> tuple[str, int]:
    try:
        file = inspect.getsourcefile(target) or ""
        return file, inspect.findsource(inspect.unwrap(target))[1] + 1
    except (OSError, TypeError):
        return "", 0


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are: {', '.join(known)}" if known else "; it has none"
