"""A file that another one names."""

from remotemedia.core.multiprocessing import MultiprocessNode, RuntimeData


class Listed(MultiprocessNode):
    """Registered with its file."""

    async def initialize(self):
        self.prefix = self.config.get("prefix", "")

    async def cleanup(self):
        pass

    async def process(self, data):
        return RuntimeData.text(self.prefix + data.as_text())
