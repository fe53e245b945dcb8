"""Side-by-side rounds: two or more ways of doing the same, in turn, and the medians and ratios of what they took.

Machines are shared and noisy: only ratios of one run are quoted, never a time alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Taken(NamedTuple):
    """What one way took: seconds of each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.seconds)


def in_turn(ways: Mapping[str, Callable[[], float]], rounds: int = 5) -> dict[str, Taken]:
    """Run every way once uncounted, then `rounds` times in turn; each returns the seconds it took."""
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(way())
    return {name: Taken(tuple(seconds)) for name, seconds in taken.items()}


def ratio(taken: Mapping[str, Taken], of: str, to: str) -> float:
    """The median of the ratios round by round, which holds when the machine's speed drifts."""
    return statistics.median(a / b for a, b in zip(taken[of].seconds, taken[to].seconds, strict=True))


def table(title: str, taken: Mapping[str, Taken], yardstick: str) -> str:
    """A Markdown table of medians and of the ratios to `yardstick`."""
    lines = [f"### {title}", "", "| way | median, s | min to max | ratio to " + yardstick + " |", "|---|---|---|---|"]
    for name, one in taken.items():
        spread = f"{min(one.seconds):.4f} to {max(one.seconds):.4f}"
        lines.append(f"| {name} | {one.median:.4f} | {spread} | {ratio(taken, name, yardstick):.2f} |")
    return "\n".join([*lines, ""])
