"""Run nodes in tests as a worker runs them, in the process of the test.

A test that calls a node's function directly sees neither the conversion of its input nor
what becomes of its result. ``call_node`` does what happens to a call of a pipeline: it
encodes the input, decodes it again, builds it as the node is annotated, calls the node,
and encodes and decodes the result::

    from gophersnake.testing import NodeError, call_node

    def test_total():
        assert call_node(total, [{"price": 2.0, "count": 3}], factor=2) == 12.0

    def test_a_price_is_a_number():
        with pytest.raises(NodeError, match="expected a number"):
            call_node(total, [{"price": "five"}])

``open_node`` sets a class up once for several calls, and ``open_session`` runs a stateful
class along a stream. With pytest, ``call_node`` is a fixture as well.

What needs a supervisor does not happen here: there are no retries, timeouts, limits of the
manifest, isolation, or shared memory. ``gophersnake.empty`` is ``numpy.empty``, and a batch
has one input. The functions change nothing in the process, such as signal handlers or the
current event loop. They are safe to use in several threads at once; a ``Node`` and a
``Session`` are for one thread at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

import msgpack

from gophersnake._worker.adapters import adapt
from gophersnake._worker.definition.signature import Signature, batch_fault, session_copy
from gophersnake._worker.serving import failure
from gophersnake._worker.values import faults
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.encoder import Encoder
from gophersnake._worker.values.format import ValueFault
from gophersnake._worker.wire.frames import Limits
from gophersnake.errors import Cancelled

__all__ = ["Inputs", "Node", "NodeError", "Session", "call_node", "open_node", "open_session"]

_REPORTED = (Exception, SystemExit, Cancelled, asyncio.CancelledError)
"""The exceptions that become a ``NodeError``. Ctrl-C, and pytest's own, end the test."""


