"""Peer: a worker that mosec serves over HTTP, called with httpx over one connection."""

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


def free_port() -> int:
    """Return a local port that is not in use."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main() -> None:
    """Serve the benchmark's requests."""
    port = free_port()
    command = [sys.executable, os.path.join(os.path.dirname(__file__), "mosec_server.py")]
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
    main()
