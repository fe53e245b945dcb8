"""Page tables that a linear map of all memory takes, computed by what plans the maps: nothing is measured here.

The thread of 2012 feared "over 30G" of them for 16 TB; see docs/scan.md.
"""

from __future__ import annotations

from kdumpd.scan.mapping import NAME, table_bytes
from kdumpd.vmcore.memory import Range

TIB = 1 << 40
SIZES = (1, 4, 16, 64)  # TiB
STRUCTURE, PAGE = 64, 4096  # bytes


def size(octets: int) -> str:
    """Bytes in the largest unit that leaves no fraction of importance."""
    for unit, shift in (("GiB", 30), ("MiB", 20)):
        if octets >= 1 << shift:
            return f"{octets / (1 << shift):.4g} {unit}"
    return f"{octets / 1024:.4g} KiB"


def table(title: str, mapped: dict[int, list[Range]]) -> str:
    """Markdown: the page tables of a map, by machine and largest leaf."""
    leaves = (12, 21, 30)
    lines = [f"### {title}", "", "| memory | " + " | ".join(NAME[leaf] for leaf in leaves) + " |", "|---|---|---|---|"]
    for tebibytes, ranges in mapped.items():
        row = " | ".join(size(table_bytes(ranges, leaf)) for leaf in leaves)
        lines.append(f"| {tebibytes} TiB | {row} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """All memory in one piece from 1 MiB on, and its page structures alone, from the second GiB on."""
    everything = {number: [Range(1 << 20, number * TIB)] for number in SIZES}
    structures = {number: [Range(1 << 30, (1 << 30) + number * TIB // PAGE * STRUCTURE)] for number in SIZES}
    print(table("Page tables of a linear map of all memory (computed)", everything))
    print(table("Page tables of a map of mem_map alone, all of it at once (computed)", structures))


if __name__ == "__main__":
    main()
