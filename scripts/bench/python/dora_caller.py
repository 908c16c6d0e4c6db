"""The calling node of the dora peer: it sends a value and waits for the result."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa
import rounds
from dora import Node


def main() -> None:
    """Serve the benchmark's requests."""
    node = Node()

    def send(value: Any) -> pa.Array:
        node.send_output("value", value)
        event = node.next()
        if event is None or event["type"] != "INPUT":
            raise RuntimeError(f"the worker is gone: {event}")
        return event["value"]

    def call(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return send(pa.array(value)).to_numpy()
        if isinstance(value, bytes):
            return send(value).to_numpy().tobytes()
        return send(pa.array([value])).to_pylist()[0]

    requests = os.fdopen(int(os.environ["BENCH_REQUESTS"]))
    answers = os.fdopen(int(os.environ["BENCH_ANSWERS"]), "w")
    rounds.serve(call, requests, answers)


if __name__ == "__main__":
    main()
