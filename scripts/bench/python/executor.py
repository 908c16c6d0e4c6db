"""Peer: a ProcessPoolExecutor with one worker."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import Any

import rounds


def echo(value: Any) -> Any:
    """Return the value, in the worker."""
    return rounds.again(value)


def main() -> None:
    """Serve the benchmark's requests."""
    with ProcessPoolExecutor(max_workers=1) as executor:
        rounds.serve(lambda value: executor.submit(echo, value).result())


if __name__ == "__main__":
    main()
