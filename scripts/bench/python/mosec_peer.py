"""Peer: a worker that mosec serves over HTTP, called with httpx over one connection.

    python mosec_peer.py               start the server, and call it
    python mosec_peer.py serve ...     be the server, with mosec's own options

Bodies are msgpack.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import httpx
import msgpack
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


def serve() -> None:
    """Run mosec's server."""
    server = Server()
    server.append_worker(Echo, num=1)
    server.run()


def free_port() -> int:
    """Return a local port that is not in use."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main() -> None:
    """Serve the benchmark's requests."""
    port = free_port()
    command = [sys.executable, os.path.abspath(__file__), "serve"]
    options = {
        "address": "127.0.0.1",
        "port": str(port),
        "timeout": "60000",  # ms
        "max-request-size": str(1 << 30),  # the default is 10 MiB
        "log-level": "error",
    }
    for name, value in options.items():
        command += [f"--{name}", value]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        timeout=60,
        trust_env=False,  # no proxy
        transport=httpx.HTTPTransport(retries=8),  # the server may not listen yet
    )

    def post(value: Any) -> Any:
        response = client.post("/inference", content=msgpack.packb(value))
        response.raise_for_status()
        return msgpack.unpackb(response.content)

    def call(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return post(value)
        result = post({"dtype": value.dtype.str, "shape": value.shape, "bytes": value.data})
        return np.frombuffer(result["bytes"], result["dtype"]).reshape(result["shape"])

    try:
        rounds.serve(call)
    finally:
        client.close()
        server.terminate()
        server.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        del sys.argv[1]  # mosec parses the rest
        serve()
    else:
        main()
