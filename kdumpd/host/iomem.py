"""The lines of /proc/iomem, and the reservation for a crash kernel that it tells of. Pure.

Called by `host.facts`, `policy.ranges` and `rehearse.numbers`. May import the standard library alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE = re.compile(r"( *)([0-9a-f]+)-([0-9a-f]+) : (.+)")
CRASH_KERNEL = "Crash kernel"


class Resource(NamedTuple):
    """The bytes from `start` up to and without `end`; `nested` where they lie in a resource of a line before."""

    start: int
    end: int
    name: str
    nested: bool


def resources(text: str) -> Iterator[Resource]:
    """Each line in order; readers without privilege see 0 to 1 everywhere."""
    for match in map(_LINE.fullmatch, text.splitlines()):
        if match:
            yield Resource(int(match[2], 16), int(match[3], 16) + 1, match[4], bool(match[1]))


def ranges_named(text: str, name: str) -> tuple[tuple[int, int], ...]:
    """Physical byte ranges (start, end) that /proc/iomem lists under a name; none for readers without privilege."""
    return tuple((found.start, found.end) for found in resources(text) if found.name == name and found.end > 1)


def total(ranges: tuple[tuple[int, int], ...]) -> int:
    """Bytes in these ranges."""
    return sum(end - start for start, end in ranges)
