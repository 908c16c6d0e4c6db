"""Peer: a dataflow of two nodes of dora-rs.

    python dora_peer.py            execute dora run, which starts the two nodes
    python dora_peer.py caller     the calling node: it sends a value and waits for the result
    python dora_peer.py worker     the working node

The caller node answers the benchmark's requests. Since dora redirects the standard streams
of its nodes, the caller gets the standard input and output of the first program as two
other descriptors, whose numbers are in the environment.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import rounds
from dora import Node

STREAMS = ("BENCH_REQUESTS", "BENCH_ANSWERS")
"""The variables with the descriptors of the requests and the answers."""


def run_dataflow() -> None:
    """Replace this process by dora run."""
    for descriptor, variable in enumerate(STREAMS):
        copy = os.dup(descriptor)
        os.set_inheritable(copy, True)
        os.environ[variable] = str(copy)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    os.execvp("dora", ["dora", "run", "--log-level", "error", "dora.yaml"])


def run_caller() -> None:
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

    requests, answers = (int(os.environ[variable]) for variable in STREAMS)
    rounds.serve(call, os.fdopen(requests), os.fdopen(answers, "w"))


def run_worker() -> None:
    """Answer values until the caller is gone."""
    for variable in STREAMS:
        os.close(int(os.environ[variable]))  # only the caller uses them
    node = Node()
    for event in node:
        if event["type"] != "INPUT":
            continue
        value = event["value"]
        if pa.types.is_floating(value.type):
            value = pa.array(rounds.work(value.to_numpy()))
        node.send_output("result", value)


if __name__ == "__main__":
    {"": run_dataflow, "caller": run_caller, "worker": run_worker}["".join(sys.argv[1:])]()
