"""A node whose methods are called by items, which needs the package of RemoteMedia."""

from remotemedia.core.multiprocessing import MultiprocessNode, RuntimeData
from remotemedia.rpc import rpc


class Calls(MultiprocessNode):
    """Has a method of each mode."""

    async def initialize(self):
        self.told = []

    async def cleanup(self):
        pass

    @rpc
    async def tell(self, word):
        self.told.append(word)

    @rpc(reply=True)
    async def add(self, a, b=0):
        return a + b

    @rpc(stream=True)
    async def count(self, to):
        for i in range(to):
            yield i

    async def process(self, data):
        return RuntimeData.json({"told": self.told, "got": data.as_text()})
