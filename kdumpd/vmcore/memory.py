"""Physical memory of the crashed kernel, read from a vmcore by physical address.

PT_LOADs may overlap (x86_64 maps the kernel's text a second time) and need not be page aligned in the file. A stored
file is read by pread, which reports a read error where an mmap would kill the process; /proc/vmcore is mapped 4 MiB at
a time, since a pread there maps and unmaps every page. Called by everything that reads the crashed kernel's memory.
"""

from __future__ import annotations

import mmap
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, overload

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.elf import ElfCore

WINDOW = 4 << 20  # bytes mapped at a time; aligned in physical memory, so that going downwards hits it as well
WIDE = 32 << 20  # for a walk through all of mem_map: 64 KiB of page tables


class Range(NamedTuple):
    """Physical bytes from `start` up to, not including, `end`."""

    start: int
    end: int


class Ranges(Sequence[Range]):
    """Ranges that neither overlap nor touch, ascending, 16 bytes each: a big machine may have thousands."""

    def __init__(self, ascending: Iterable[tuple[int, int]]) -> None:
        """The same bytes as the ranges of `ascending`, which are sorted by their starts."""
        self.starts = array("Q")
        self.ends = array("Q")
        for start, end in ascending:
            if self.ends and start <= self.ends[-1]:
                self.ends[-1] = max(self.ends[-1], end)
            elif end > start:
                self.starts.append(start)
                self.ends.append(end)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Range: ...

    @overload
    def __getitem__(self, index: slice) -> Ranges: ...

    def __getitem__(self, index: int | slice) -> Range | Ranges:
        if isinstance(index, slice):
            return Ranges(zip(self.starts[index], self.ends[index], strict=True))
        return Range(self.starts[index], self.ends[index])


class _Extents:
    """What the file stores, ascending and without overlap; of bytes stored twice the lower segment's are taken."""

    def __init__(self, core: ElfCore) -> None:
        self.starts = array("Q")
        self.ends = array("Q")
        self.offsets = array("Q")
        reached = 0
        for segment in core.segments.ascending():
            start = max(segment.physical, reached)
            end = segment.physical + segment.file_size
            if start < end:
                self.starts.append(start)
                self.ends.append(end)
                self.offsets.append(segment.offset + start - segment.physical)
                reached = end


