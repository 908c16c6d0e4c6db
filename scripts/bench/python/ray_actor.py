"""Peer: an actor of a local Ray cluster."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any

import rounds

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no usage reports

import ray  # reads the environment


@ray.remote
class Actor:
    """The worker."""

    def work(self, value: Any) -> Any:
        """Work on a value."""
        return rounds.work(value)


def main() -> None:
    """Serve the benchmark's requests."""
    ray.init(
        address="local",  # a new cluster, also if RAY_ADDRESS is set
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=1 << 30,
        log_to_driver=False,
        logging_level=logging.ERROR,
        # The paths of Unix sockets must be short.
        _temp_dir=os.path.join(tempfile.gettempdir(), "r"),
    )
    try:
        actor = Actor.remote()
        rounds.serve(lambda value: ray.get(actor.work.remote(value)))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