class NodeError(Exception):
    """A call, or a step before or after it, failed as it would fail in a worker.

    The exception of the node, if there is one, is the ``__cause__``.

    Attributes:
        kind: the kind that the supervisor's retries and errors go by: ``"execution"`` (the
            node raised), ``"marshaling"`` (a value cannot be sent, or is not what the node is
            annotated with), ``"manifest"`` (params or inputs that the node does not have),
            ``"python_vm"`` (the worker would end) or ``"canceled"``.
        stage: what failed: ``"input"`` (the test's value cannot be sent), ``"params"``,
            ``"setup"``, ``"decode"``, ``"call"``, ``"encode"``, ``"close"``, or for stateful
            nodes ``"begin"``, ``"restore"``, ``"finish"`` or ``"snapshot"``.
        message: what is wrong.
        path: the place in a value, such as ``"input.items[3].price"``; empty if the error is
            not about a value.
        hint: what to do instead; empty if nothing can be recommended.
        error_class: the class of the node's exception, such as ``"ValueError"`` or
            ``"package.module.Error"``; empty if the node did not raise.
        retryable: whether the node has decided that the call is retried, with ``Transient``,
            or is not, with ``Permanent``; ``None`` if it has not.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        """Create the error from the body of an error frame."""
        super().__init__(body["message"])
        self.kind: str = body["kind"]
        self.stage: str = body["stage"]
        self.message: str = body["message"]
        self.path: str = body.get("path", "")
        self.hint: str = body.get("hint", "")
        self.error_class: str = body.get("class", "")
        self.retryable: bool | None = body.get("retryable")

    def __str__(self) -> str:
        """Return the stage, the place, what is wrong and the hint."""
        parts = [self.stage, self.path, self.error_class, self.message]
        text = ": ".join(filter(None, parts))
        return f"{text} ({self.hint})" if self.hint else text


class Inputs:
    """The inputs of a node that takes several, by name: ``Inputs(left=1, right=2)``.

    They stand for the connections of a manifest that name an input (``to: ID.left``).
    """

    def __init__(self, **values: Any) -> None:
        """Take the inputs by name."""
        self.values = values


def call_node(node: Callable[..., Any], value: Any = None, /, **params: Any) -> Any:
    """Set a node up, call it once, close it, and return what the next node would get.

    Args:
        node: the function or class. It needs no ``@node``.
        value: the input, or ``Inputs`` if the node takes several.
        **params: the params, as in the manifest.

    Returns:
        The result after it was encoded and decoded: a dataclass is a dict, a tuple a list,
        an array read-only. For a generator and a stateful class, which return any number of
        values, it is the list of them; that of a stateful class has those of ``finish``.
        A batch node gets a list of one input, and its one result is returned.

    Raises:
        NodeError: the call failed, as it would have failed in a worker.
        RuntimeError: the node is ``async def``, and an event loop runs in this thread. In an
            ``async def`` test, write ``await asyncio.to_thread(call_node, ...)``.
    """
    ports = value.values if isinstance(value, Inputs) else ()
    with open_node(node, *ports, **params) as opened:
        if not opened.stateful:
            return opened(value)
        session = Session(opened)
        return [*session.process(value), *session.finish()]


@contextmanager
def open_node(node: Callable[..., Any], /, *inputs: str, **params: Any) -> Iterator[Node]:
    """Set a node up for several calls, in a ``with`` block at whose end it is closed.

    Args:
        node: the function or class.
        *inputs: the names of the inputs, if it takes several; calls get ``Inputs`` then.
        **params: the params, as in the manifest.

    Yields:
        The node: call it with an input.

    Raises:
        NodeError: the inputs or params do not fit, or ``__init__``, ``setup`` or ``close``
            raised. (A worker only logs what ``close`` raises.)
        RuntimeError: see ``call_node``.
    """
    opened = Node(node, inputs, params)
    try:
        opened._set_up()
        yield opened
    except BaseException:
        opened._close(failed=True)
        raise
    opened._close(failed=False)


@contextmanager
def open_session(node: type, /, *inputs: str, **params: Any) -> Iterator[Session]:
    """Set a stateful class up, and open a session: one stream of inputs.

    Args:
        node: the class, declared with ``@node(stateful=True)``.
        *inputs: see ``open_node``.
        **params: the params, as in the manifest.

    Yields:
        The session, which has begun.

    Raises:
        TypeError: the class is not a stateful node.
        NodeError: see ``open_node``; also if ``begin`` raised.
        RuntimeError: see ``call_node``.
    """
    with open_node(node, *inputs, **params) as opened:
        yield Session(opened)


class Node:
    """A node that is set up. ``open_node`` creates it.

    Attributes:
        stateful: whether it keeps state along a stream, so that it is used in a ``Session``.
    """

    def __init__(
        self, target: Callable[..., Any], inputs: Sequence[str], params: Mapping[str, Any]
    ) -> None:
        """Take the function or class; see ``open_node``."""
        self._signature = Signature(adapt(target), params, inputs)
        self._ports, self._params = inputs, params
        self._stage = ""
        self._process: Callable[..., Any]
        self._object: Any = None  # that of a class
        self._write: Callable[[Any], Any] | None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._encoder = Encoder()
        self.stateful = self._signature.stateful

    def __call__(self, value: Any = None, /) -> Any:
        """Call the node, and return its result; see ``call_node``.

        Raises:
            NodeError: the call failed. The node stays set up.
            TypeError: the node is stateful, and needs a ``Session``; or ``value`` is not
                ``Inputs`` of the names that ``open_node`` got.
            RuntimeError: see ``call_node``.
        """
        if self.stateful:
            raise TypeError(f"{self._signature.name} is stateful: call it in open_session")
        if self._signature.many:
            return self._call_many(self._process, value)
        self._check_inputs(value)
        with self._reporting("input"):
            args, named = self._arguments(value)
            self._stage = "call"
            if self._signature.batch:
                result = self._only_result(self._gathered(self._process(args)))
            else:
                result = self._gathered(self._process(*args, **named))
            return self._sent(result)

    def _call_many(self, process: Callable[..., Any], value: Any) -> list[Any]:
        """Call what may return any number of values, and return them."""
        self._check_inputs(value)
        with self._reporting("input"):
            args, named = self._arguments(value)
            self._stage = "call"
            return self._each_sent(process(*args, **named))

    def _only_result(self, results: Any) -> Any:
        """Return the result of a batch of one input."""
        if (wrong := batch_fault(self._signature.name, results, 1)) is not None:
            raise wrong
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]

    def _set_up(self) -> None:
        signature = self._signature
        with self._reporting("params"):
            params = {
                name: self._carried(each, f"params.{name}") for name, each in self._params.items()
            }
            for problem in signature.problems(params, self._ports):
                raise problem
            self._stage = "setup"
            self._decoder = signature.types.decoder(Limits().decoded)
            self._write = signature.types.writer()
            built = signature.types.built(params)
            if not isinstance(signature.target, type):
                self._process = signature.call_with(signature.target, built)
                return
            self._object = signature.target(**built)
            if callable(setup := getattr(self._object, "setup", None)):
                self._awaited(setup())
            self._process = self._object.process

    def _close(self, failed: bool) -> None:
        """Close the node and its event loop.

        Raises:
            NodeError: ``close`` raised, and nothing has failed before.
        """
        try:
            if callable(close := getattr(self._object, "close", None)):
                with self._reporting("close"):
                    self._awaited(close())
        except NodeError:
            if not failed:
                raise
        finally:
            if self._loop is not None:
                _end(self._loop)

    # Values, on their way to the node and back.

    def _check_inputs(self, value: Any) -> None:
        """Raise ``TypeError`` for other inputs than those that the node was opened for."""
        names = value.values if isinstance(value, Inputs) else ()
        if set(names) != set(self._ports):
            got = ", ".join(names) or "one input without a name"
            wanted = ", ".join(self._ports) or "one input without a name"
            raise TypeError(f"{self._signature.name} was opened for {wanted}, and got {got}")

    def _arguments(self, value: Any) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a call, encoded, decoded and built as annotated."""
        named = value.values if isinstance(value, Inputs) else {}
        packer = msgpack.Packer()
        buffers: list[Any] = []
        body = packer.pack_array_header(2)
        if isinstance(value, Inputs):
            body += packer.pack_array_header(0)
        else:
            body += packer.pack_array_header(1) + self._encoded(value, "input", buffers)
        body += packer.pack_map_header(len(named))
        for name, each in named.items():
            body += packer.pack(name) + self._encoded(each, f"input.{name}", buffers)
        self._stage = "decode"
        return self._decoder.arguments(body, buffers)

    def _sent(self, value: Any) -> Any:
        """Return a result as it arrives, when it has been written as annotated."""
        stage, self._stage = self._stage, "encode"
        value = self._carried(value if self._write is None else self._write(value), "result")
        self._stage = stage
        return value

    def _carried(self, value: Any, root: str) -> Any:
        """Return a value as it arrives on the other side."""
        buffers: list[Any] = []
        body = self._encoded(value, root, buffers)
        return Decoder().decode(body, buffers, root)

    def _encoded(self, value: Any, root: str, buffers: list[Any]) -> bytes:
        """Return the body of a value, and add copies of its buffers to the list.

        Raises:
            ValueFault: the value cannot be sent, or the supervisor would refuse it.
        """
        encoded, data = self._encoder.encode(value, root)
        body = bytes(encoded)
        copies = [bytes(each) for each in data]
        # The encoder leaves it to the supervisor to check keys and depth.
        if found := faults.find_in_body(body, lambda code, payload: None):
            raise ValueFault(root + found[0], found[1])
        buffers += copies
        return body

    # What node code returns.

    def _each_sent(self, made: Any) -> list[Any]:
        """Return the values of a generator as they arrive, or the one value unless it is None."""
        sent: list[Any] = []
        if type(made) in (GeneratorType, AsyncGeneratorType):
            self._each(made, lambda each: sent.append(self._sent(each)))
        elif (value := self._gathered(made)) is not None:
            sent.append(self._sent(value))
        return sent

    def _gathered(self, made: Any) -> Any:
        """Return the value that node code has made, or the list of a generator's values."""
        if type(made) in (GeneratorType, AsyncGeneratorType):
            values: list[Any] = []
            self._each(made, values.append)
            return values
        return self._run(made) if type(made) is CoroutineType else made

    def _each(self, made: Any, take: Callable[[Any], None]) -> None:
        """Pass the values of a generator on while it is suspended, and close it."""
        if type(made) is AsyncGeneratorType:
            self._run(_each_async(made, take))
            return
        try:
            for value in made:
                take(value)
        finally:
            made.close()

    def _awaited(self, made: Any) -> Any:
        """Return what ``setup`` or ``close`` has returned, or the result of an awaitable."""

        async def wait() -> Any:
            return await made

        return self._run(wait()) if hasattr(made, "__await__") else made

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the node's event loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            work.close()
            raise _LoopRuns(
                "an async node cannot be called while an event loop runs in this thread: "
                "write await asyncio.to_thread(call_node, ...)"
            )
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(work)

    @contextmanager
    def _reporting(self, stage: str) -> Iterator[None]:
        """Raise what the block raises as a ``NodeError``, of the stage that was reached."""
        self._stage = stage
        permanent = self._signature.options.permanent
        try:
            yield
        except _LoopRuns:
            raise
        except _REPORTED as error:
            raise NodeError(failure.body_of(error, self._stage, permanent)) from error


