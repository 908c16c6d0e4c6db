"""Peer of the jobs: tasks of a local Ray cluster."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any

import jobs

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no usage reports

import ray  # reads the environment


@ray.remote
def echo(value: Any) -> Any:
    """Return the value unchanged."""
    return value


def run(value: Any, count: int) -> list[Any]:
    """Submit tasks and return their results."""
    return ray.get([echo.remote(value) for _ in range(count)])


def main() -> None:
    """Serve the benchmark's requests."""
    ray.init(
        address="local",  # a new cluster, also if RAY_ADDRESS is set
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=1 << 28,
        log_to_driver=False,
        logging_level=logging.ERROR,
        # The paths of Unix sockets must be short.
        _temp_dir=os.path.join(tempfile.gettempdir(), "rt"),
    )
    try:
        jobs.serve(run)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
