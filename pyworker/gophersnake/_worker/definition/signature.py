"""The signature of a node: its inputs and params, and whether the manifest matches them."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import gophersnake
from gophersnake._worker.adapters import adapted
from gophersnake._worker.definition.lookup import NodeFault, nearest
from gophersnake.errors import Permanent
from gophersnake.nodes import (
    MAX_NAME,
    MAX_PARAMETERS,
    Options,
    kind_of,
    options_of,
    why_no_threads,
)

if TYPE_CHECKING:
    from gophersnake._worker.types.ports import Ports

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
CONCURRENCY = 64
"""How many calls of an async node may run at once if it sets no limit."""

MAX_TEXT = 8 << 10
MAX_DOC = 64 << 10
"""The most bytes of a text and a docstring in a description; longer ones are cut."""

MAX_SCHEMAS = 1 << 20
"""The most bytes of all schemas in a description. Go's ``ipc/message.go`` has the same."""

SINGLE = (*POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
"""The kinds of a parameter for one value; the others are ``*args`` and ``**kwargs``."""


class Signature:
    """The parameters of a node, divided into its inputs and those that params set.

    If the connections name no ports, the input is the first positional parameter or, if
    params set that one, the first of the others without a default.

    Attributes:
        target: the function or class.
        adapted: what an adapter says of a class that it has made; ``None`` for all others.
        process: the function that is called: the target, or the class's ``process``.
        inputs: the parameters that take inputs; empty if the node takes none.
        params: the other parameters, which the manifest's params can set.
        options: the options of the ``node`` decorator.
        kind: how the node returns its result; see ``gophersnake.nodes.kind_of``.
        stateful: whether the node keeps state along a stream.
        restores: whether that state can be moved to another worker.
        many: whether a call may return any number of values.
        batch: how many inputs a batch has at most; 0 if the node takes single inputs.
        max_wait: how many seconds the first input of a batch waits for others.
        at_once: whether several calls may run at the same time in one worker.
        concurrency: how many calls may do so.
        threads: how many threads call the function; 1 if only the main thread does.
        serves_many: whether an event loop serves the calls, in tasks or in threads.
    """

    def __init__(
        self,
        target: Any,
        params: Collection[str] = (),
        ports: Collection[str] = (),
        threads: int = 0,
    ) -> None:
        """Inspect a function or class, given the params, ports and threads of the manifest."""
        self.target = target
        self.adapted = adapted(target)
        self._is_class = isinstance(target, type)
        self.process: Callable[..., Any] = target.process if self._is_class else target
        self._called = _parameters(self.process)
        self.kind = kind_of(self.process)
        self.options = options = options_of(target) or Options()
        self.stateful = options.stateful and self._is_class
        self.restores = self.stateful and callable(getattr(target, "restore", None))
        self.batch = options.batch or 0
        self.many = self.stateful or (self.kind.endswith("generator") and not self.batch)
        self.max_wait = (options.max_wait_ms or 0) / 1000
        self.at_once = self.kind.startswith("async") and not self.batch
        self.threads = threads or options.threads or 1
        self.serves_many = self.at_once or self.threads > 1
        self.concurrency = (options.concurrency or CONCURRENCY) if self.at_once else self.threads
        if self._is_class:
            # The instance is bound when an instance method is called.
            if not isinstance(
                inspect.getattr_static(target, "process"), (staticmethod, classmethod)
            ):
                self._called = self._called[1:]
            self.inputs = _inputs(self._called, (), ports)
            self.params = _parameters(target)
        else:
            self.inputs = _inputs(self._called, params, ports)
            taken = {p.name for p in self.inputs}
            self.params = [p for p in self._called if p.name not in taken]

    def problems(self, params: Mapping[str, Any], ports: Collection[str]) -> list[Exception]:
        """Return the mismatches: params and ports that are unknown, missing or of a wrong type."""
        return [
            *self._size_problems(),
            *self._port_problems(ports),
            *self._batch_problems(ports),
            *self._thread_problems(),
            *self._unknown(params),
            *self._missing(params, ports),
            *self._misfits(params),
            *self.types.problems(),
            *(self.adapted.problems(params) if self.adapted is not None else ()),
        ]

    @functools.cached_property
    def types(self) -> Ports:
        """The types of the inputs, the params and the output."""
        from gophersnake._worker.types.ports import Described, Ports  # it imports this package

        if self.adapted is not None:
            return Described(self.params, self.adapted.hints())
        ports = Ports()
        if not self.options.types or not self._is_annotated():
            return ports
        from gophersnake._worker.types.hints import annotations_of  # only such nodes need it

        hints = annotations_of(self.process)
        of_params = annotations_of(self.target.__init__) if self._is_class else hints
        ports.read_params(self.params, of_params)
        ports.read_inputs(self.inputs, hints, bool(self.batch))
        ports.read_output(hints.get("return", Any), self.kind, bool(self.batch), self.stateful)
        return ports

    def _is_annotated(self) -> bool:
        parameters = [*self._called, *self.params]
        annotated = any(p.annotation is not p.empty for p in parameters)
        return annotated or bool(_returns(self.process))

    def _size_problems(self) -> list[NodeFault]:
        """Return what exceeds the limits that the supervisor sets to a description."""
        counts = {"params": len(self.params), "inputs": len(self.inputs)}
        names = {p.name for p in (*self.params, *self.inputs) if _bytes(p.name) > MAX_NAME}
        return [
            *(
                NodeFault(f"{self.name} has {count} {what}, more than {MAX_PARAMETERS}")
                for what, count in counts.items()
                if count > MAX_PARAMETERS
            ),
            *(
                NodeFault(f"the name {name[:40]}… has {_bytes(name)} bytes, more than {MAX_NAME}")
                for name in sorted(names)
            ),
        ]

    def _thread_problems(self) -> list[NodeFault]:
        why = why_no_threads(self.kind, self.stateful, self.batch) if self.threads > 1 else ""
        return (
            [NodeFault(f"{self.name}: {why}", "remove threads from the node's workers")]
            if why
            else []
        )

    def fusion_problems(self) -> list[NodeFault]:
        """Return why the node cannot be a member of a fused chain; see ``serving.fused``."""
        how = ""
        if self.stateful:
            how = "keeps a state in each stream"
        elif self.batch:
            how = "takes batches"
        elif self.at_once:
            how = "is async, and takes several calls at once"
        elif self.many:
            how = "may yield any number of values"
        elif self.threads > 1:
            how = "runs in several threads"
        if not how:
            return []
        return [
            NodeFault(
                f"{self.name} {how}: such a node cannot be fused with others",
                "remove fuse: true from the connections of the node",
            )
        ]

    def _port_problems(self, ports: Collection[str]) -> list[NodeFault]:
        if _takes_any(self._called):
            return []
        known = [p.name for p in self._called if p.kind in NAMED]
        return [
            NodeFault(f"{self.name} has no input {port!r}{nearest(port, known, 'it has none')}")
            for port in ports
            if port not in known
        ]

    def _batch_problems(self, ports: Collection[str]) -> list[NodeFault]:
        if not self.batch or not ports:
            return []
        return [
            NodeFault(
                f"{self.name} takes batches, which have a single input without a name",
                "connect the input without a port (to: ID), or remove the batch option",
            )
        ]

    def _unknown(self, params: Mapping[str, Any]) -> list[NodeFault]:
        if _takes_any(self.params):
            return []
        known = [p.name for p in self.params if p.kind in NAMED]
        inputs = [p.name for p in self.inputs]
        return [
            NodeFault(
                f"{self.name} takes its parameter {name!r} from a connection, not from params"
                if name in inputs
                else f"{self.name} has no parameter {name!r}{nearest(name, known, 'it has none')}"
            )
            for name in params
            if name not in known
        ]

    def _missing(self, params: Mapping[str, Any], ports: Collection[str]) -> list[NodeFault]:
        also = "" if self._is_class else ", or connect an input to it (to: ID.{name})"
        missing = [
            NodeFault(
                f"{self.name} needs the parameter {p.name!r}",
                f"set it in the node's params ({p.name}: …)" + also.format(name=p.name),
            )
            for p in self.params
            if p.kind in SINGLE and p.default is p.empty and p.name not in params
        ]
        if not self._is_class:
            return missing
        taken = {p.name for p in self.inputs}
        return missing + [
            NodeFault(
                f"{self.name} needs the input {p.name!r}", f"connect one to it (to: ID.{p.name})"
            )
            for p in self._called
            if p.kind in SINGLE and p.default is p.empty and p.name not in taken
        ]

    def _misfits(self, params: Mapping[str, Any]) -> list[NodeFault]:
        return [
            NodeFault(f"{self.name}: the parameter {name!r}{reason}")
            for name, value in params.items()
            if name in self.types.params and (reason := self.types.misfit(name, value))
        ]

    @property
    def name(self) -> str:
        """The node type, for messages."""
        return self.options.name or _name(self.target)

    def call_with(
        self, process: Callable[..., Any], params: Mapping[str, Any]
    ) -> Callable[..., Any]:
        """Return a function that takes the inputs alone.

        Args:
            process: a node that is a function. (The params of a class go into its ``__init__``.)
            params: the params to bind.
        """
        if not params:
            return process
        if self.inputs and self.inputs[0].name != self._called[0].name:
            name = self.inputs[0].name

            def call(*value: Any, **ports: Any) -> Any:
                return process(**dict(zip((name,), value, strict=False)), **ports, **params)

            return call
        return functools.partial(process, **params)

    def describe(self) -> dict[str, Any]:
        """Return the description of the node, the body of the ready frame."""
        file, line = _location(self.target)
        doc = self.target.__doc__ if not isinstance(self.target, functools.partial) else None
        description = {
            "name": self.name,
            "kind": "class" if self._is_class else "function",
            "node_kind": self.kind,
            "doc": _cut(inspect.cleandoc(doc), MAX_DOC) if isinstance(doc, str) else "",
            "file": _cut(file),
            "line": line,
            "params": [
                _describe(p) | {"schema": self.types.param_schema(p.name)}
                for p in self.params
                if p.kind in SINGLE
            ],
            "inputs": [
                _describe(p) | {"schema": self.types.input_schema(p.name)} for p in self.inputs
            ],
            "returns": _returns(self.process),
            "output": self.types.output_schema(),
            "many": self.many,
            "stateful": self.stateful,
            "restores": self.restores,
            "concurrency": self.concurrency,
            "batch": self.batch,
            "max_wait": self.max_wait,
            "python": sys.version.partition(" ")[0],
            "package": gophersnake.__version__,
        }
        _limit_schemas(description)
        return description


def batch_fault(name: str, results: Any, count: int) -> Exception | None:
    """Return the error of a batch node that has not returned a list of as many results as inputs.

    Args:
        name: the node type.
        results: what the node has returned.
        count: how many inputs it got.
    """
    got = f"{name} got a list of {count} inputs, and returned "
    if type(results) not in (list, tuple):
        kind = type(results).__name__
        return TypeError(f"{got}a {kind} instead of a list of as many results")
    return None if len(results) == count else ValueError(f"{got}{len(results)} results")


def session_copy(prototype: Any) -> Any:
    """Return a copy of a stateful node for a new session.

    Args:
        prototype: the node that was set up.

    Raises:
        Permanent: the node cannot be copied.
    """
    try:
        return copy.copy(prototype)
    except Exception as error:
        name = type(prototype).__name__
        raise Permanent(
            f"each session gets a copy of the {name} that was set up, but copy.copy failed: "
            f"{error!r:.500}; give the class a __copy__ method"
        ) from error


def _limit_schemas(description: dict[str, Any]) -> None:
    """Leave the schemas of parameters out if all are larger than the supervisor allows."""
    parameters = [*description["params"], *description["inputs"]]
    schemas = [description["output"], *(each["schema"] for each in parameters)]
    if sum(map(_bytes, schemas)) > MAX_SCHEMAS:
        for each in parameters:
            each["schema"] = "{}"


def _name(target: Any) -> str:
    while isinstance(target, functools.partial):
        target = target.func
    return str(getattr(target, "__name__", type(target).__name__))


def _parameters(target: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):  # written in C, without a signature
        if isinstance(target, type):
            return [inspect.Parameter("params", inspect.Parameter.VAR_KEYWORD)]
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


def _describe(parameter: inspect.Parameter) -> dict[str, Any]:
    required = parameter.default is parameter.empty
    return {
        "name": parameter.name,
        "annotation": _annotation(parameter.annotation),
        "default": None if required else _shown(parameter.default),
        "required": required,
    }


def _shown(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except Exception:  # from a __repr__ of the node's own
        return f"<{type(value).__name__}>"


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _cut(text: str, most: int = MAX_TEXT) -> str:
    """Return a text of at most so many bytes, with an ellipsis if it was longer."""
    if len(text) * 4 <= most or _bytes(text) <= most:
        return text
    kept = text.encode("utf-8", "surrogatepass")[: most - 3]
    return kept.decode("utf-8", "ignore") + "…"


def _returns(process: Callable[..., Any]) -> str:
    try:
        return _annotation(inspect.signature(process).return_annotation)
    except (TypeError, ValueError):
        return ""


def _annotation(annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    try:
        if isinstance(annotation, str):
            return _cut(annotation)
        # The name by which it is imported: gophersnake.Audio.
        shown = inspect.formatannotation(annotation)
        return _cut(shown.replace("gophersnake.values.", "gophersnake."))
    except Exception:  # from a __repr__ of the node's own
        return f"<{type(annotation).__name__}>"


def _location(target: Any) -> tuple[str, int]:
    """Return the file and line of a function or class; empty and 0 if unknown."""
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.isroutine(target) and not isinstance(target, type):
        target = type(target)
    target = inspect.unwrap(target)
    code = getattr(target, "__code__", None)
    if code is not None:  # the same as below, without reading the source
        return str(code.co_filename), int(code.co_firstlineno)
    try:
        file = inspect.getsourcefile(target) or ""
        return file, inspect.findsource(target)[1] + 1
    except (OSError, TypeError):
        return "", 0
