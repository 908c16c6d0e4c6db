"""Peer of the section serve: Ray Serve, one replica; its argument is the port."""

from __future__ import annotations

import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=32)
class Echo:
    """Returns what it is given."""

    async def __call__(self, request: Request) -> Any:
        """Return the value unchanged."""
        return await request.json()


if __name__ == "__main__":
    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False, logging_level="error")
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
        logging_config={"enable_access_log": False},
    )
    serve.run(Echo.bind())
    signal.pause()
