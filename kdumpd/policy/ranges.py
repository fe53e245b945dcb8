"""Ranges of physical memory, half-open (start, end) in bytes: joined, cut, and read from /proc/iomem.

Pure. Called by `policy.memmap` and `policy.premap`. May import `host.iomem` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kdumpd.host import iomem

ByteRange = tuple[int, int]


def merged(ranges: Iterable[ByteRange]) -> tuple[ByteRange, ...]:
    """The ranges sorted, those that touch or overlap made one."""
    found: list[ByteRange] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def without(ranges: Iterable[ByteRange], cut: Iterable[ByteRange]) -> tuple[ByteRange, ...]:
    """What of the ranges lies in none of `cut`, merged."""
    holes = merged(cut)
    found: list[ByteRange] = []
    for start, end in merged(ranges):
        for low, high in holes:
            if low < end and start < high:
                if start < low:
                    found.append((start, low))
                start = min(high, end)
        if start < end:
            found.append((start, end))
    return tuple(found)


def common(one: Iterable[ByteRange], other: Iterable[ByteRange]) -> tuple[ByteRange, ...]:
    """What lies in both, merged."""
    one = merged(one)
    return without(one, without(one, other))


def shown(ranges: Iterable[ByteRange], between: str) -> str:
    """The ranges as people read them."""
    return between.join(f"{start:#x}-{end:#x}" for start, end in ranges)


def resources(text: str) -> dict[str, list[ByteRange]]:
    """The ranges of each name in the text of /proc/iomem; names are `folded`."""
    named: dict[str, list[ByteRange]] = {}
    for found in iomem.resources(text):
        named.setdefault(folded(found.name), []).append((found.start, found.end))
    return named


def are_hidden(named: dict[str, list[ByteRange]]) -> bool:
    """Whether the kernel shows no addresses, as it does to all but root."""
    return bool(named) and all(found == (0, 1) for ranges in named.values() for found in ranges)


def folded(name: str) -> str:
    """A resource's name with case and separators made alike: `System RAM`, `system_ram` and `system-ram` are one."""
    return re.sub(r"[\s_-]+", "-", name.strip().lower())
