"""The user engine: walks mem_map over the vmcore with the standard library alone.

It jumps: a free block or a compound page that is dropped whole costs one look at its head. Everything else is judged in
windows of at most `planes.WINDOW` structures. Memory is a few windows, whatever the size of the machine.
Called by `capture.save`. May import the rest of `scan`, `vmcore` and `policy.model`.
"""

from __future__ import annotations

from bisect import bisect_right
from struct import Struct

from kdumpd.errors import ScanError, VmcoreError
from kdumpd.policy.model import PageKind
from kdumpd.scan.chains import Chains
from kdumpd.scan.fates import Fates
from kdumpd.scan.planes import WINDOW
from kdumpd.scan.rules import Fate, judge
from kdumpd.scan.selection import (
    BitmapSink,
    Interval,
    PageCounts,
    Progress,
    bad_orders_warning,
    gaps_warning,
    present_pages,
)
from kdumpd.scan.windows import WindowJudge
from kdumpd.vmcore.layout import PageLayout
from kdumpd.vmcore.mem_map import MemMapRun
from kdumpd.vmcore.memory import Memory
from kdumpd.vmcore.vmcore import Vmcore

STRIDE = 1024  # pages; a window may end at each multiple, where a block that can be jumped over may start
_U32 = Struct("<I").unpack_from
_U64 = Struct("<Q").unpack_from
_NOTHING = Interval(1 << 62, 1 << 62)
JUMP_ORDER = 6  # a block of 64 pages or more is jumped over; a smaller one is cheaper as part of a window
CUT_ORDER = 9  # and inside of a window one of 512 pages
_FREE = int(Fate.FREE)


def scan(
    core: Vmcore,
    level: PageKind,
    hands_off: tuple[Interval, ...],
    sink: BitmapSink,
    progress: Progress | None = None,
    start: int = 0,
) -> PageCounts:
    """Stream bitmap 2 of `core` at this dump level to `sink`; the counts by kind.

    Only for the page frames from `start` on, a multiple of 1 << MAX_BLOCK_ORDER: no block before it reaches over it.

    Raises ScanError if the crashed kernel's page structures cannot be found or understood at all. Where single ones
    cannot be read, their pages are kept and a warning says how many.
    """
    try:
        layout = PageLayout.of(core.info)
        runs = core.mem_map()
    except VmcoreError as error:
        raise ScanError(f"the page structures of the crashed kernel cannot be scanned: {error}") from error
    present = present_pages(core.memory.stored_ranges, core.page_size)
    fates = Fates(core.max_pfn, present, hands_off, sink, progress, start)
    walk = _Walk(core.memory, layout, level & layout.tellable, present, fates)
    try:
        with core.memory.wide():
            for run in runs:
                walk.run(run)
    except VmcoreError as error:
        raise ScanError(f"mem_map cannot be followed after pfn {fates.position:#x}: {error}") from error
    warnings = walk.warnings()
    if core.mem_map_gaps:
        warnings += (gaps_warning(core.mem_map_gaps),)
    return fates.finish(walk.examined, warnings)


