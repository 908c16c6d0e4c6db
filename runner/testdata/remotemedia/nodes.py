"""Nodes in the API of RemoteMedia, one of each form. None of them imports gophersnake."""

import asyncio

import numpy as np
from registered import Registered  # noqa: F401 - a module that registers nodes
from remotemedia.core.multiprocessing import (
    MultiprocessNode,
    NodeConfig,
    RuntimeData,
    python_requires,
    register_node,
)
from remotemedia.core.node import Node
from remotemedia.nodes import register_node_class, streaming_node


class Quiet(MultiprocessNode):
    """The methods that MultiprocessNode demands."""

    async def initialize(self) -> None:
        pass

    async def cleanup(self) -> None:
        pass


@register_node("upper")
@python_requires(["numpy>=1.21"])
class Upper(Quiet):
    """A coroutine; the constructor takes the node id alone."""

    def __init__(self, node_id):
        super().__init__({"node_id": node_id, "node_type": "upper", "params": {}})
        self.ready = False

    async def initialize(self) -> None:
        self.publish_progress("loading_model", "half of it")
        self.ready = True

    async def process(self, data):
        return RuntimeData.text(f"{self.node_id} {self.ready} {data.as_text().upper()}")


class Words(Quiet):
    """An async generator; the constructor takes a NodeConfig."""

    def __init__(self, config: NodeConfig, **kwargs):
        super().__init__(config, **kwargs)
        self.separator = self.config["separator"]

    async def process(self, data: RuntimeData):
        for word in data.as_text().split(self.separator):
            await asyncio.sleep(0)
            yield RuntimeData.text(word)
        yield None


class Gain(Quiet):
    """Keyword params with a node id; recordings, whose annotations go on."""

    def __init__(self, node_id: str | None = None, gain: float = 1.0, **kwargs):
        super().__init__({"node_id": node_id, "params": {"gain": gain}}, **kwargs)
        self.gain = gain

    async def process(self, data: RuntimeData) -> RuntimeData:
        made = RuntimeData.audio(
            data.as_numpy() * self.gain, data.metadata.sample_rate, data.metadata.channels
        )
        made.metadata.annotations = data.metadata.annotations
        return made


class Echo(Quiet):
    """Returns RuntimeData of any type."""

    def __init__(self, node_id=None, config=None, **kwargs):
        super().__init__(config=config, **kwargs)
        self.messages = []

    async def process(self, data):
        if data.is_text() and data.as_text() == "messages":
            return RuntimeData.json({"messages": self.messages})
        return data

    async def process_control_message(self, message):
        self.messages.append(message.metadata.segment_id)


class Scale(Node):
    """A plain value; keyword params."""

    def __init__(self, factor: float = 2.0, **kwargs):
        super().__init__(factor=factor, **kwargs)
        self.factor = factor

    def process(self, data):
        return data * self.factor


class Collect(Node):
    """Keeps items back until the stream ends."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.items = []

    def initialize(self) -> None:
        super().initialize()
        self.begun = True

    def process(self, data):
        self.items.append(data)

    def flush(self):
        return {"items": self.items, "begun": self.begun}


class Letters(Node):
    """A sync generator."""

    def process(self, data):
        yield from data


class Pairs(Node):
    """Takes the whole stream; initialize and cleanup are coroutines."""

    async def initialize(self):
        super().initialize()
        self.events = []

    async def cleanup(self):
        super().cleanup()

    async def process(self, data_stream):
        last = None
        async for item in data_stream:
            if item == "boom":
                raise ValueError("no pairs of boom")
            if last is not None:
                yield (last, item)
            last = item
        yield {"left": last}


class Ticks(Node):
    """A source: process has no input."""

    def __init__(self, count=3, **kwargs):
        super().__init__(**kwargs)
        self.count = count

    async def process(self):
        for i in range(self.count):
            yield i


class Remember(Node):
    """The state of the base class, by session id."""

    def process(self, data):
        state = self.get_session_state()
        state.set("count", state.get("count", 0) + 1)
        return state.get("count")


class Swap(Node):
    """Recordings as tuples of an array of shape (channels, frames), rate and metadata."""

    def process(self, data):
        samples, rate, *metadata = data
        return (np.ascontiguousarray(samples[::-1]), rate, *metadata)


class Int16(Node):
    """A recording that is not float32, which must not become one."""

    def process(self, data):
        return ((data[0] * 32767).astype(np.int16), data[1])


@streaming_node(node_type="shout", multi_output=True, category="text")
class Shout:
    """A plain class, registered, whose constructor takes a node id."""

    def __init__(self, node_id: str, mark="!", **kwargs):
        self.node_id, self.mark = node_id, mark

    async def process(self, data):
        yield f"{data}{self.mark}"
        yield self.node_id


class Plain:
    """A plain class with initialize and cleanup, and a coroutine that returns a value."""

    async def initialize(self):
        self.offset = 100

    async def process(self, data):
        await asyncio.sleep(0)
        return data + self.offset

    async def flush(self):
        return "flushed"

    async def cleanup(self):
        self.offset = None


class Direct(Quiet):
    """Registered by a call, under another name."""

    async def process(self, data):
        return RuntimeData.json([data.payload, data.payload])


register_node_class(Direct, node_type="twice")


class Publishes(Quiet):
    """Wants to reach another node, which the adapter cannot do."""

    async def process(self, data):
        self.publish_to_node_port("other", "port", {})


@python_requires(["no-such-package>=1.0"])
class Missing(Quiet):
    """Requires a package that is not there."""

    async def process(self, data):
        return data


class Half(Node):
    """A process that takes a stream and is no async generator."""

    def process(self, data_stream):
        return list(data_stream)
