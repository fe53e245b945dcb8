"""The module by each strategy and page size beside the user engine, over this /proc/vmcore; pages by both sources."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdumpd.dumpfile import bitmap
from kdumpd.dumpfile.bitmap import Run
from kdumpd.dumpfile.pages import PageSource, VmcorePages
from kdumpd.policy.model import EngineChoice, MappingPageSize, MappingStrategy, PageKind
from kdumpd.scan.engine import ScanOptions, Selected, select
from kdumpd.scan.selection import Interval
from kdumpd.vmcore.vmcore import Vmcore

WAYS = [
    ScanOptions(EngineChoice.USER),
    ScanOptions(EngineChoice.AUTO),
    *(
        ScanOptions(EngineChoice.KERNEL, strategy, size)
        for strategy in (MappingStrategy.LINEAR, MappingStrategy.CHUNK, MappingStrategy.PAGE)
        for size in (MappingPageSize.GIB_1, MappingPageSize.MIB_2, MappingPageSize.KIB_4)
    ),
]


class Bits:
    """Takes bitmap 2."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, bits: bytes) -> None:
        self.content += bits


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    """`levels`; `hands_off`: intervals of pfns. /out/bitmap-LEVEL is the user engine's.

    For each level and way the counts, the report, and the checksum of the bitmap; for the last level also of all pages.
    """
    hands_off = tuple(Interval(*interval) for interval in arguments.get("hands_off", ()))
    with Vmcore.open("/proc/vmcore") as core:
        return {str(level): scans(core, level, hands_off) for level in arguments["levels"]} | {
            "pages": pages(core),
            "processors": os.cpu_count(),
        }


def scans(core: Vmcore, level: int, hands_off: tuple[Interval, ...]) -> dict[str, Any]:
    """What each way makes of this level."""
    found = {}
    for way in WAYS:
        bits = Bits()
        selected = select(core, PageKind(level), hands_off, bits, None, way)
        if selected.pages is not None:
            selected.pages.close()
        found[f"{way.engine} {way.strategy} {way.page_size}"] = described(selected, bits)
        if way.engine is EngineChoice.USER:
            Path(f"/out/bitmap-{level}").write_bytes(bits.content)
    return found


def described(selected: Selected, bits: Bits) -> dict[str, Any]:
    """All that has to be the same, and what may differ."""
    counts = selected.counts._asdict()
    return {
        "bitmap": zlib.crc32(bits.content),
        "examined": counts.pop("examined"),
        "counts": counts,
        "report": {**selected.report._asdict(), "leaves": list(selected.report.leaves)},
    }


def pages(core: Vmcore) -> dict[str, Any]:
    """The checksum of all pages that are kept, by the module's map and by the vmcore, and how many are zero."""
    bits = Bits()
    selected = select(core, PageKind(30), (), bits, None, ScanOptions(EngineChoice.KERNEL, MappingStrategy.LINEAR))
    assert selected.pages is not None
    kept = bytes(bits.content)
    try:
        return {
            "kept": selected.counts.kept,
            "map": checksum(selected.pages, kept),
            "vmcore": checksum(VmcorePages(core.memory), kept),
        }
    finally:
        selected.pages.close()


def checksum(source: PageSource, content: bytes) -> list[int]:
    """(checksum of all pages, how many, how many of zeros)."""
    check = count = zeros = 0
    for chunk in chunks(content):
        for page in source.pages(chunk):
            count += 1
            zeros += not page
            check = zlib.crc32(page or bytes(4096), check)
    return [check, count, zeros]


def chunks(content: bytes) -> Iterator[list[Run]]:
    """Runs of at most 256 pages together, as the writer takes them."""
    chunk: list[Run] = []
    room = 256
    for first, pages in bitmap.runs(content, 0):
        while pages:
            taken = min(pages, room)
            chunk.append((first, taken))
            first, pages, room = first + taken, pages - taken, room - taken
            if not room:
                yield chunk
                chunk, room = [], 256
    if chunk:
        yield chunk