class _Walk:
    """The walk over mem_map, run by run."""

    def __init__(
        self, memory: Memory, layout: PageLayout, level: PageKind, present: tuple[Interval, ...], fates: Fates
    ) -> None:
        self.examined = 0
        self._memory = memory
        self._layout = layout
        self._level = int(level)
        self._buddy = layout.buddy_type if level & PageKind.FREE else None
        self._slab = layout.slab_flag or 0
        self._largest = (_FREE, layout.free_orders - 1)
        self._chains: Chains | None = None
        if memory.maps and self._buddy is not None and layout.free_orders > JUMP_ORDER:
            self._chains = Chains(layout)
        self._windows = WindowJudge(layout, level)
        self._present = present
        self._ends = [interval.end for interval in present]
        self._fates = fates
        self._bad_orders = 0
        self._unreadable = 0
        self._most = WINDOW  # structures to read at once
        self._look = STRIDE  # pages between two looks for a block to end a window at

    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the walk."""
        said = list(self._layout.unknown)
        if self._bad_orders:
            said.append(bad_orders_warning(self._bad_orders))
        if self._unreadable:
            said.append(f"{self._unreadable} pages are kept because their page structures cannot be read")
        return tuple(said)

    def run(self, run: MemMapRun) -> None:
        """Settle the fates of all pages of one run of mem_map."""
        fates, size = self._fates, self._layout.size
        end = run.first_pfn + run.pages
        fates.fill(run.first_pfn, Fate.KEEP)  # present, but without a page structure
        while fates.position < end:
            pfn = fates.position
            interval = self._present_from(pfn)
            if interval.start > pfn:
                fates.fill(min(interval.start, end), Fate.HOLE)
                continue
            at = run.physical + (pfn - run.first_pfn) * size
            stop = min(end, interval.end)
            try:
                if not self._jump(pfn, at, stop):
                    self._window(pfn, at, stop)
            except VmcoreError:
                if self._most > STRIDE:
                    self._most = STRIDE  # on to what cannot be read in small steps
                    continue
                skipped = min(stop, (pfn // STRIDE + 1) * STRIDE)
                self._unreadable += skipped - pfn
                self._most = WINDOW
                fates.fill(skipped, Fate.KEEP)

    def _present_from(self, pfn: int) -> Interval:
        """The page frames in the vmcore that `pfn` is one of, or the next ones: no others are judged."""
        at = bisect_right(self._ends, pfn)
        return self._present[at] if at < len(self._present) else _NOTHING

    def _jump(self, pfn: int, at: int, end: int) -> bool:
        """Jump over the blocks that follow each other from here on, one look each; False if there is none."""
        start, fate, size = pfn, 0, self._layout.size
        before = None
        try:
            while pfn < end:
                block = self._block(pfn, at, end)
                if block is None:
                    break
                kind, order = block
                if kind != fate:
                    self._fates.fill(pfn, fate)
                    fate = kind
                blocks = 1
                if block == before == self._largest and self._chains is not None:
                    blocks += self._chain(self._chains, at + (size << order), end - pfn >> order)
                before = block
                pfn += blocks << order
                at += size * blocks << order
        except VmcoreError:
            if pfn == start:
                raise
        if pfn == start:
            return False
        self._fates.fill(pfn, fate)
        self._look = STRIDE
        return True

    def _chain(self, chains: Chains, at: int, most: int) -> int:
        """How many of the largest free blocks there are more from `at` on, as far as that can be seen at once."""
        mapped = self._memory.mapped(at)
        blocks = chains.length(*mapped, most - 1) if mapped is not None else 0
        self.examined += blocks
        return blocks

    def _block(self, pfn: int, at: int, end: int) -> tuple[int, int] | None:
        """Fate and order of the block that starts here, if it is dropped whole and worth a jump."""
        if pfn & (1 << JUMP_ORDER) - 1:
            return None
        layout = self._layout
        size = layout.size
        self.examined += 1
        pages = self._memory.view(at, 2 * size if pfn + 1 < end else size)
        kind = _U32(pages, layout.mapcount)[0]
        flags = _U64(pages, layout.flags)[0]
        if pages[layout.compound_head] & 1:
            return None
        if kind == self._buddy and not flags & self._slab:
            # What most of an idle machine's memory is; `judge` says the same.
            order = _U64(pages, layout.private)[0]
            if JUMP_ORDER <= order < layout.free_orders and not pfn & (1 << order) - 1:
                return _FREE, order
            return None
        if flags & layout.head or kind == layout.unaccepted_type:
            verdict = judge(layout, self._level, pfn, pages[:size], pages[size:])
            if verdict.fate and verdict.order >= JUMP_ORDER:
                return int(verdict.fate), verdict.order
        return None

    def _window(self, pfn: int, at: int, stop: int) -> None:
        """Judge the pages from `pfn` on: as many as a window holds, or up to `stop` or a block to jump over."""
        layout, memory = self._layout, self._memory
        end = self._window_end(pfn, at, stop)
        size = (end - pfn) * layout.size
        window, start = memory.window(at, size)
        after = b""
        if end < stop and _U64(window, start + size - layout.size + layout.flags)[0] & layout.head:
            after = memory.view(at + size, layout.size)
            window, start = memory.window(at, size)
        verdict = self._windows.judge(pfn, window, after, start, end - pfn)
        self.examined += end - pfn
        self._bad_orders += verdict.bad_orders
        self._fates.put(verdict.fates, end - pfn)
        self._fates.fill(pfn + verdict.reach, verdict.reach_fate)

    def _window_end(self, pfn: int, at: int, stop: int) -> int:
        """Where a window that starts at `pfn` ends: before a block that is worth the price of another window.

        After windows without one it is looked for less and less often: in busy memory in one place of each window.
        """
        last = min(stop, pfn // STRIDE * STRIDE + self._most)
        for end in range((pfn // STRIDE + 1) * STRIDE, last, self._look):
            block = self._block(end, at + (end - pfn) * self._layout.size, stop)
            if block is not None and block[1] >= CUT_ORDER:
                self._look = STRIDE
                return end
        self._look = min(2 * self._look, WINDOW)
        return last
