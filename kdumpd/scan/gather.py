"""Pages copied by the page-scan module from its map of all memory, many a call; it says which are all zero.

What the map does not cover (the first MiB, what the capture kernel uses, a page that the vmcore has only a part of) is
read from the vmcore. Buffers: the pages of one call and 4 KiB of bitmap. Used by the writer's workers, each with the
copy of this that it was forked with. May import `scan.device` and `vmcore.memory`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from kdumpd.scan.device import ScanDevice
from kdumpd.vmcore.memory import Memory

SPAN = 1 << 15  # page frames that one call may look over


class GatheredPages:
    """A source of pages over a linear map; it owns the device."""

    def __init__(self, memory: Memory, device: ScanDevice, mapped: int) -> None:
        self._memory = memory
        self._device = device
        self._mapped = mapped
        self._zero_page = bytes(memory.page_size)
        self._buffer = array("B")
        self._view = memoryview(self._buffer)
        self._used = 0  # bytes of the buffer
        self._zero = array("B")

    def close(self) -> None:
        """Give up the map and the device."""
        self._device.close()

    def pages(self, runs: Iterable[tuple[int, int]]) -> list[memoryview]:
        """The pages of these runs (first pfn, pages) in ascending order; an empty view for a page of zeros.

        The views are good until the next call. ScanError where the module fails, VmcoreError where the vmcore has no
        such page.
        """
        runs = list(runs)
        self._make_room(sum(count for _, count in runs))
        found: list[memoryview] = []
        base = wanted = 0
        for first, count in runs:
            if wanted and first + count > base + SPAN:
                self._gather(base, wanted, found)
                wanted = 0
            if not wanted:
                base = first
            wanted |= ((1 << count) - 1) << (first - base)
        if wanted:
            self._gather(base, wanted, found)
        return found

    def _gather(self, base: int, wanted: int, found: list[memoryview]) -> None:
        """Append the pages of the bits of `wanted`, whose lowest stands for page frame `base`."""
        page_size = self._memory.page_size
        while wanted:
            bitmap = array("B", wanted.to_bytes(-(-wanted.bit_length() // 8), "little"))
            answer = self._device.gather(self._mapped, page_size, base, bitmap, self._buffer, self._used, self._zero)
            zero = int.from_bytes(self._zero[: -(-answer.pages // 8)], "little") & ((1 << answer.pages) - 1)
            end = self._used + answer.copied * page_size
            copied = [self._view[at : at + page_size] for at in range(self._used, end, page_size)]
            self._used = end
            if zero:
                following = iter(copied)
                nothing = self._view[:0]
                copied = [nothing if zero >> index & 1 else next(following) for index in range(answer.pages)]
            found += copied
            wanted >>= answer.next_pfn - base
            base = answer.next_pfn
            if wanted:  # where the map ends
                skipped = (wanted & -wanted).bit_length() - 1
                page = self._memory.read_page(base + skipped)
                found.append(memoryview(b"" if page == self._zero_page else page))
                wanted >>= skipped + 1
                base += skipped + 1

    def _make_room(self, pages: int) -> None:
        self._used = 0
        size = pages * self._memory.page_size
        if len(self._buffer) < size:
            self._buffer = array("B", b"\0") * size
            self._view = memoryview(self._buffer)
            self._zero = array("B", b"\0") * (-(-pages // 8))
