"""From an open vmcore to a finished dump under its final name; the runner and `kdumpd dump` share it.

The dump is written beside its final name as NAME.incomplete, checked, synced, and only then renamed, never over a file
that is there. May import `scan`, `dumpfile.writer`, `dumpfile.format`, `target`, `vmcore` and `policy.model`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from kdumpd.capture.kernel import rename_new
from kdumpd.dumpfile.format import HEADER, Flags, Header
from kdumpd.dumpfile.writer import DumpReport, Progress, WriteOptions, automatic_jobs, write_dump
from kdumpd.errors import DumpError, KdumpdError
from kdumpd.policy.model import Compression, EngineChoice, PageKind
from kdumpd.scan import engine, unfiltered
from kdumpd.scan.engine import ScanOptions, ScanReport
from kdumpd.scan.gather import GatheredPages
from kdumpd.scan.selection import BitmapSink, PageCounts, present_pages
from kdumpd.target.local import INCOMPLETE, free_bytes, sync_directory
from kdumpd.vmcore.memory import Range
from kdumpd.vmcore.vmcore import Vmcore

UNFILTERED = "unfiltered"
_FREE_TOLERANCE = 0.01  # of the kernel's own count, NR_FREE_PAGES
# Pages that a processor may hold back from the kernel's count: 125 in each of four zones (mm/vmstat.c, stat_threshold).
_FREE_DELTA = 125 * 4
_DESCRIPTOR_AND_BITS = 25  # bytes a page that is not its content, rounded up


class SaveOptions(NamedTuple):
    """What to save and how; `jobs` None is automatic; `hands_off` physical byte ranges that are never read;

    `scan` None keeps all pages; `min_free` bytes that must stay free on the file system.
    """

    level: PageKind
    compression: Compression
    jobs: int | None = None
    hands_off: tuple[tuple[int, int], ...] = ()
    scan: ScanOptions | None = ScanOptions()
    min_free: int = 0


class Chosen(NamedTuple):
    """The pages of a dump: how many of what kind, how they were chosen (None: unfiltered), where they are read

    (None: from the vmcore).
    """

    counts: PageCounts
    scan: ScanReport | None
    pages: GatheredPages | None = None

    def describe(self) -> str:
        """Who chose them, in a few words."""
        if self.scan is None:
            return UNFILTERED
        if self.scan.engine is not EngineChoice.KERNEL:
            return self.scan.why
        return f"{self.scan.engine.value}, {self.scan.strategy} {self.scan.page_size}"


class Watch(NamedTuple):
    """Who is told: `scanned` once the pages are chosen, `progress` while they are written."""

    scanned: Callable[[Chosen], None] = lambda chosen: None
    progress: Callable[[Progress], None] = lambda progress: None


class FreePages(NamedTuple):
    """Free pages as the scan counted them beside the kernel's own count; `meaning` is empty where they agree."""

    scanned: int
    kernel: int | None
    meaning: str


class Saved(NamedTuple):
    """A finished dump; `seconds` for all of it; `warnings` of what did not go well and cost nothing of it."""

    chosen: Chosen
    report: DumpReport
    free_pages: FreePages
    seconds: float
    warnings: tuple[str, ...]


def save_dump(core: Vmcore, final: str, options: SaveOptions, watch: Watch | None = None) -> Saved:
    """`final` is a complete and synced dump. Otherwise DumpError or ScanError, and there is no file of that name."""
    told = watch or Watch()
    start = time.monotonic()
    require_new(final, core.name)
    temporary = final + INCOMPLETE
    level = PageKind(0) if options.scan is None else options.level
    choices: list[Chosen] = []
    write = WriteOptions(level, options.compression, options.jobs or automatic_jobs(), PageKind.ZERO in level)

    def select(sink: BitmapSink) -> PageCounts:
        choices.append(_choose(core, level, options, sink))
        told.scanned(choices[0])
        return choices[0].counts

    def progress(now: Progress) -> None:
        require_room(final, options.min_free)
        told.progress(now)

    require_room(final, options.min_free)
    try:
        report = write_dump(core, temporary, write, select, progress, lambda: choices[0].pages)
    finally:
        for choice in choices:
            if choice.pages is not None:
                choice.pages.close()
    check(temporary, report)
    free_pages = compare_free_pages(core, report.counts, options)
    try:
        rename_new(temporary, final)
    except OSError as error:
        raise DumpError(f"{final}: the finished dump stays at {temporary}: {error.strerror}") from error
    warnings = (*report.counts.warnings, *named_on_disk(final))
    return Saved(choices[0], report, free_pages, time.monotonic() - start, warnings)


def _choose(core: Vmcore, level: PageKind, options: SaveOptions, sink: BitmapSink) -> Chosen:
    frames = present_pages(sorted(Range(start, end) for start, end in options.hands_off), core.page_size)
    if options.scan is None:
        return Chosen(unfiltered.scan(core, level, frames, sink), None)
    selected = engine.select(core, level, frames, sink, None, options.scan)
    return Chosen(selected.counts, selected.report, selected.pages)


