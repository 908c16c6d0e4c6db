"""Runs the instances of a class of RemoteMedia: one for each stream."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

from gophersnake._worker.adapters import DROPPED
from gophersnake._worker.adapters import remotemedia_values as values
from gophersnake._worker.originals import time
from gophersnake.context import node_id
from gophersnake.progress import progress

if TYPE_CHECKING:
    from gophersnake._worker.adapters.remotemedia import Form

EXPIRY = 300.0
"""After how many seconds the expired session states of a node are discarded again."""


class Instance:
    """A node of ours that runs a class of RemoteMedia.

    The worker creates one, the *prototype*, and copies it for each stream. The methods that
    depend on the form of the class are added by ``methods_of``.

    Attributes:
        form: the form of the class.
    """

    form: Form

    def __init__(self, **params: Any) -> None:
        """Create the prototype of the instances, with the params of the manifest."""
        self._params = params
        self._session = values.Session(uuid.uuid4().hex)
        self._prototype = self
        self._host: Any = None  # the object of the class
        self._ready: Instance | None = None  # set up, and not yet taken by a stream
        self._live: set[Instance] = set()  # those that must be cleaned up
        self._made: list[Any] = []  # what the object has sent itself
        self._pump: Pump | None = None
        self._expired = time.monotonic()

    def __copy__(self) -> Instance:
        """Return the instance of a new stream."""
        ready, self._ready = self._ready, None
        if ready is not None:
            return ready
        made = type(self)(**self._params)
        made._prototype = self
        return made

    async def setup(self) -> None:
        """Set the instance of the first stream up."""
        first = self.__copy__()
        await first._start()
        self._ready = first

    async def begin(self) -> None:
        """Begin a stream."""
        if self._host is None:
            await self._start()

    async def close(self) -> None:
        """Clean all instances up, when the worker ends."""
        for each in list(self._live):
            await each._end()

    async def _drop(self) -> None:
        """End a stream without its last values."""
        await self._end()

    async def _start(self) -> None:
        """Construct and initialize the object."""
        form = self.form
        if form.is_multiprocess:
            _prepare_base()
        host = form.construct(node_id() or form.name, self._params, self._session.id)
        self._host = host
        self._prototype._live.add(self)
        self._attach(host)
        try:
            if callable(initialize := getattr(host, "initialize", None)):
                await _awaited(initialize())
        except BaseException:
            await self._end()
            raise
        if self._takes_stream():
            self._pump = Pump(host.process)

    def _attach(self, host: Any) -> None:
        """Connect what an object expects of its runtime."""
        _set(host, "_send_output", self._send_output)
        _set(host, "_send_end_of_input", _nothing)
        if callable(set_session := getattr(host, "set_session_id", None)):
            set_session(self._session.id)
        if hasattr(getattr(host, "state", None), "start_cleanup_task"):
            # Its thread would outlive the stream by minutes; _expire does the same.
            _set(host.state, "start_cleanup_task", lambda *given, **named: None)
        logger = getattr(host, "logger", None)
        if isinstance(logger, logging.Logger):
            for handler in [h for h in logger.handlers if type(h) is logging.StreamHandler]:
                logger.removeHandler(handler)  # the worker sends the records already

    def _takes_stream(self) -> bool:
        form = self.form
        if form.takes_stream:
            return True
        plain_node = form.is_node and not form.takes_runtime_data and form.is_generator
        streams = bool(getattr(self._host, "is_streaming", False)) and bool(form.parameters)
        source = bool(getattr(self._host, "is_source", False))
        return plain_node and streams and not source

    async def _end(self) -> None:
        """Clean the object up, once."""
        if self not in self._prototype._live:
            return
        self._prototype._live.discard(self)
        if self._pump is not None:
            await self._pump.stop()
        try:
            if callable(cleanup := getattr(self._host, "cleanup", None)):
                await _awaited(cleanup())
        except Exception:  # the values of the stream are complete, as far as they could be
            logging.getLogger("gophersnake").exception("%s.cleanup raised", self.form.name)

    async def _flushed(self) -> list[Any]:
        """Return what the object had kept back until the end of its stream."""
        if callable(flush := getattr(self._host, "flush", None)):
            made = await _gathered(flush())
            return self._take_sent() + self._as_sent(made)
        return self._take_sent()

    # Values.

    def _arguments(
        self, given: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of ``process`` for those that have arrived."""
        self._expire()
        first = self.form.parameters[0] if self.form.parameters else None
        is_nothing = len(given) == 1 and given[0] is None
        if is_nothing and first is not None and first.default is not first.empty:
            given = ()  # a source: nothing was sent
        return (
            tuple(self._received(each) for each in given),
            {name: self._received(each) for name, each in named.items()},
        )

    def _received(self, value: Any) -> Any:
        session = self._session.id
        if type(value) is dict and values.KIND in value:
            session = value.get("session_id") or session
        if callable(set_session := getattr(self._host, "set_session_id", None)):
            set_session(session)
        if self.form.takes_runtime_data or self._is_control(value):
            return values.for_runtime(value, self._session)
        return values.for_plain(value)

    def _is_control(self, value: Any) -> bool:
        is_control = type(value) is dict and value.get(values.KIND) == "control"
        return is_control and hasattr(self._host, "process_control_message")

    def _as_sent(self, made: list[Any]) -> list[Any]:
        return [values.sent(each, self._session) for each in made if each is not None]

    async def _send_output(self, value: Any) -> None:
        """Send a value that the object sends itself, with the next one that is sent."""
        self._made += self._as_sent([value])

    def _take_sent(self) -> list[Any]:
        made, self._made = self._made, []
        return made

    def _expire(self) -> None:
        """Let the object discard its expired session states, every few minutes."""
        now = time.monotonic()
        if now - self._expired > EXPIRY:
            self._expired = now
            state = getattr(self._host, "state", None)
            if callable(expire := getattr(state, "cleanup_expired_sessions", None)):
                expire()

    # Calls.

    def _call(self, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Serve an item on the main thread: return a value, or a generator of values."""
        args, named = self._arguments(given, named)
        if args and self._is_control_message(args[0]):
            return self._control(args[0])
        made = self._host.process(*args, **named)
        if inspect.isgenerator(made):
            return self._each(made)
        if inspect.isawaitable(made) or inspect.isasyncgen(made):  # behind a decorator
            return self._feed_made(made)
        return values.sent(made, self._session)

    def _each(self, made: Generator[Any, Any, Any]) -> Generator[Any, Any, None]:
        try:
            for value in made:
                if value is not None:
                    yield values.sent(value, self._session)
        finally:
            made.close()

    async def _feed(self, given: tuple[Any, ...], named: dict[str, Any]) -> AsyncGenerator[Any]:
        """Serve an item on the event loop, and yield the values."""
        args, named = self._arguments(given, named)
        if args and self._is_control_message(args[0]):
            made: Any = self._control(args[0])
        elif self._pump is not None:
            made = self._pump.feed(*args, **named)
        elif self.form.is_multiprocess and await self._dispatched(args):
            made = None
        else:
            made = self._host.process(*args, **named)
        async for value in self._feed_made(made):
            yield value

    async def _feed_made(self, made: Any) -> AsyncGenerator[Any]:
        """Yield the values of what ``process`` has returned."""
        if inspect.isasyncgen(made):
            try:
                async for value in made:
                    for each in self._take_sent() + self._as_sent([value]):
                        yield each
            finally:
                await made.aclose()
        else:
            for value in await _gathered(made):
                for each in self._take_sent() + self._as_sent([value]):
                    yield each
        for each in self._take_sent():
            yield each

    def _is_control_message(self, value: Any) -> bool:
        is_control = getattr(value, "is_control_message", None)
        return is_control is not None and bool(is_control())

    async def _control(self, message: Any) -> None:
        """Pass a control message to the object; its exceptions are those of the call."""
        if callable(handle := getattr(self._host, "process_control_message", None)):
            await _awaited(handle(message))
        else:
            logging.getLogger("gophersnake").debug(
                "%s ignores control messages: it has no process_control_message", self.form.name
            )

    async def _dispatched(self, args: tuple[Any, ...]) -> bool:
        """Return whether an item was a call of one of the object's ``rpc`` methods."""
        dispatch = getattr(self._host, "_dispatch_aux_frame", None)
        if not args or dispatch is None:
            return False
        found = await dispatch(args[0])
        if found == "stream":
            streams = getattr(self._host, "_inflight_streams", {})
            await asyncio.gather(*list(streams.values()), return_exceptions=True)
        return bool(found)


class Pump:
    """Runs a ``process`` that takes a stream, and passes it one item after another.

    When the code asks for the next item it is done with the previous one.
    """

    def __init__(self, process: Callable[..., AsyncGenerator[Any]]) -> None:
        """Create the pump of a stream; the code starts with the first item."""
        self._process = process
        self._inputs: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue(1)
        self._events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(1)
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._error: BaseException | None = None

    async def feed(self, *item: Any, **named: Any) -> AsyncGenerator[Any]:
        """Pass an item to the code, and yield what it makes of it."""
        if self._error is not None:
            raise self._error  # a generator that has raised is over
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(named))
            async for value in self._until_asked():
                yield value
        if self._ended:
            logging.getLogger("gophersnake").debug("process has ended, and ignores an item")
            return
        await self._inputs.put(item)
        done = False
        try:
            async for value in self._until_asked():
                yield value
            done = True
        finally:
            if not done:
                await self.stop()

    async def finish(self) -> AsyncGenerator[Any]:
        """End the stream, and yield what the code makes of that."""
        if self._task is None or self._ended:
            return
        await self._inputs.put(())
        async for value in self._until_asked():
            yield value

    async def stop(self) -> None:
        """End the code without its last values."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._ended = True

    async def _until_asked(self) -> AsyncGenerator[Any]:
        """Yield what the code makes until it asks for the next item, or ends."""
        while not self._ended:
            kind, value = await self._events.get()
            if kind == "made":
                yield value
            elif kind == "asked":
                return
            else:
                self._ended, self._error = True, value
                if value is not None:
                    raise value

    async def _items(self) -> AsyncGenerator[Any]:
        while True:
            await self._events.put(("asked", None))
            item = await self._inputs.get()
            if not item:
                return
            yield item[0]

    async def _run(self, named: dict[str, Any]) -> None:
        error: BaseException | None = None
        items = self._items()
        made = self._process(items, **named)
        try:
            async for value in made:
                await self._events.put(("made", value))
        except asyncio.CancelledError:
            raise
        except BaseException as raised:
            error = raised
        finally:
            await made.aclose()
        await self._events.put(("ended", error))


def methods_of(form: Form) -> dict[str, Any]:
    """Return the methods of an ``Instance`` that depend on the form of its class."""
    if form.is_async:

        async def process(self: Any, *given: Any, **named: Any) -> AsyncGenerator[Any]:
            async for value in self._feed(given, named):
                yield value

        async def finish(self: Any) -> AsyncGenerator[Any]:
            try:
                if self._pump is not None:
                    async for value in self._feed_made(self._pump.finish()):
                        yield value
                else:
                    for value in await self._flushed():
                        yield value
            finally:
                await self._end()

        methods: dict[str, Any] = {"process": process, "finish": finish}
    else:

        def process_now(self: Any, *given: Any, **named: Any) -> Any:
            return self._call(given, named)

        async def finish_now(self: Any) -> AsyncGenerator[Any]:
            try:
                for value in await self._flushed():
                    yield value
            finally:
                await self._end()

        methods = {"process": process_now, "finish": finish_now}
    myself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    returns = inspect.signature(form.target.process).return_annotation  # type: ignore[attr-defined]
    methods["process"].__signature__ = inspect.Signature(
        [myself, *(p.replace(annotation=_shown(p.annotation)) for p in form.parameters)],
        return_annotation=_shown(returns),
    )
    return methods | {"form": form, DROPPED: Instance._drop}


def _shown(annotation: Any) -> Any:
    """Return an annotation as descriptions show it, without the package's long names."""
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return annotation
    return inspect.formatannotation(annotation).replace(values.DATA + ".", "")


async def _awaited(made: Any) -> Any:
    return await made if inspect.isawaitable(made) else made


async def _gathered(made: Any) -> list[Any]:
    """Return the values that code of any form has made."""
    if inspect.isasyncgen(made):
        return [each async for each in made]
    if inspect.isgenerator(made):
        return list(made)
    return [await _awaited(made)]


async def _nothing(*given: Any) -> None:
    return None


def _set(target: Any, name: str, value: Any) -> None:
    """Set an attribute, unless the class allows none."""
    try:
        setattr(target, name, value)
    except AttributeError:
        pass


@functools.cache
def _prepare_base() -> None:
    """Connect the package's base class to the worker."""
    base = importlib.import_module("remotemedia.core.multiprocessing.node").MultiprocessNode

    def publish_progress(self: Any, status: str, message: str) -> None:
        progress(f"{status}: {message}" if status else message)

    def publish_to_node_port(self: Any, target_node: str, port: str, payload: Any) -> None:
        raise values.refused(
            f"publish_to_node_port({target_node!r}, {port!r}) cannot reach another node",
            "connect the two nodes, and return the payload",
        )

    base.publish_progress = publish_progress
    base.publish_to_node_port = publish_to_node_port
