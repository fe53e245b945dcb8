"""The fates of the page frames in ascending order, gathered in bounded chunks and turned into bitmap 2.

An engine says what becomes of the frames from the first up, each exactly once; this module lays the holes in memory
and the policy's hands-off ranges over them, counts, packs eight fates to a byte and hands the bits to the sink.
May import `scan.rules` and `scan.selection`.
"""

from __future__ import annotations

from bisect import bisect_right

from kdumpd.scan.rules import Fate
from kdumpd.scan.selection import BitmapSink, Interval, PageCounts, Progress

LEVELS = 6  # of a tally: one window in 64 is counted bit by bit
CHUNK = 8192  # page frames gathered before they are packed: 1 KiB of bitmap

# Iterating a Flag leaves out the member that is 0.
_RUN = {int(fate): bytes([fate]) * CHUNK for fate in (Fate.KEEP, *Fate)}
_NONE, _ALL = bytes(1 << 15), b"\xff" * (1 << 15)  # bits of a GiB of 4 KiB pages
_ONES = int.from_bytes(b"\1" * CHUNK, "little")
_EVERYWHERE = {int(fate): _ONES * fate for fate in Fate if fate}
_LOW_BITS, _HIGH_BIT = _ONES * 0x7F, _ONES * 0x80


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
        self._tally = _Tally()

    def fill(self, end: int, fate: int) -> None:
        """All frames from `position` up to `end` have this fate."""
        end = min(end, self._max_pfn)
        while self.position < end:
            at = self.position - self._start
            if not at and end - self.position >= CHUNK and self._whole(fate, end):
                continue
            count = min(end - self.position, CHUNK - at)
            self._chunk[at : at + count] = _RUN[fate][:count]
            self._advance(count)

    def put(self, fates: int, count: int) -> None:
        """The next `count` frames have these fates, a byte each, the first in the lowest."""
        count = min(count, self._max_pfn - self.position)
        if count <= CHUNK and not (self.position | count) & 7 and self._bare(self.position + count):
            if self.position > self._start:
                self._flush()
            first = fates & 0xFF
            if count == CHUNK and fates == _EVERYWHERE.get(first, 0):
                self._pass_on(first, count)
                return
            self.position += count
            self._settle(fates, count)
            return
        self._put_bytes(memoryview(fates.to_bytes(count, "little")))

    def _put_bytes(self, fates: memoryview) -> None:
        while fates:
            at = self.position - self._start
            count = min(len(fates), CHUNK - at)
            self._chunk[at : at + count] = fates[:count]
            fates = fates[count:]
            self._advance(count)

    def finish(self, examined: int, warnings: tuple[str, ...]) -> PageCounts:
        """Hand over what is left; frames that nobody spoke of are kept. The counts of everything."""
        self.fill(self._max_pfn, Fate.KEEP)
        if self.position > self._start:
            self._flush()
        counts = self._tally.counts()
        total = max(self._max_pfn - self._first, 0) - counts[Fate.HOLE]
        dropped = sum(count for fate, count in counts.items() if fate != Fate.HOLE)
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
        with memoryview(self._chunk) as chunk:
            self._settle(int.from_bytes(chunk[:count], "little"), count)

    def _settle(self, fates: int, count: int) -> None:
        """Count the fates of the `count` frames up to `position`, and hand their bits over."""
        self._tally.add(fates)
        self._sink.write(_kept(fates, count))
        self._start = self.position
        if self._progress is not None:
            self._progress(self.position, self._max_pfn)

    def _bare(self, end: int) -> bool:
        """Whether nothing is laid over any of the frames from `position` up to `end`."""
        start = self.position
        at = bisect_right(self._ends, start)
        if at == len(self._present) or start < self._present[at].start or self._present[at].end < end:
            return False
        return not any(interval.start < end and start < interval.end for interval in self._hands_off)

    def _whole(self, fate: int, end: int) -> bool:
        """Whole chunks of one fate need no packing: pass on those from `position` up to `end`; False if there is none.

        What is laid over their first frame is the fate that they have.
        """
        start = self.position
        for interval in self._hands_off:
            if interval.start < end and start < interval.end:
                end = max(interval.start, start)
        at = bisect_right(self._ends, start)
        if at == len(self._present) or start < self._present[at].start:
            fate = Fate.HOLE
            end = min(end, self._present[at].start) if at < len(self._present) else end
        else:
            end = min(end, self._present[at].end)
        count = (end - start) // CHUNK * CHUNK
        self._pass_on(fate, count)
        return count > 0

    def _pass_on(self, fate: int, count: int) -> None:
        """The next `count` frames, whole chunks, have this fate, and nothing is laid over them."""
        self._tally.uniform(fate, count)
        bits = _NONE if fate else _ALL
        while count:
            octets = min(count // 8, len(bits))
            self._sink.write(bits[:octets])
            self.position += octets * 8
            count -= octets * 8
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


class _Tally:
    """Counts fates, a bit each, in carry-save form: all kinds at once, for the price of a few operations a window.

    A level holds numbers that weigh 1 << level: a sum, and one that waits for a second to be added with.
    """

    def __init__(self) -> None:
        self._sums = [0] * LEVELS
        self._waiting: list[int | None] = [None] * LEVELS
        self._counts = dict.fromkeys(_EVERYWHERE, 0)

    def uniform(self, fate: int, count: int) -> None:
        """So many frames of one fate more."""
        if fate:
            self._counts[fate] += count

    def add(self, fates: int) -> None:
        """The frames of a window more, a byte each."""
        for level, waiting in enumerate(self._waiting):
            if waiting is None:
                self._waiting[level] = fates
                return
            before = self._sums[level]
            half = waiting ^ fates
            self._sums[level] = half ^ before
            fates = waiting & fates | half & before
            self._waiting[level] = None
        self._count(fates, LEVELS)

    def counts(self) -> dict[int, int]:
        """How many frames had each fate, KEEP left out; afterwards nothing may be added."""
        for level, numbers in enumerate(zip(self._sums, self._waiting, strict=True)):
            for number in filter(None, numbers):
                self._count(number, level)
        return self._counts

    def _count(self, number: int, level: int) -> None:
        for fate, everywhere in _EVERYWHERE.items():
            self._counts[fate] += (number & everywhere).bit_count() << level


def _kept(fates: int, count: int) -> bytes:
    """A bit for each of `count` bytes of `fates`, set where it is 0, the first in the lowest bit of the first byte."""
    low, high = _LOW_BITS, _HIGH_BIT
    if count < CHUNK:
        low, high = low >> 8 * (CHUNK - count), high >> 8 * (CHUNK - count)
    # A byte is 0 or has one bit set: 0x7f more sets its highest bit unless it is 0.
    kept = (fates + low & high) ^ high
    kept |= kept << 7
    kept |= kept << 14
    kept |= kept << 28
    octets = (count + 7) // 8 * 8
    return (kept & (1 << 8 * octets) - 1).to_bytes(octets, "little")[7::8]
