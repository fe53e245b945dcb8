"""What an engine hands back: bitmap 2 as a stream of windows, and how many pages of each kind it left out.

Every engine is a function `(core, level, hands_off, sink, progress) -> PageCounts`. Called by `capture.save`.
May import `vmcore` and `policy.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from kdumpd.vmcore.memory import Range


class PageCounts(NamedTuple):
    """Pages of the crashed kernel; `total` is what the vmcore holds, and the rest sums up to it.

    `examined` is how many page structures were really looked at, `warnings` what a person should know, a line each.
    """

    total: int
    kept: int
    cache: int = 0
    cache_private: int = 0
    user: int = 0
    free: int = 0
    hwpoison: int = 0
    offline: int = 0
    hands_off: int = 0
    examined: int = 0
    warnings: tuple[str, ...] = ()


class BitmapSink(Protocol):
    """Takes bitmap 2 from pfn 0 upwards, least significant bit first as KDUMP wants it."""

    def write(self, bits: bytes) -> None:
        """Append the bits of the next `8 * len(bits)` page frames."""


Progress = Callable[[int, int], None]  # (page frames done, page frames in all)


class Interval(NamedTuple):
    """Page frames from `start` up to and without `end`."""

    start: int
    end: int


def present_pages(ranges: Iterable[Range], page_size: int) -> tuple[Interval, ...]:
    """The page frames with at least a byte in the ascending `ranges`, merged and ascending."""
    merged: list[Interval] = []
    for physical in ranges:
        start, end = physical.start // page_size, -(-physical.end // page_size)
        if merged and start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(end, merged[-1].end))
        elif start < end:
            merged.append(Interval(start, end))
    return tuple(merged)


def bad_orders_warning(blocks: int) -> str:
    """The line about free blocks whose order was not believed."""
    return f"{blocks} free blocks have an impossible order and are kept"


def gaps_warning(parts: int) -> str:
    """The line about what `vmcore.mem_map` left out for damage."""
    return f"some pages are kept: parts of mem_map that cannot be found: {parts}"
