"""The fates of the page frames in ascending order, gathered in bounded chunks and turned into bitmap 2.

An engine says what becomes of the frames from the first up, each exactly once; this module lays the holes in memory
and the policy's hands-off ranges over them, counts, packs eight fates to a byte and hands the bits to the sink.
May import `scan.rules` and `scan.selection`.
"""

from __future__ import annotations

from bisect import bisect_right

from kdumpd.scan.rules import Fate
from kdumpd.scan.selection import BitmapSink, Interval, PageCounts, Progress

CHUNK = 16384  # page frames gathered before they are packed: 2 KiB of bitmap

# Iterating a Flag leaves out the member that is 0.
_RUN = {fate: bytes([fate]) * CHUNK for fate in (Fate.KEEP, *Fate)}
_ONES = int.from_bytes(b"\1" * CHUNK, "little")
_EVERYWHERE = {fate: _ONES * fate for fate in Fate if fate}


class Fates:
    """Takes the fates of page frames `start` (a multiple of 8) up to `max_pfn` and streams bitmap 2 to `sink`."""

    def __init__(
        self,
        max_pfn: int,
        present: tuple[Interval, ...],
        hands_off: tuple[Interval, ...],
        sink: BitmapSink,
        progress: Progress | None,
        start: int = 0,
    ) -> None:
        self.position = start  # the first frame whose fate is not known yet
        self._max_pfn = max_pfn
        self._first = start
        self._present = present
        self._ends = [interval.end for interval in present]
        self._hands_off = hands_off
        self._sink = sink
        self._progress = progress
        self._chunk = bytearray(CHUNK)
        self._start = start  # first frame of the chunk
        self._counts = dict.fromkeys(_EVERYWHERE, 0)

    def fill(self, end: int, fate: Fate) -> None:
        """All frames from `position` up to `end` have this fate."""
        end = min(end, self._max_pfn)
        while self.position < end:
            at = self.position - self._start
            count = min(end - self.position, CHUNK - at)
            uniform = self._uniform(fate) if count == CHUNK else None
            if uniform is not None:
                self._whole(uniform)
                continue
            self._chunk[at : at + count] = _RUN[fate][:count]
            self._advance(count)

    def put(self, fates: bytearray) -> None:
        """The next frames have these fates, a byte each."""
        taken = 0
        length = min(len(fates), self._max_pfn - self.position)
        while taken < length:
            at = self.position - self._start
            count = min(length - taken, CHUNK - at)
            self._chunk[at : at + count] = fates[taken : taken + count]
            taken += count
            self._advance(count)

    def finish(self, examined: int, warnings: tuple[str, ...]) -> PageCounts:
        """Hand over what is left; frames that nobody spoke of are kept. The counts of everything."""
        self.fill(self._max_pfn, Fate.KEEP)
        if self.position > self._start:
            self._flush()
        counts = self._counts
        total = max(self._max_pfn - self._first, 0) - counts[Fate.HOLE]
        dropped = sum(count for fate, count in counts.items() if fate is not Fate.HOLE)
        return PageCounts(
            total=total,
            kept=total - dropped,
            cache=counts[Fate.CACHE],
            cache_private=counts[Fate.CACHE_PRIVATE],
            user=counts[Fate.USER],
            free=counts[Fate.FREE],
            hwpoison=counts[Fate.HWPOISON],
            offline=counts[Fate.OFFLINE],
            hands_off=counts[Fate.HANDS_OFF],
            examined=examined,
            warnings=warnings,
        )

    def _advance(self, count: int) -> None:
        self.position += count
        if self.position == self._start + CHUNK:
            self._flush()

    def _flush(self) -> None:
        count = self.position - self._start
        self._lay_over(self._hands_off, Fate.HANDS_OFF)
        self._lay_holes()
        fates = int.from_bytes(memoryview(self._chunk)[:count], "little")
        for fate, everywhere in _EVERYWHERE.items():
            of_kind = fates & everywhere
            if of_kind:
                self._counts[fate] += of_kind.bit_count()
        # Any bit of a byte reaches its lowest; what comes in from the next byte stays above that.
        fates |= fates >> 4
        fates |= fates >> 2
        fates |= fates >> 1
        kept = _ONES & ((1 << (8 * count)) - 1) & ~fates
        self._sink.write(_packed(kept, (count + 7) // 8))
        self._start = self.position
        if self._progress is not None:
            self._progress(self.position, self._max_pfn)

    def _uniform(self, fate: Fate) -> Fate | None:
        """The one fate of the whole chunk from `position` on, or None where something is laid over a part of it."""
        start, end = self.position, self.position + CHUNK
        if any(interval.start < end and start < interval.end for interval in self._hands_off):
            return None
        at = bisect_right(self._ends, start)
        if at == len(self._present) or end <= self._present[at].start:
            return Fate.HOLE
        return fate if self._present[at].start <= start and end <= self._present[at].end else None

    def _whole(self, fate: Fate) -> None:
        """A whole chunk of one fate needs no packing."""
        if fate:
            self._counts[fate] += CHUNK
        self._sink.write((b"\0" if fate else b"\xff") * (CHUNK // 8))
        self.position += CHUNK
        self._start = self.position
        if self._progress is not None:
            self._progress(self.position, self._max_pfn)

    def _lay_over(self, intervals: tuple[Interval, ...], fate: Fate) -> None:
        for interval in intervals:
            first, last = max(interval.start, self._start), min(interval.end, self.position)
            if first < last:
                self._chunk[first - self._start : last - self._start] = _RUN[fate][: last - first]

    def _lay_holes(self) -> None:
        before = self._start
        for at in range(bisect_right(self._ends, before), len(self._present)):
            interval = self._present[at]
            self._lay_over((Interval(before, min(interval.start, self.position)),), Fate.HOLE)
            before = interval.end
            if before >= self.position:
                return
        self._lay_over((Interval(before, self.position),), Fate.HOLE)


def _packed(mask: int, octets: int) -> bytes:
    """The 0 or 1 of each byte of `mask`, eight to a byte, the first in the lowest bit."""
    mask |= mask >> 7
    mask |= mask >> 14
    mask |= mask >> 28
    return mask.to_bytes(octets * 8, "little")[::8]
