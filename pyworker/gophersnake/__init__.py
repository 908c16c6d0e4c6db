"""Write nodes for gophersnake pipelines.

A node is a plain function or class that is declared with ``node``::

    from gophersnake import Audio, node

    @node
    def loudness(audio: Audio, window_ms: float = 20.0) -> dict: ...

    @node(name="Transcriber")
    class Transcriber:
        def __init__(self, language: str = "en"): ...  # params of the manifest
        def setup(self): ...                           # once per worker
        def process(self, audio: Audio): ...           # a value, a generator, or async def
        def close(self): ...

The values of a generator are sent one by one, while it runs. A class that is declared
with ``@node(stateful=True)`` keeps state along a stream::

    @node(stateful=True)
    class Average:
        def begin(self): self.count, self.total = 0, 0.0
        def process(self, value: float): ...           # a value, None for no output, or a generator
        def finish(self): return self.total / self.count
        def snapshot(self): return [self.count, self.total]
        def restore(self, state): self.count, self.total = state

``@node(batch=32, max_wait_ms=5)`` takes the inputs of several calls as one list, and
``@node(concurrency=8)`` limits how many calls of an ``async def`` node, or streams of a
stateful class with ``async def process``, run at once. ``@node(threads=8)`` runs the calls of
a plain ``def`` in threads.

A test needs no supervisor: it calls the function, or the class's methods.

Nodes can take and return: ``None``, ``bool``, integers of 64 bits, ``float``, ``str``,
``bytes``, lists and tuples, dicts with ``str`` keys, instances of dataclasses, attrs and
pydantic's models (as dicts), members of enums (as their values), ``datetime`` with a time
zone, ``date``, ``time``, ``timedelta``, ``UUID``, ``Decimal`` and paths (as text), NumPy
arrays and scalars, any object that supports ``__dlpack__`` or the buffer protocol (a
``memoryview`` is sent as ``bytes``, whatever its format), and the classes of this package.

Inputs and params are built as they are annotated: ``item: Item`` gets the dataclass, not a
dict. One that does not fit fails its call, with an error that names the place. A node whose
annotations are not what it gets is declared with ``@node(types=False)``.

``deadline`` returns how many seconds the running call has left, and ``node_id``, ``call_id``
and ``attempt`` return what the supervisor's log has about it. ``trace_context`` is the parent
of the node's own OpenTelemetry spans.

Large arrays arrive in memory that is shared with the supervisor, and are read-only; copy
them to change them. ``empty`` allocates a large result that is returned without a copy.
"""

from gophersnake.allocation import empty
from gophersnake.context import attempt, call_id, deadline, node_id, trace_context
from gophersnake.errors import Cancelled, Permanent, Transient
from gophersnake.nodes import node
from gophersnake.progress import progress
from gophersnake.values import Audio, Image, Json, Shape, Table, Tensor

__all__ = [
    "Audio",
    "Cancelled",
    "Image",
    "Json",
    "Permanent",
    "Shape",
    "Table",
    "Tensor",
    "Transient",
    "attempt",
    "call_id",
    "deadline",
    "empty",
    "node",
    "node_id",
    "progress",
    "trace_context",
]

__version__ = "0.1.0"
