"""A small crashed machine with every sort of page, and ways to dump it.

Pages of zeros, of text, of random bytes (which no compressor makes smaller), a log that ends in a panic, memory with
holes, and a PT_LOAD that ends inside a page.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

from kdumpd.dumpfile import bitmap
from kdumpd.dumpfile.writer import DumpReport, Progress, WriteOptions, write_dump
from kdumpd.policy.model import Compression, CompressionKind, PageKind
from kdumpd.scan.selection import BitmapSink, PageCounts
from kdumpd.vmcore.vmcore import Vmcore
from tests.builders.printk import Record, put_log
from tests.builders.vmcore import MIB, PAGE, VmcoreBuilder

RANGES = ((0x1000, 0x9F000), (0x100000, 24 * MIB), (24 * MIB + 16 * PAGE, 28 * MIB + 0x800))
TEXT_PAGES = range(0x1300, 0x1780)  # behind the page structures
RANDOM_PAGES = range(0x1780, 0x17A8)
ZERO_PAGE = 0x1A00
PARTIAL_PAGE = 28 * MIB // PAGE
PANIC = b"Kernel panic - not syncing: sysrq triggered crash"

Runs = Iterable[bitmap.Run]


def save_vmcore(path: Path) -> str:
    """A vmcore of that machine."""
    builder = VmcoreBuilder(RANGES, info={"CRASHTIME": "1700000000"})
    put_log(builder, [Record(b"Linux version 6.1.0"), Record(b"sysrq: Trigger a crash"), Record(PANIC)])
    generator = random.Random(1)
    for pfn in TEXT_PAGES:
        builder.write(pfn * PAGE, b"page %d of text, " % pfn * 64)
    for pfn in RANDOM_PAGES:
        builder.write(pfn * PAGE, generator.randbytes(PAGE))
    builder.write(PARTIAL_PAGE * PAGE, b"half a page" * 100)
    return builder.save(path)


def all_memory(core: Vmcore) -> list[bitmap.Run]:
    """Every page frame of memory."""
    frames = [(extent.start // PAGE, -(-extent.end // PAGE)) for extent in core.memory.ranges]
    return [(first, end - first) for first, end in frames]


def select_runs(core: Vmcore, runs: Runs) -> Callable[[BitmapSink], PageCounts]:
    """A scan that keeps these runs."""

    def select(sink: BitmapSink) -> PageCounts:
        kept = 0
        for window in bitmap.of_runs(runs, core.max_pfn):
            sink.write(window)
            kept += bitmap.count(window)
        total = sum(count for _, count in all_memory(core))
        return PageCounts(total, kept, free=total - kept)

    return select


def options(kind: CompressionKind = CompressionKind.ZSTD, jobs: int = 1, level: int = 31) -> WriteOptions:
    return WriteOptions(PageKind(level), Compression(kind, 1), jobs, bool(level & PageKind.ZERO))


def dump(
    core: Vmcore,
    output: Path,
    how: WriteOptions | None = None,
    runs: Runs | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> DumpReport:
    """Dump these runs, by default all memory, to `output`."""
    chosen = all_memory(core) if runs is None else runs
    return write_dump(core, str(output), how or options(), select_runs(core, chosen), progress)
