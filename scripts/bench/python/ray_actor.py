"""Peer: an actor of a local Ray cluster."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any

import rounds

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anyone

import ray  # it reads the environment


@ray.remote
class Actor:
    """The worker."""

    def work(self, value: Any) -> Any:
        """Work on a value."""
        return rounds.work(value)


def main() -> None:
    """Serve the benchmark's requests."""
    ray.init(
        address="local",  # a cluster of its own, whatever the environment says
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=1 << 30,
        log_to_driver=False,
        logging_level=logging.ERROR,
        # The path of its sockets has to be short.
        _temp_dir=os.path.join(tempfile.gettempdir(), "r"),
    )
    try:
        actor = Actor.remote()
        rounds.serve(lambda value: ray.get(actor.work.remote(value)))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
