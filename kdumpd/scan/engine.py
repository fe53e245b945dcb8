"""Which engine scans: the page-scan module where there is one, and the user engine wherever that fails.

The user engine goes on in the middle, from the first page frame that the module has not decided. What was done and why
is a `ScanReport`, for the log and for kdumpd.json. Called by `capture.save`. May import the rest of `scan`, `vmcore`
and `policy.model`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from kdumpd.errors import ScanError, VmcoreError
from kdumpd.policy.model import EngineChoice, MappingPageSize, MappingStrategy, PageKind
from kdumpd.scan import mapping, user
from kdumpd.scan.device import PATH, Device, Leaves, Mapped, ScanDevice
from kdumpd.scan.gather import GatheredPages
from kdumpd.scan.kernel import KernelScan, joined
from kdumpd.scan.mapping import Machine
from kdumpd.scan.requests import Strategy
from kdumpd.scan.selection import BitmapSink, Interval, PageCounts, Progress, gaps_warning
from kdumpd.vmcore.layout import PageLayout
from kdumpd.vmcore.memory import Range, Ranges
from kdumpd.vmcore.vmcore import Vmcore

_VMCORE = "/proc/vmcore"


class ScanOptions(NamedTuple):
    """What the policy wants of the scan; `device` is where the module is to be found."""

    engine: EngineChoice = EngineChoice.AUTO
    strategy: MappingStrategy = MappingStrategy.AUTO
    page_size: MappingPageSize = MappingPageSize.AUTO
    device: str = PATH


class PagesMap(NamedTuple):
    """The map that the pages of the dump are copied from, as the module read it back; see ScanReport."""

    strategy: str
    page_size: str
    leaves: Leaves
    page_table_bytes: int


class ScanReport(NamedTuple):
    """How the pages were chosen: `engine` is kernel or user, `why` a line for the log.

    `strategy`, `page_size` (the largest page that memory was mapped by) and `leaves` are those of the module's maps for
    the scan, empty where it did nothing; `pages_map` is the one that pages are copied from, which may be the same;
    `page_table_bytes` is the most page tables at a time. `seconds` is all of it; `fell_back` says that the user engine
    took over.
    """

    engine: EngineChoice
    why: str
    strategy: str = ""
    page_size: str = ""
    leaves: Leaves = Leaves()
    page_table_bytes: int = 0
    pages_map: PagesMap | None = None
    seconds: float = 0.0
    nanoseconds_per_page: float = 0.0
    fell_back: bool = False


class Selected(NamedTuple):
    """The pages are chosen; `pages`, where all memory is mapped, copies them and has to be closed."""

    counts: PageCounts
    report: ScanReport
    pages: GatheredPages | None = None


def of_this_crash(core: Vmcore, device: str) -> ScanDevice:
    """The module's device; ScanError where there is none, or `core` is not the memory that it can map."""
    if os.path.realpath(core.name) != _VMCORE:
        raise ScanError(
            f"{core.name}: the module scans {_VMCORE} alone, the memory of the kernel that has just crashed"
        )
    return Device.open(device)


def select(
    core: Vmcore,
    level: PageKind,
    hands_off: tuple[Interval, ...],
    sink: BitmapSink,
    progress: Progress | None,
    options: ScanOptions,
    *,
    opened: Callable[[Vmcore, str], ScanDevice] = of_this_crash,
    machine: Callable[[], Machine] = Machine.here,
) -> Selected:
    """Stream bitmap 2 of `core` at this dump level to `sink`, whichever engine does it.

    Raises ScanError where the user engine cannot do it either, or nothing but the module was wanted and that fails.
    """
    start = time.monotonic()
    selected = _select(_Task(core, level, hands_off, sink, progress), options, opened, machine)
    seconds = time.monotonic() - start
    pace = seconds * 1e9 / max(1, selected.counts.total)
    report = selected.report._replace(seconds=round(seconds, 6), nanoseconds_per_page=round(pace, 2))
    return selected._replace(report=report)


class _Task(NamedTuple):
    """What is to be scanned, and who is told."""

    core: Vmcore
    level: PageKind
    hands_off: tuple[Interval, ...]
    sink: BitmapSink
    progress: Progress | None


def _select(
    task: _Task, options: ScanOptions, opened: Callable[[Vmcore, str], ScanDevice], machine: Callable[[], Machine]
) -> Selected:
    if options.engine is EngineChoice.USER:
        return _by_user(task, "user by the policy")
    try:
        device = opened(task.core, options.device)
    except ScanError as error:
        if options.engine is EngineChoice.KERNEL:
            raise
        return _by_user(task, f"user: {error}")
    pages = None
    try:
        done = _by_kernel(task, options, device, machine)
        pages = done.pages if isinstance(done, Selected) else None
    finally:
        if pages is None:
            device.close()
    # By now the module's maps are gone: the user engine and the writer's workers need the memory of their page tables.
    return done if isinstance(done, Selected) else _taken_over(task, done)


