"""Draws the figures of a run: the time of each peer, relative to gophersnake.

    python plot.py FIGURES.json FILE.svg FILE.png …

Each peer is a line over the payloads, on a logarithmic scale. A peer below 1 is faster
than gophersnake.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no window
mpl.rcParams["svg.hashsalt"] = "gophersnake"  # equal figures give equal files

from matplotlib import pyplot  # noqa: E402 - after the choice of a backend

OWN = {"gophersnake": "-", "gophersnake-shared": "--"}
"""The peers that are drawn in black, with their line styles."""

NOTHING = float("nan")
"""The value that interrupts a line."""


def draw(report: dict[str, Any]) -> Any:
    """Return the figure of a report."""
    rows = report["rows"]
    payloads = list(dict.fromkeys(row["payload"] for row in rows))
    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    peers = dict.fromkeys(row["peer"] for row in rows)
    for peer in sorted(peers, key=lambda peer: peer not in OWN):
        ratios = {
            row["payload"]: row.get("ratio_to_gophersnake", NOTHING)
            for row in rows
            if row["peer"] == peer
        }
        positions, values = [], []
        for position, payload in enumerate(payloads):
            if payload.endswith("-bytes"):  # not an array: no line to it
                positions.append(position)
                values.append(NOTHING)
            positions.append(position)
            values.append(ratios.get(payload, NOTHING))
        color = "black" if peer in OWN else None
        axes.plot(positions, values, OWN.get(peer, "-"), marker="o", label=peer, color=color)
    axes.set_xticks(range(len(payloads)), payloads)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.grid(axis="y", which="major", alpha=0.4)
    axes.set_ylabel("time of a call ÷ gophersnake")
    axes.set_title("A call to Python and back, one at a time: less is faster")
    machine = f"Go {report['go']}, Python {report['python']}, {report['platform']}"
    axes.set_xlabel(f"payload\n{machine}, {report['cpus']} CPUs")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def main(source: str, *targets: str) -> None:
    """Draw the figures of a file to the target files, each of them atomically."""
    with open(source, encoding="utf-8") as file:
        figure = draw(json.load(file))
    for target in targets:
        folder, name = os.path.split(target)
        temporary = os.path.join(folder, f".{os.getpid()}-{name}")
        metadata = {"Date": None} if name.endswith(".svg") else None
        figure.savefig(temporary, dpi=144, metadata=metadata)
        os.replace(temporary, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
