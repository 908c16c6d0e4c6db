"""Draws the figures of a run: the time of each peer, relative to gophersnake, and the curves.

    python plot.py FIGURES.json FILE.svg FILE.png …

Each peer is a line over the payloads, on a logarithmic scale. A peer below 1 is faster
than gophersnake. A curve is a table whose values depend on a number. It is drawn in a small
plot of its own on logarithmic scales, so that a power is a straight line.
"""

from __future__ import annotations

import json
import math
import os
import sys
import textwrap
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no window
mpl.rcParams["svg.hashsalt"] = "gophersnake"  # equal figures give equal files

from matplotlib import pyplot, ticker  # noqa: E402 - after the choice of a backend

OWN = {"gophersnake": "-", "gophersnake-shared": "--"}
"""The peers that are drawn in black, with their line styles."""

NOTHING = float("nan")
"""The value that interrupts a line."""


COLUMNS = 3
"""How many curves are drawn side by side."""


def draw(report: dict[str, Any]) -> Any:
    """Return the figure of a report: the calls above the curves, whichever it has."""
    curves = [table for table in report["tables"] or [] if table.get("curve")]
    calls = bool(report["rows"])
    lines = math.ceil(len(curves) / COLUMNS)
    heights = [5.5] * calls + [2.8 * lines] * bool(curves)
    figure = pyplot.figure(figsize=(9, sum(heights)), layout="constrained")
    parts = iter(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).flat)
    if calls:
        draw_calls(next(parts), report)
    if curves:
        part = next(parts)
        for axes, table in zip(
            part.subplots(lines, COLUMNS, squeeze=False).flat, curves, strict=False
        ):
            draw_curve(axes, table)
        for axes in part.axes[len(curves) :]:
            axes.remove()
        if not calls:
            part.supxlabel(machine(report), fontsize="small")
    return figure


def draw_curve(axes: Any, table: dict[str, Any]) -> None:
    """Draw the values of a table over its numbers, and the power that fits them best."""
    curve = table["curve"]
    at = curve["at"]
    values = [each["value"] for each in table["figures"]]
    axes.loglog(at, values, "ko-", markersize=3, linewidth=1)
    middle = math.exp(sum(math.log(value) for value in values) / len(values))
    center = math.exp(sum(math.log(n) for n in at) / len(at))
    fitted = [middle * (n / center) ** curve["exponent"] for n in (at[0], at[-1])]
    axes.loglog([at[0], at[-1]], fitted, "--", color="gray", linewidth=1)
    axes.set_ylim(min(values) / 3, max(values) * 3)
    axes.set_title(textwrap.fill(table["title"], 36), fontsize="x-small")
    axes.set_xlabel(curve["x"], fontsize="x-small")
    axes.set_ylabel(table["unit"], fontsize="x-small")
    axes.tick_params(labelsize="x-small")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(ticker.NullFormatter())
    axes.grid(which="major", alpha=0.4)


def machine(report: dict[str, Any]) -> str:
    """Return the machine on which a report was made."""
    versions = f"Go {report['go']}, Python {report['python']}, {report['platform']}"
    return f"{versions}, {report['cpus']} CPUs"


def draw_calls(figure: Any, report: dict[str, Any]) -> None:
    """Draw the time of a call of each peer over the payloads."""
    rows = report["rows"]
    payloads = list(dict.fromkeys(row["payload"] for row in rows))
    axes = figure.subplots()
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
    axes.set_xlabel(f"payload\n{machine(report)}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)


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
