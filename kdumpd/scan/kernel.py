"""The kernel engine: the page-scan module walks mem_map, a window of at most 16 GiB of memory at a time.

What it holds, whatever the size of the machine: the bitmap of a window (512 KiB) and the runs of mem_map that touch it,
a few on most machines; where hugetlb has cut mem_map into pages, at most 8192 a window, 1.3 MiB, with as much again
while `chunk` sorts their places and 320 KiB of arrays for the module. Windows that no run or no memory touches
never reach the module. Called by `scan.engine`. May import the rest of `scan`, `vmcore` and `policy.model`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from operator import add
from typing import NamedTuple

from kdumpd.policy.model import PageKind
from kdumpd.scan.device import Leaves, Mapped, ScanDevice, Window
from kdumpd.scan.fates import Fates
from kdumpd.scan.mapping import Choice
from kdumpd.scan.requests import Scan, Strategy, pack_layout
from kdumpd.scan.selection import Interval, PageCounts, bad_orders_warning, present_pages
from kdumpd.vmcore.layout import MAX_BLOCK_ORDER, PageLayout
from kdumpd.vmcore.mem_map import MemMapRun
from kdumpd.vmcore.memory import Range, Ranges
from kdumpd.vmcore.vmcore import Vmcore

WINDOW = 1 << 22  # page frames
SMALLEST = 1 << MAX_BLOCK_ORDER  # no block of pages lies across its multiples
MOST_RUNS = 8192  # of a window, unless it is one of the smallest
PORTION = 1 << 16  # bytes of a bitmap that are handed out at a time
TIMEOUT = 60 * 10**9  # nanoseconds for a window: a thousand times what it takes
_NOTHING = bytes(PORTION)
_TOTAL, _EXAMINED = Scan._fields.index("total"), Scan._fields.index("examined")  # PageCounts has the same in between
_DECIDED = int(PageKind.CACHE | PageKind.CACHE_PRIVATE | PageKind.USER | PageKind.FREE)


class MappingReport(NamedTuple):
    """What the maps of a scan were: all their leaves, the most page tables at a time, the time they took to make."""

    leaves: Leaves = Leaves()
    table_bytes: int = 0
    retried: int = 0
    refused_bytes: int = 0
    nanoseconds: int = 0

    def plus(self, mapped: Mapped) -> MappingReport:
        """With one map more, made when the others were gone."""
        return MappingReport(
            Leaves(*map(sum, zip(self.leaves, mapped.leaves, strict=True))),
            max(self.table_bytes, mapped.table_bytes),
            self.retried + mapped.retried,
            self.refused_bytes + mapped.refused_bytes,
            self.nanoseconds + mapped.nanoseconds,
        )


class KernelScan:
    """A scan by the module: `windows` gives bitmap 2 window by window; what is before `position` is decided."""

    def __init__(
        self, core: Vmcore, layout: PageLayout, level: PageKind, hands_off: tuple[Interval, ...], device: ScanDevice
    ) -> None:
        self.position = 0  # the first page frame whose fate is not known yet
        self.choice = Choice(Strategy.CHUNK, 30, "")
        self.mapping = MappingReport()
        self.linear: Mapped | None = None  # the one map of everything, if that was the choice
        self.refused = False  # that the choice was so, but could not be had
        self._core = core
        self._layout = layout
        self._packed = pack_layout(layout, core.page_size)
        self._level = int(level & layout.tellable) & _DECIDED
        self._hands_off = hands_off
        self._device = device
        self._granule = 4096
        self._counts = PageCounts(0, 0)
        self._bad_orders = 0
        self._bitmap = array("B", b"\0") * (min(WINDOW, core.max_pfn) // 8 + 1)

    def use(self, choice: Choice, ranges: Iterable[Range], granule: int = 4096) -> None:
        """Map like this, whole pages of `granule` bytes: but for `chunk`, one map of all these ranges, made at once."""
        self.choice = choice
        self._granule = granule
        if choice.strategy is not Strategy.CHUNK:
            self.linear = self._device.map(ranges, choice.strategy, choice.page_shift)
            self.mapping = self.mapping.plus(self.linear)

    def windows(self, runs: Iterator[MemMapRun]) -> Iterator[Iterator[bytes]]:
        """Yield one window after the other: its bits in portions, to be taken before the next window.

        ScanError where the module fails, VmcoreError where mem_map cannot be followed; a caller can go on from
        `position` by other means.
        """
        present = present_pages(self._core.memory.stored_ranges, self._core.page_size)
        for first, end, touching in windows_of(runs, self._core.max_pfn):
            inside = overlapping(present, first, end)
            kept = self._counts.kept
            if inside and touching:
                window = Window(first, end, _words(touching), _words(inside), _words(self._reserved(first, end)))
                self._by_module(window, touching)
            elif inside:
                self._without_structures(first, end, inside)
            self.position = end
            yield self._portions(-(-(end - first) // 8), self._counts.kept > kept)

    def _portions(self, size: int, some: bool) -> Iterator[bytes]:
        """The first `size` bytes of the bitmap; zeros where nothing is kept, as in most windows of an idle machine."""
        with memoryview(self._bitmap) as bits:
            for at in range(0, size, PORTION):
                yield bytes(bits[at : min(at + PORTION, size)]) if some else _NOTHING[: size - at]

    def counts(self) -> PageCounts:
        """The counts of what is decided; what a person should know of it."""
        said = list(self._layout.unknown)
        if self._bad_orders:
            said.append(bad_orders_warning(self._bad_orders))
        return self._counts._replace(warnings=tuple(said))

    def _by_module(self, window: Window, runs: list[MemMapRun]) -> None:
        mapped = self.linear
        if mapped is None:
            ranges = structures(runs, window, self._layout.size, self._granule)
            mapped = self._device.map(ranges, Strategy.CHUNK, self.choice.page_shift)
            self.mapping = self.mapping.plus(mapped)
        answer = self._device.scan(mapped.id, self._packed, self._level, window, self._bitmap, TIMEOUT)
        if self.linear is None:
            self._device.unmap(mapped.id)
        self._bad_orders += answer.bad_orders
        self._add(PageCounts._make((*answer[_TOTAL : _EXAMINED + 1], ())))

    def _without_structures(self, first: int, end: int, present: tuple[Interval, ...]) -> None:
        """All that is present is kept: nobody knows better."""
        fates = Fates(end, present, self._reserved(first, end), _Into(self._bitmap), None, first)
        self._add(fates.finish(0, ()))

    def _reserved(self, first: int, end: int) -> tuple[Interval, ...]:
        return overlapping(self._hands_off, first, end)

    def _add(self, counts: PageCounts) -> None:
        self._counts = joined(self._counts, counts)


class _Into:
    """A sink that fills a buffer from its beginning."""

    def __init__(self, buffer: array[int]) -> None:
        self._view = memoryview(buffer)

    def write(self, bits: bytes) -> None:
        self._view[: len(bits)] = bits
        self._view = self._view[len(bits) :]


def windows_of(runs: Iterator[MemMapRun], max_pfn: int) -> Iterator[tuple[int, int, list[MemMapRun]]]:
    """Yield windows that cover all page frames, each with the runs that touch it; smaller ones where runs are many."""
    first = 0
    held: list[MemMapRun] = []
    more = True
    while first < max_pfn:
        end = first + WINDOW
        while more and (not held or held[-1].first_pfn < end):
            if len(held) > MOST_RUNS and held[-1].first_pfn >= first + SMALLEST:
                end = held[MOST_RUNS].first_pfn // SMALLEST * SMALLEST
                end = max(end, first + SMALLEST)
                break
            run = next(runs, None)
            if run is None:
                more = False
            else:
                held.append(run)
        end = min(end, max_pfn)
        yield first, end, [run for run in held if run.first_pfn < end]
        held = [run for run in held if run.first_pfn + run.pages > end]
        first = end


def structures(runs: Iterable[MemMapRun], window: Window, size: int, granule: int = 4096) -> Ranges:
    """The memory that holds the structures of a window, in whole pages, and the one behind it if its run has one."""

    def places() -> Iterator[Range]:
        for first_pfn, pages, physical in runs:
            start = physical + (max(first_pfn, window.first) - first_pfn) * size
            end = physical + (min(first_pfn + pages, window.end + 1) - first_pfn) * size
            yield Range(start // granule * granule, -(-end // granule) * granule)

    return Ranges(sorted(places()))


def overlapping(intervals: tuple[Interval, ...], first: int, end: int) -> tuple[Interval, ...]:
    """Those of the ascending intervals that have a page frame between `first` and `end`."""
    at = bisect_right(intervals, first, key=lambda interval: interval.end)
    stop = at
    while stop < len(intervals) and intervals[stop].start < end:
        stop += 1
    return intervals[at:stop]


def joined(one: PageCounts, other: PageCounts) -> PageCounts:
    """The counts of two parts of memory together; what is said of both is said once."""
    return PageCounts._make((*map(add, one[:-1], other[:-1]), tuple(dict.fromkeys(one.warnings + other.warnings))))


def _words(elements: Iterable[tuple[int, ...]]) -> array[int]:
    return array("Q", (word for element in elements for word in element))
