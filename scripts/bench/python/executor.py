"""Peer: a ProcessPoolExecutor with one worker."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import Any

import rounds


def work(value: Any) -> Any:
    """Work on a value, in the worker process."""
    return rounds.work(value)


def main() -> None:
    """Serve the benchmark's requests."""
    with ProcessPoolExecutor(max_workers=1) as executor:
        rounds.serve(lambda value: executor.submit(work, value).result())


if __name__ == "__main__":
    main()
