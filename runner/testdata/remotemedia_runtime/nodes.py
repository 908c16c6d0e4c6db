"""Nodes as RemoteMedia has them, which run in its runtime and in gophersnake without a change."""


class Shout:
    """Return a text in capitals."""

    def __init__(self, mark="!", **kwargs):
        self.mark = mark

    def process(self, data):
        return data.upper() + self.mark


class Describe:
    """Return what an object has."""

    def __init__(self, **kwargs):
        pass

    def process(self, data):
        data = data.get("value", data)  # RemoteMedia wraps the objects of nodes in its process
        return {"keys": sorted(data), "total": sum(v for v in data.values() if type(v) is int)}
