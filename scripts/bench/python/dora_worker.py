"""The working node of the dora peer."""

from __future__ import annotations

import os

import pyarrow as pa
import rounds
from dora import Node


def main() -> None:
    """Answer values until the caller is gone."""
    for name in ("BENCH_REQUESTS", "BENCH_ANSWERS"):
        os.close(int(os.environ[name]))  # only the caller uses them
    node = Node()
    for event in node:
        if event["type"] != "INPUT":
            continue
        value = event["value"]
        if pa.types.is_floating(value.type):
            value = pa.array(rounds.work(value.to_numpy()))
        node.send_output("result", value)


if __name__ == "__main__":
    main()
