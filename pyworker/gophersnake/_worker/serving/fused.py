"""Serves a fused chain: nodes that run one after the other in one worker.

Each gets the object that the one before has returned, without encoding. If its input is
annotated, the object is converted as an input from another worker is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from gophersnake._worker.definition.lookup import load
from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.originals import _thread, time
from gophersnake._worker.serving import invoker
from gophersnake._worker.serving.calls import Handler
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.serving.running import Finder
from gophersnake._worker.types.kinds import Mismatch
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.encoder import Encoder
from gophersnake._worker.values.format import ValueFault
from gophersnake._worker.wire.begun import MEMBER, SINCE, BegunCount
from gophersnake._worker.wire.connection import Closed
from gophersnake._worker.wire.frames import Bytes, Context, ProtocolError
from gophersnake.context import Running

UNRESOLVED = frozenset({GeneratorType, CoroutineType, AsyncGeneratorType})
"""The types of objects that a function may return in place of its value."""

Convert = Callable[[Any], Any]

_clock = time.monotonic


class Member:
    """One node of a chain.

    Attributes:
        node: its id.
        signature: its signature.
        params: its params, as the manifest has them.
        timeout: the seconds that it may take, ``None`` for any number.
        process: its function, which takes the inputs.
        step: the same, with the value of the member before as the only argument.
        decoder: decodes its arguments, if it is called with those of a frame.
        convert: builds its input as it is annotated, ``None`` for any value.
        write: what its result goes through before it is encoded, ``None`` for nothing.
    """

    def __init__(self, base: str, setup: dict[str, Any]) -> None:
        """Import the node, given the folder and its part of the setup frame.

        Raises:
            NodeFault: there is no such node.
            BaseException: whatever the module raises while it is imported.
        """
        self.node: str = setup["node"]
        self.params: dict[str, Any] = setup["params"] or {}
        self.ports: list[str] = setup["ports"] or []
        self.timeout: float | None = setup["timeout"] or None
        target = load(base, setup["python"], setup["node_type"])
        self.signature = Signature(target, self.params, self.ports)
        self.process: Callable[..., Any] = target
        self.step: Convert = target
        self.decoder: Decoder = Decoder(0)
        self.convert: Convert | None = None
        self.write: Convert | None = None

    def check(self) -> None:
        """Raise the first problem of the params, the ports, or of a node in a chain."""
        signature = self.signature
        problems = signature.problems(self.params, self.ports)
        for problem in [*problems, *signature.fusion_problems()]:
            raise problem

    def set_up(self, node: Any, most: int) -> None:
        """Set how the node is called: a function with its params, or an object that is set up.

        Args:
            node: the function or object.
            most: see ``Decoder``.
        """
        signature = self.signature
        self.process = node.process if isinstance(signature.target, type) else node
        self.step = _with_port(self.process, self.ports[0]) if self.ports else self.process
        self.decoder = signature.types.decoder(most)
        name = signature.inputs[0].name if signature.inputs else ""
        self.convert = signature.types.converter(name)
        self.write = signature.types.writer()


def _with_port(process: Callable[..., Any], port: str) -> Convert:
    """Return a function that passes its argument on as a named one."""

    def step(value: Any) -> Any:
        return process(**{port: value})

    return step


class Chain:
    """The members of a chain, and which of them runs.

    Attributes:
        members: all of them, in the order in which a call passes through them.
        stage: the stage of the setup, for error frames.
    """

    def __init__(self, begun: BegunCount, setups: list[dict[str, Any]]) -> None:
        """Create the chain of the members in a setup frame. Nothing is imported yet.

        Args:
            begun: has the number of the running member.
            setups: what the setup frame says of each member.
        """
        self._begun = begun
        self._setups = setups
        self._index = 0  # of the member that is being set up
        self._closes: list[tuple[int, Callable[[], Any]]] = []
        self.members: list[Member] = []
        self.stage = "import"

    def index(self) -> int:
        """Return the index of the member that runs, or ran last."""
        return min(max(self._begun.cell[MEMBER], 1), len(self._setups)) - 1

    def node(self) -> str:
        """Return the id of the member that runs, or ran last."""
        return str(self._setups[self.index()]["node"])

    def since(self) -> float:
        """Return when that member began, by ``time.monotonic``."""
        return float(self._begun.times[SINCE])

    def _enter(self, index: int) -> None:
        self._begun.cell[MEMBER] = index + 1
        self._begun.times[SINCE] = _clock()

    def load(self, base: str) -> None:
        """Import all members, and check them.

        Raises:
            NodeFault: a member does not exist, or does not fit the manifest.
            BaseException: whatever a module raises while it is imported.
        """
        for index, setup in enumerate(self._setups):
            self._enter(index)
            self.stage = "import"
            member = Member(base, setup)
            self.stage = "params"
            member.check()
            self.members.append(member)

    def unfinished(self) -> Iterator[tuple[Signature, dict[str, Any]]]:
        """Yield the signature and the params of each member, which the caller passes to ``add``."""
        self.stage = "setup"
        for index, member in enumerate(self.members):
            self._enter(index)
            self._index = index
            yield member.signature, member.signature.types.built(member.params)

    def add(self, node: Any, most: int, close: Callable[[], Any] | None) -> None:
        """Take the node of the member that ``unfinished`` has yielded last.

        Args:
            node: a function with its params bound, or an object that is set up.
            most: see ``Decoder``.
            close: the node's close method, ``None`` if it has none.
        """
        self.members[self._index].set_up(node, most)
        if close is not None:
            self._closes.append((self._index, close))

    def close(self) -> None:
        """Close all members, the last one first. The first exception is raised at the end."""
        failed: BaseException | None = None
        for index, close in reversed(self._closes):
            self._enter(index)
            try:
                invoker.run(close())
            except BaseException as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def describe(self) -> dict[str, Any]:
        """Return the body of the ready frame."""
        members = [each.signature.describe() for each in self.members]
        last = members[-1]
        of_last = {"returns": last["returns"], "output": last["output"]}
        return members[0] | of_last | {"members": members}


class ChainFinder(Finder):
    """Finds the running call of a chain, with the deadline of the member that runs."""

    def __init__(self, chain: Chain, interrupts: Interrupts, contexts: dict[int, Context]) -> None:
        """Create a finder; see ``Finder``."""
        self._chain = chain
        super().__init__(interrupts, contexts, None, False)

    def _find_on_main_thread(self) -> Running | None:
        call, chain = self._interrupts.call, self._chain
        if not call or _thread.get_ident() != self._main:
            return None
        self.timeout = chain.members[chain.index()].timeout
        return self._of((call,), chain.since())


class Fused(Handler):
    """Serves the calls of a chain.

    Small calls spend their time in ``call``, so every step counts.
    """

    def __init__(self, chain: Chain, *parts: Any) -> None:
        """Create the handler of a chain that is set up; ``parts`` are those of ``Handler``."""
        super().__init__(*parts)
        self._chain = chain
        members = chain.members
        self._alone = [(index + 1, each) for index, each in enumerate(members)]
        self._first = members[0]
        self._last = members[-1]
        self._rest = tuple(
            (index, _link(members[index - 2].write, each.convert), each.step)
            for index, each in self._alone[1:]
        )

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call and answer it; see ``Handler``. The session names a single member."""
        cell, times, interrupts = self._begun.cell, self._begun.times, self._interrupts
        first, last, rest, number = self._first, self._last, self._rest, 1
        if session:
            number, first = self._member(session)
            last, rest = first, ()
        cell[0] += 1
        cell[MEMBER] = number
        times[SINCE] = _clock()
        stage = "decode"
        try:
            args, named = first.decoder.arguments(body, buffers)
            stage = "call"
            try:
                interrupts.resume(call)
                value = first.process(*args, **named)
                del args, named  # shared memory need not wait until the result is sent
                if type(value) in UNRESOLVED:
                    value = self._invoker.resolved(call, value)
                for number, link, step in rest:
                    cell[MEMBER] = number
                    times[SINCE] = _clock()
                    if link is not None:
                        stage = "decode"
                        value = link(value)
                        stage = "call"
                    value = step(value)
                    if type(value) in UNRESOLVED:
                        value = self._invoker.resolved(call, value)
            finally:
                interrupts.call = 0
            stage = "encode"
            self._answers.result(call, value if last.write is None else last.write(value))
        except (Closed, ProtocolError):
            raise
        except BaseException as error:
            self._answers.permanent = self._chain.members[number - 1].signature.options.permanent
            self._answers.fail(call, error, stage)

    def _member(self, session: int) -> tuple[int, Member]:
        """Return the member that a call names, with its number."""
        if session > len(self._alone):
            raise ProtocolError(f"a call of member {session} of a chain of {len(self._alone)}")
        return self._alone[session - 1]


def _link(write: Convert | None, convert: Convert | None) -> Convert | None:
    """Return the function that builds a member's input from what the one before returned.

    Most objects are what a decoder makes of a value, and are converted as they are. Others, such
    as dataclasses, have another form between workers. So they take that, if they do not fit.

    Args:
        write: what the result goes through before it is encoded, ``None`` for nothing.
        convert: builds the input as it is annotated, ``None`` for any value.

    Returns:
        The function, which raises ``ValueFault``; ``None`` if there is nothing to convert.
    """
    if convert is None:
        return None
    encode, decode = Encoder().encode, Decoder(0).decode

    def link(value: Any) -> Any:
        try:
            return convert(value)
        except Mismatch as error:
            try:
                body, buffers = encode(value if write is None else write(value))
                value = decode(body, list(buffers))
            except ValueFault:
                raise ValueFault("input" + error.path, error.reason) from error.__cause__
        try:
            return convert(value)
        except Mismatch as error:
            raise ValueFault("input" + error.path, error.reason) from error.__cause__

    return link
