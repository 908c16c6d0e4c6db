"""The server of the mosec peer: one worker behind HTTP, with msgpack bodies."""

from __future__ import annotations

from typing import Any

import numpy as np
import rounds
from mosec import Server, Worker
from mosec.mixin import MsgpackMixin


class Echo(MsgpackMixin, Worker):
    """The worker. It gets an array as a map of dtype, shape and bytes."""

    def forward(self, data: Any) -> Any:
        """Work on a value."""
        if not isinstance(data, dict) or "bytes" not in data:
            return rounds.work(data)
        array = np.frombuffer(data["bytes"], data["dtype"]).reshape(data["shape"])
        return {**data, "bytes": rounds.work(array).data}


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo, num=1)
    server.run()
