"""`python -m bench.picture [FILE]`: docs/scan.svg, drawn from what `python -m bench mapping` measured last.

Needs matplotlib, which nothing else here does: `pip install matplotlib`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from bench.mapping import KEPT, PEER

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "kdumpd"
COLOURS = {PEER: "#9a9a9a", "user engine": "#d08c3c", "page": "#c44e52"}
OURS = "#3c78b4"


def draw(path: Path) -> None:
    """One row of bars a guest, one bar a way: nanoseconds for each page of the machine, on a logarithmic scale."""
    kept: dict[str, dict[str, dict[str, float]]] = json.loads(KEPT.read_text())
    figure, rows = pyplot.subplots(len(kept), 1, figsize=(8, 2.3 * len(kept)), sharex=True, layout="constrained")
    for row, (title, by_processors) in zip(rows, kept.items(), strict=True):
        ways = by_processors["1"]
        names = list(reversed(ways))
        bars = row.barh(names, [ways[name] for name in names], color=[COLOURS.get(name, OURS) for name in names])
        row.bar_label(bars, [f"{ways[name]:.1f}" for name in names], padding=3, fontsize=8)
        row.set_title(title, loc="left", fontsize=10)
        row.set_xscale("log")
        row.tick_params(labelsize=8)
        row.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xlabel("nanoseconds for each page of the machine, one processor, QEMU without KVM")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/scan.svg"))