class Session:
    """One stream of inputs of a stateful node. ``open_session`` creates it.

    If a method fails, the session stays open, with the state that it then has.
    """

    def __init__(self, node: Node) -> None:
        """Begin a session of a node that is set up.

        Raises:
            TypeError: the node is not stateful.
            NodeError: its ``begin`` raised.
        """
        if not node.stateful:
            raise TypeError("the node is not stateful: @node(stateful=True) declares it so")
        self._node = node
        with node._reporting("begin"):
            self._object = session_copy(node._object)
            if callable(begin := getattr(self._object, "begin", None)):
                node._gathered(begin())

    def process(self, value: Any = None, /) -> list[Any]:
        """Process one input, and return the values that the node has made of it.

        Raises:
            NodeError: the call failed.
        """
        return self._node._call_many(self._object.process, value)

    def finish(self) -> list[Any]:
        """End the stream, and return the last values: those of the node's ``finish``.

        Raises:
            NodeError: it raised.
        """
        finish = getattr(self._object, "finish", None)
        with self._node._reporting("finish"):
            return self._node._each_sent(finish()) if callable(finish) else []

    def snapshot(self) -> Any:
        """Return the state of the session, as ``restore`` gets it.

        Raises:
            NodeError: the node's ``snapshot`` raised, or the state cannot be sent.
        """
        with self._node._reporting("snapshot"):
            return self._node._carried(self._node._gathered(self._object.snapshot()), "snapshot")

    def restore(self, state: Any) -> None:
        """Continue from a state with a new copy of the node, as in another worker.

        Raises:
            NodeError: the node's ``restore`` raised, or the state cannot be sent.
        """
        with self._node._reporting("input"):
            state = self._node._carried(state, "state")
            self._node._stage = "restore"
            restored = session_copy(self._node._object)
            self._node._gathered(restored.restore(state))
            self._object = restored


class _LoopRuns(RuntimeError):
    """An event loop runs already, so the node cannot be awaited in this thread."""


async def _each_async(made: AsyncGenerator[Any, Any], take: Callable[[Any], None]) -> None:
    try:
        async for value in made:
            take(value)
    finally:
        await made.aclose()


def _end(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what still runs on an event loop, and close it."""
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
