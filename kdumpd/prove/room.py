"""Whether a dump fits: a rough need from the kernel's own counters, held against what is free. Pure.

Called by `prove.proof`. May import `policy.model`.
"""

from __future__ import annotations

import re

from kdumpd.policy.model import CompressionKind, DumpPolicy, PageKind

_RATIO = 0.5  # of what is kept, compressed: kernel pages come to 0.4 of their size


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo in bytes, by name."""
    found = re.findall(r"^([^:\s]+):\s+(\d+)( kB)?$", text, re.MULTILINE)
    return {name: int(number) * (1024 if unit else 1) for name, number, unit in found}


def rough_need(meminfo: dict[str, int], dump: DumpPolicy) -> int:
    """About how many bytes a dump of this machine takes now: all memory less what the level leaves out."""

    def of(*names: str) -> int:
        return sum(meminfo.get(name, 0) for name in names)

    kept = of("MemTotal")
    if PageKind.FREE in dump.level:
        kept -= of("MemFree")
    if PageKind.USER in dump.level:
        kept -= of("AnonPages", "Hugetlb")
    if PageKind.CACHE in dump.level:
        kept -= of("Cached", "SwapCached")
    if PageKind.CACHE_PRIVATE in dump.level:
        kept -= of("Buffers")
    ratio = 1.0 if dump.compression.kind is CompressionKind.NONE else _RATIO
    return int(max(0, kept) * ratio)


def judged(free: int, min_free: int, need: int) -> tuple[bool, str]:
    """Whether there is room, and in one line what speaks against it; a need that is rough only warns."""
    if free <= min_free:
        return False, (
            f"{_size(free)} free, and retention.min_free keeps {_size(min_free)}: no dump can be written; "
            "make room there, or lower min_free"
        )
    if free - min_free < need:
        return True, (
            f"{_size(free)} free less min_free {_size(min_free)} may be too little: a dump takes about {_size(need)} "
            "now; make room there"
        )
    return True, ""


def _size(number: int) -> str:
    return f"{number / (1 << 30):.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):.0f} MiB"