def named_on_disk(final: str) -> tuple[str, ...]:
    """The dump's name is on the disk, or a warning: the dump is complete and has that name all the same."""
    try:
        sync_directory(os.path.dirname(final) or ".")
    except OSError as error:
        return (f"{final}: its name may not be on the disk yet: {error.strerror}",)
    return ()


def require_new(final: str, vmcore: str) -> None:
    """DumpError unless `final` can be made: its directory is there, it is not, and it is not the vmcore itself."""
    directory = os.path.dirname(final) or "."
    if not os.path.isdir(directory):
        raise DumpError(f"{directory}: no such directory; make it first")
    if os.path.exists(final) and os.path.samefile(final, vmcore):
        raise DumpError(f"{final}: is the vmcore itself; give another name for the dump")
    for name in (final, final + INCOMPLETE):
        if os.path.lexists(name):
            raise DumpError(f"{name}: exists; remove it or give another name for the dump")


def require_room(final: str, min_free: int) -> None:
    """DumpError where the file system has fallen to what must stay free."""
    if not min_free:
        return
    free = free_bytes(os.path.dirname(final) or ".")
    if free < min_free:
        raise DumpError(
            f"{final}: {free >> 20} MiB are free there and retention.min_free keeps {min_free >> 20} MiB; make room"
        )


def require_room_unfiltered(core: Vmcore, final: str, min_free: int) -> None:
    """DumpError unless all of memory fits in what is free, should no page compress."""
    memory = sum(extent.end - extent.start for extent in core.memory.ranges)
    needed = memory + memory // core.page_size * _DESCRIPTOR_AND_BITS
    room = free_bytes(os.path.dirname(final) or ".") - min_free
    if needed > room:
        raise DumpError(
            f"{final}: an unfiltered dump needs up to {needed >> 20} MiB and {max(room, 0) >> 20} MiB may be used"
        )


def check(path: str, report: DumpReport) -> None:
    """DumpError unless the file has the size that was written and a header that says it is complete."""
    with open(path, "rb") as stream:
        header = Header.unpack(stream.read(HEADER.size))
        size = os.fstat(stream.fileno()).st_size
    if size != report.size or size < report.smallest:
        raise DumpError(f"{path}: has {size} bytes where {report.size} were written; look at that file system")
    if header.status & Flags.INCOMPLETE:
        raise DumpError(f"{path}: its header says that it is incomplete")


def compare_free_pages(core: Vmcore, counts: PageCounts, options: SaveOptions) -> FreePages:
    """What the scan took for free beside what the crashed kernel counted; nothing to compare where none was wanted."""
    if PageKind.FREE not in options.level or options.scan is None:
        return FreePages(counts.free, None, "")
    try:
        kernel = core.free_pages()
    except (KdumpdError, ValueError) as error:
        return FreePages(counts.free, None, f"free pages cannot be compared with the kernel's own count: {error}")
    slack = _FREE_DELTA * max(1, core.elf.prstatus_count)
    if kernel is None or abs(counts.free - kernel) <= kernel * _FREE_TOLERANCE + slack:
        return FreePages(counts.free, kernel, "")
    if counts.free < kernel:
        effect = "free pages were kept and the dump is larger than it need be; the data in it are good"
    else:
        effect = "pages may be missing from the dump that the kernel used"
    return FreePages(counts.free, kernel, f"{counts.free} free pages found, the kernel counted {kernel}: {effect}")


def as_json(saved: Saved) -> dict[str, Any]:
    """What a report says about a finished dump: counts by kind, sizes in bytes, times in seconds."""
    report, scan = saved.report, saved.chosen.scan
    pages = report.counts._asdict()
    del pages["warnings"]
    return {
        "engine": scan.engine.value if scan else UNFILTERED,
        "scan": _scan_as_json(scan),
        "source": "vmcore" if saved.chosen.pages is None else "map",
        "source_trouble": report.trouble,
        "jobs": report.jobs,
        "pages": {**pages, "written": report.pages, "zero": report.zero, "raw": report.raw},
        "free_pages": saved.free_pages._asdict(),
        "size": report.size,
        "seconds": {
            "scan": round(report.select_seconds, 4),
            "write": round(report.write_seconds, 4),
            "sync": round(report.sync_seconds, 4),
            "all": round(saved.seconds, 4),
        },
        "scan_nanoseconds_per_page": round(report.select_seconds * 1e9 / max(1, report.counts.total), 2),
        "write_nanoseconds_per_page": round(report.write_seconds * 1e9 / max(1, report.pages), 2),
        "warnings": list(saved.warnings),
    }


def _scan_as_json(scan: ScanReport | None) -> dict[str, Any] | None:
    """How the pages were chosen; None where all were taken."""
    if scan is None:
        return None
    pages_map = scan.pages_map
    return {
        **scan._asdict(),
        "engine": scan.engine.value,
        "leaves": scan.leaves._asdict(),
        "pages_map": {**pages_map._asdict(), "leaves": pages_map.leaves._asdict()} if pages_map else None,
    }
