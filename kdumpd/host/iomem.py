"""The reservation for a crash kernel, as /proc/iomem tells it. Pure.

Called by `host.facts`. May import `errors` alone.
"""

from __future__ import annotations

import re

_LINE = re.compile(r"^\s*([0-9a-f]+)-([0-9a-f]+) : (.*)$")
CRASH_KERNEL = "Crash kernel"


def ranges_named(text: str, name: str) -> tuple[tuple[int, int], ...]:
    """Physical byte ranges (start, end) that /proc/iomem lists under a name; readers without privilege see zeros."""
    found = (match for match in map(_LINE.match, text.splitlines()) if match and match[3] == name)
    ranges = ((int(match[1], 16), int(match[2], 16) + 1) for match in found)
    return tuple((start, end) for start, end in ranges if end > 1)


def total(ranges: tuple[tuple[int, int], ...]) -> int:
    """Bytes in these ranges."""
    return sum(end - start for start, end in ranges)
