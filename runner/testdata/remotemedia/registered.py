"""A module that registers nodes of its own, and of a file that it names."""

from pathlib import Path

from remotemedia.nodes import register_python_node, streaming_node


@streaming_node()
class Registered:
    """Registered under its own name."""

    def __init__(self, node_id):
        self.node_id = node_id

    def process(self, data):
        return {"by": self.node_id, "data": data}


register_python_node(str(Path(__file__).parent / "listed.py"), node_type="listed")
