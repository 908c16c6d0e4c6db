"""Nodes of RemoteMedia's API, which run in a process of their own in both systems."""

from remotemedia.core.multiprocessing import MultiprocessNode, RuntimeData, register_node


class Node(MultiprocessNode):
    """The constructor that RemoteMedia's runner calls."""

    def __init__(self, node_id=None, config=None, **more):
        known = {"node_id": node_id, "node_type": type(self).__name__, "params": {}}
        super().__init__(config=config or known, **more)

    async def initialize(self):
        self.count = 0

    async def cleanup(self):
        pass


@register_node("api.Numbered")
class Numbered(Node):
    """Return a text with its number."""

    async def process(self, data):
        self.count += 1
        return RuntimeData.text(f"{self.count}. {data.as_text()}")


@register_node("api.Words")
class Words(Node):
    """Yield the words of a text."""

    async def process(self, data):
        for word in data.as_text().split():
            yield RuntimeData.text(word)
