"""Physical memory of the crashed kernel, read from a vmcore by physical address.

PT_LOADs may overlap (x86_64 maps the kernel's text a second time) and need not be page aligned in the file. A stored
file is read by pread, which reports a read error where an mmap would kill the process; /proc/vmcore is mapped 4 MiB at
a time, since a pread there maps and unmaps every page. Called by everything that reads the crashed kernel's memory.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.elf import ElfCore

WINDOW = 4 << 20  # bytes mapped at a time; aligned in physical memory, so that going downwards hits it as well


class Range(NamedTuple):
    """Physical bytes from `start` up to, not including, `end`."""

    start: int
    end: int


class _Extent(NamedTuple):
    """A range of physical memory and where in the file it lies."""

    start: int
    end: int
    offset: int


def merge(ranges: Iterable[tuple[int, int]]) -> tuple[Range, ...]:
    """The same bytes as sorted ranges that neither overlap nor touch."""
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1].end:
            if end > merged[-1].end:
                merged[-1] = Range(merged[-1].start, end)
        elif end > start:
            merged.append(Range(start, end))
    return tuple(merged)


class Memory:
    """Physical memory over an open vmcore, merged and sorted: `ranges` is what its PT_LOADs cover.

    `stored_ranges` are the bytes of it that lie in the file; the others (p_memsz above p_filesz) read as zeros.
    """

    def __init__(self, fd: int, core: ElfCore, name: str, page_size: int = 4096) -> None:
        self.name = name
        self.page_size = page_size
        self.ranges = merge((s.physical, s.physical + s.memory_size) for s in core.segments)
        self._fd = fd
        self._starts = [r.start for r in self.ranges]
        self._extents = _extents(core)
        self.stored_ranges = merge((extent.start, extent.end) for extent in self._extents)
        self._extent_starts = [extent.start for extent in self._extents]
        self._mapped = _of_procfs(fd)
        self._window: mmap.mmap | None = None
        self._window_start = 0  # physical
        self._window_end = 0
        self._window_skip = 0  # bytes in the window before its first physical byte: mmap wants an aligned offset

    def close(self) -> None:
        """Unmap the window; the descriptor stays the caller's."""
        if self._window is not None:
            self._window.close()
        self._window = None
        self._window_start = self._window_end = 0

    def read(self, physical: int, size: int) -> bytes:
        """Return `size` bytes from `physical`; for scattered reads. VmcoreError where the vmcore has no such memory."""
        content = self._stored(physical, size)
        return content if len(content) == size else self._gather(physical, size, self._stored)

    def view(self, physical: int, size: int) -> bytes:
        """Like `read`, for reads that go through memory in either direction: a window of 4 MiB stays mapped."""
        if physical >= self._window_start and physical + size <= self._window_end and self._window is not None:
            start = physical - self._window_start + self._window_skip
            return self._window[start : start + size]
        if not self._mapped:
            return self.read(physical, size)
        return self._gather(physical, size, self._through_window)

    def read_page(self, pfn: int) -> bytes:
        """Return a page; where the vmcore has only a part of it the rest is zeros."""
        start = pfn * self.page_size
        end = start + self.page_size
        extent = self._extent_at(start)
        if extent is not None and end <= extent.end:
            return self.view(start, self.page_size)
        covered = list(self.covered(start, end))
        if not covered:
            raise self._absent(start)
        page = bytearray(self.page_size)
        for part in covered:
            page[part.start - start : part.end - start] = self.view(part.start, part.end - part.start)
        return bytes(page)

    def covered(self, start: int, end: int) -> Iterator[Range]:
        """Yield the parts of physical `start` to `end` that the vmcore has, ascending."""
        index = max(bisect_right(self._starts, start) - 1, 0)
        while index < len(self.ranges) and self.ranges[index].start < end:
            part = Range(max(self.ranges[index].start, start), min(self.ranges[index].end, end))
            if part.start < part.end:
                yield part
            index += 1

    def _gather(self, physical: int, size: int, piece: Callable[[int, int], bytes]) -> bytes:
        """Join pieces until `size` bytes are there."""
        pieces = []
        while size > 0:
            content = piece(physical, size)
            pieces.append(content)
            physical += len(content)
            size -= len(content)
        return b"".join(pieces)

    def _extent_at(self, physical: int) -> _Extent | None:
        index = bisect_right(self._extent_starts, physical) - 1
        if index >= 0 and physical < self._extents[index].end:
            return self._extents[index]
        return None

    def _stored(self, physical: int, size: int) -> bytes:
        """Return at least 1 byte of what lies at `physical`, at most `size` bytes."""
        extent = self._extent_at(physical)
        if extent is None:
            return bytes(self._hole(physical, size))
        wanted = min(size, extent.end - physical)
        offset = extent.offset + physical - extent.start
        try:
            content = os.pread(self._fd, wanted, offset)
        except OSError as error:
            raise VmcoreError(
                f"{self.name}: physical {physical:#x} (offset {offset}) cannot be read: {error.strerror}"
            ) from error
        if not content and size:
            raise VmcoreError(f"{self.name}: physical {physical:#x} (offset {offset}) lies past the end of the file")
        return content

    def _hole(self, physical: int, size: int) -> int:
        """Return how many zero bytes are at `physical`: inside a PT_LOAD, but left out of the file."""
        for part in self.covered(physical, physical + size):
            if part.start == physical:
                index = bisect_right(self._extent_starts, physical)
                following = self._extent_starts[index] if index < len(self._extent_starts) else part.end
                return min(part.end, following) - physical
            break
        raise self._absent(physical)

    def _through_window(self, physical: int, size: int) -> bytes:
        """Like `_stored`, by way of the window, which is moved to `physical` first."""
        extent = self._extent_at(physical)
        if extent is None or not self._mapped:
            return self._stored(physical, size)
        if not self._window_start <= physical < self._window_end:
            self._move_window(extent, physical)
            if self._window is None:
                return self._stored(physical, size)
        wanted = min(size, self._window_end - physical)
        return self.view(physical, wanted)

    def _move_window(self, extent: _Extent, physical: int) -> None:
        self.close()
        start = max(physical & -WINDOW, extent.start)
        end = min((physical & -WINDOW) + WINDOW, extent.end)
        offset = extent.offset + start - extent.start
        skip = offset % mmap.ALLOCATIONGRANULARITY
        try:
            self._window = mmap.mmap(
                self._fd, end - start + skip, mmap.MAP_PRIVATE, mmap.PROT_READ, offset=offset - skip
            )
        except (OSError, ValueError):
            self._mapped = False  # an old kernel's /proc/vmcore: pread does as well, only slower
            return
        self._window_start, self._window_end, self._window_skip = start, end, skip

    def _absent(self, physical: int) -> VmcoreError:
        return VmcoreError(f"{self.name}: physical {physical:#x} is in no PT_LOAD")


def _of_procfs(fd: int) -> bool:
    """Whether the open file is /proc/vmcore, and no file that somebody could cut while it is mapped."""
    try:
        return os.fstat(fd).st_dev == os.stat("/proc").st_dev
    except OSError:
        return False


def _extents(core: ElfCore) -> list[_Extent]:
    """What the file stores, sorted and without overlap; of bytes stored twice the lower segment's are taken."""
    extents: list[_Extent] = []
    reached = 0
    for segment in sorted(core.segments):
        start = max(segment.physical, reached)
        end = segment.physical + segment.file_size
        if start < end:
            extents.append(_Extent(start, end, segment.offset + start - segment.physical))
            reached = end
    return extents