def _by_user(task: _Task, why: str, start: int = 0) -> Selected:
    counts = user.scan(task.core, task.level, task.hands_off, task.sink, task.progress, start)
    return Selected(counts, ScanReport(EngineChoice.USER, why))


class _Broken(NamedTuple):
    """A scan that the module did not get to the end of."""

    scan: KernelScan
    failure: ScanError | VmcoreError


def _by_kernel(
    task: _Task, options: ScanOptions, device: ScanDevice, machine: Callable[[], Machine]
) -> Selected | _Broken:
    core = task.core
    try:
        scan = KernelScan(core, PageLayout.of(core.info), task.level, task.hands_off, device)
    except VmcoreError as error:
        raise ScanError(f"the page structures of the crashed kernel cannot be scanned: {error}") from error
    here = machine()
    reserved = (Range(start * core.page_size, end * core.page_size) for start, end in task.hands_off)
    ranges = mapping.linear_ranges(core.memory.stored_ranges, reserved, here.own, here.granule)
    failure = _poured(_windows(task, options, scan, ranges, here), task, scan)
    if failure is not None:
        if options.engine is EngineChoice.KERNEL:
            raise ScanError(f"the kernel engine failed at pfn {scan.position:#x}: {failure}") from failure
        return _Broken(scan, failure)
    counts = scan.counts()
    if core.mem_map_gaps:
        counts = counts._replace(warnings=(*counts.warnings, gaps_warning(core.mem_map_gaps)))
    report = _report(EngineChoice.KERNEL, scan.choice.why, scan)
    mapped = scan.linear if scan.choice.strategy is Strategy.LINEAR else None
    if options.strategy is MappingStrategy.AUTO and mapped is None and not scan.refused:
        later = mapping.for_pages(options.page_size, ranges, counts.kept, machine())  # by the memory that is left now
        if later is not None:
            try:
                mapped = device.map(ranges, later.strategy, later.page_shift)
                report = report._replace(why=f"{report.why}; {later.why}")
            except ScanError as error:
                report = report._replace(why=f"{report.why}; its pages are read from the vmcore: {error}")
    if mapped is None:
        return Selected(counts, report)
    return Selected(counts, _with_pages_map(report, mapped), GatheredPages(core.memory, device, mapped.id))


def _windows(
    task: _Task, options: ScanOptions, scan: KernelScan, ranges: Ranges, here: Machine
) -> Iterator[Iterator[bytes]]:
    """Choose how to map, and scan window by window."""
    runs = task.core.mem_map()
    seen = list(islice(runs, mapping.MANY_RUNS + 1))
    choice = mapping.choose(options.strategy, options.page_size, len(seen), ranges, here)
    try:
        scan.use(choice, ranges, here.granule)
    except ScanError as error:
        if options.strategy is not MappingStrategy.AUTO or choice.strategy is Strategy.CHUNK:
            raise
        scan.refused = True
        instead = choice._replace(strategy=Strategy.CHUNK, why=f"chunk, since linear failed: {error}")
        scan.use(instead, ranges, here.granule)
    yield from scan.windows(chain(seen, runs))


def _poured(windows: Iterator[Iterator[bytes]], task: _Task, scan: KernelScan) -> ScanError | VmcoreError | None:
    """Give the sink all windows, or those before the failure that is returned; what the sink raises is not one."""
    while True:
        try:
            window = next(windows, None)
        except (ScanError, VmcoreError) as error:
            return error
        if window is None:
            return None
        for bits in window:
            task.sink.write(bits)
        if task.progress is not None:
            task.progress(scan.position, task.core.max_pfn)


def _taken_over(task: _Task, broken: _Broken) -> Selected:
    """The user engine does what is left."""
    scan, failure = broken
    where = f"from pfn {scan.position:#x} of {task.core.max_pfn:#x} on" if scan.position else "all of it"
    why = f"user, {where}: {failure}"
    rest = _by_user(task, why, scan.position)
    counts = joined(scan.counts(), rest.counts) if scan.position else rest.counts
    return Selected(counts, _report(EngineChoice.USER, why, scan)._replace(fell_back=True))


def _report(engine: EngineChoice, why: str, scan: KernelScan) -> ScanReport:
    done = scan.mapping
    strategy = scan.choice.strategy.name.lower()
    return ScanReport(engine, why, strategy, mapping.largest(done.leaves), done.leaves, done.table_bytes)


def _with_pages_map(report: ScanReport, mapped: Mapped) -> ScanReport:
    """The maps of a scan by chunk are gone before the one for the pages is made: page tables are never of both."""
    leaves, tables = mapped.leaves, mapped.table_bytes
    pages_map = PagesMap(Strategy.LINEAR.name.lower(), mapping.largest(leaves), leaves, tables)
    return report._replace(page_table_bytes=max(report.page_table_bytes, tables), pages_map=pages_map)