class Memory:
    """Physical memory over an open vmcore, merged and sorted: `ranges` is what its PT_LOADs cover.

    `stored_ranges` are the bytes of it that lie in the file; the others (p_memsz above p_filesz) read as zeros.
    """

    def __init__(self, fd: int, core: ElfCore, name: str, page_size: int = 4096) -> None:
        self.name = name
        self.page_size = page_size
        self.ranges = Ranges((s.physical, s.physical + s.memory_size) for s in core.segments.ascending())
        self._fd = fd
        self._extents = _Extents(core)
        self.stored_ranges = Ranges(zip(self._extents.starts, self._extents.ends, strict=True))
        self._start = self._end = 0  # the extent that was read from last: physical
        self._distance = 0  # from a physical address in it to the offset in the file
        self._buffer = bytearray()
        self._mapped = _of_procfs(fd)
        self._window: mmap.mmap | None = None
        self._reach = WINDOW
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
        if self._mapped:
            return self._gather(physical, size, self._through_window)
        if self._start <= physical and physical + size <= self._end:  # the quick way, which a scan takes by the million
            try:
                content = os.pread(self._fd, size, physical + self._distance)
            except OSError as error:
                raise self._unreadable(physical, physical + self._distance, error) from error
            if len(content) == size:
                return content
        return self.read(physical, size)

    def window(self, physical: int, size: int) -> tuple[bytes | bytearray | mmap.mmap, int]:
        """A buffer and where in it `size` bytes from `physical` begin; it holds them until anything else is read.

        For bulk reads: nothing is allocated, and of what is mapped nothing is copied.
        """
        if self._mapped and self._find_extent(physical):
            if not self._window_start <= physical < self._window_end:
                self._move_window(physical)
            if self._window is not None and physical + size <= self._window_end:
                return self._window, physical - self._window_start + self._window_skip
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        with memoryview(self._buffer) as buffer:
            filled = 0
            while filled < size:
                filled += self._read_into(buffer[filled:size], physical + filled)
        return self._buffer, 0

    @property
    def maps(self) -> bool:
        """Whether a window stays mapped while memory is gone through; of a stored file each view is a read."""
        return self._mapped

    @contextmanager
    def wide(self) -> Iterator[None]:
        """Inside of this more is mapped at a time, for who goes through much memory and looks at little of it."""
        self._reach = WIDE
        try:
            yield
        finally:
            self._reach = WINDOW
            self.close()

    def mapped(self, physical: int) -> tuple[mmap.mmap, int, int] | None:
        """What is mapped now from `physical` on, until anything else is read: a buffer, start and end in it."""
        if self._window is None or not self._window_start <= physical < self._window_end:
            return None
        skip = self._window_skip - self._window_start
        return self._window, physical + skip, self._window_end + skip

    def read_page(self, pfn: int) -> bytes:
        """Return a page; where the vmcore has only a part of it the rest is zeros."""
        start = pfn * self.page_size
        end = start + self.page_size
        if self._find_extent(start) and end <= self._end:
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
        for index in range(max(bisect_right(self.ranges.starts, start) - 1, 0), len(self.ranges)):
            range_start, range_end = self.ranges[index]
            if range_start >= end:
                break
            part = Range(max(range_start, start), min(range_end, end))
            if part.start < part.end:
                yield part

    def _gather(self, physical: int, size: int, piece: Callable[[int, int], bytes]) -> bytes:
        """Join pieces until `size` bytes are there."""
        pieces = []
        while size > 0:
            content = piece(physical, size)
            pieces.append(content)
            physical += len(content)
            size -= len(content)
        return b"".join(pieces)

    def _find_extent(self, physical: int) -> bool:
        """Make the extent that holds `physical` the current one; False if the file stores nothing there."""
        if self._start <= physical < self._end:
            return True
        extents = self._extents
        index = bisect_right(extents.starts, physical) - 1
        if index < 0 or physical >= extents.ends[index]:
            return False
        self._start, self._end = extents.starts[index], extents.ends[index]
        self._distance = extents.offsets[index] - self._start
        return True

    def _stored(self, physical: int, size: int) -> bytes:
        """Return at least 1 byte of what lies at `physical`, at most `size` bytes."""
        if not self._start <= physical < self._end and not self._find_extent(physical):
            return bytes(self._hole(physical, size))
        offset = physical + self._distance
        try:
            content = os.pread(self._fd, min(size, self._end - physical), offset)
        except OSError as error:
            raise self._unreadable(physical, offset, error) from error
        if not content and size:
            raise self._cut(physical, offset)
        return content

    def _read_into(self, buffer: memoryview, physical: int) -> int:
        """Fill at least 1 byte of `buffer` with what lies at `physical`, and return how many."""
        if self._mapped or not self._find_extent(physical):
            content = self._through_window(physical, len(buffer))
            buffer[: len(content)] = content
            return len(content)
        offset = physical + self._distance
        try:
            count = os.preadv(self._fd, [buffer[: self._end - physical]], offset)
        except OSError as error:
            raise self._unreadable(physical, offset, error) from error
        if not count:
            raise self._cut(physical, offset)
        return count

    def _hole(self, physical: int, size: int) -> int:
        """Return how many zero bytes are at `physical`: inside a PT_LOAD, but left out of the file."""
        for part in self.covered(physical, physical + size):
            if part.start == physical:
                starts = self._extents.starts
                index = bisect_right(starts, physical)
                following = starts[index] if index < len(starts) else part.end
                return min(part.end, following) - physical
            break
        raise self._absent(physical)

    def _through_window(self, physical: int, size: int) -> bytes:
        """Like `_stored`, by way of the window, which is moved to `physical` first."""
        if not self._mapped or not self._find_extent(physical):
            return self._stored(physical, size)
        if not self._window_start <= physical < self._window_end:
            self._move_window(physical)
            if self._window is None:
                return self._stored(physical, size)
        wanted = min(size, self._window_end - physical)
        return self.view(physical, wanted)

    def _move_window(self, physical: int) -> None:
        """Map what the current extent has around `physical`, which lies in it."""
        self.close()
        start = max(physical & -self._reach, self._start)
        end = min((physical & -self._reach) + self._reach, self._end)
        offset = start + self._distance
        skip = offset % mmap.ALLOCATIONGRANULARITY
        try:
            self._window = mmap.mmap(
                self._fd, end - start + skip, mmap.MAP_PRIVATE, mmap.PROT_READ, offset=offset - skip
            )
        except (OSError, ValueError):
            if self._reach > WINDOW:
                self._reach = WINDOW  # no room for so much, or for its page tables
                self._move_window(physical)
                return
            self._mapped = False  # an old kernel's /proc/vmcore: pread does as well, only slower
            return
        self._window_start, self._window_end, self._window_skip = start, end, skip

    def _unreadable(self, physical: int, offset: int, error: OSError) -> VmcoreError:
        return VmcoreError(f"{self.name}: physical {physical:#x} (offset {offset}) cannot be read: {error.strerror}")

    def _cut(self, physical: int, offset: int) -> VmcoreError:
        return VmcoreError(f"{self.name}: physical {physical:#x} (offset {offset}) lies past the end of the file")

    def _absent(self, physical: int) -> VmcoreError:
        return VmcoreError(f"{self.name}: physical {physical:#x} is in no PT_LOAD")


def _of_procfs(fd: int) -> bool:
    """Whether the open file is /proc/vmcore, and no file that somebody could cut while it is mapped."""
    try:
        return os.fstat(fd).st_dev == os.stat("/proc").st_dev
    except OSError:
        return False
