"""The pages of a dump: taken by the thousand, compressed, and put into the file with their descriptors.

One `PageWriter` is what a worker runs; a `PageSource` is where it reads. Two tokens are all that workers share: the
place in bitmap 2 (with the descriptor that belongs to it), and the end of the file. Called by `dumpfile.writer`. May
import `vmcore`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple, Protocol

from kdumpd.dumpfile import bitmap, sparse
from kdumpd.dumpfile.bitmap import Run
from kdumpd.dumpfile.compress import FLAG, Compress, Piece, compressor, keep_freed_memory
from kdumpd.dumpfile.format import DESCRIPTOR, RAW_CHECKED, Layout, pack_descriptors
from kdumpd.dumpfile.tokens import Token
from kdumpd.errors import ScanError, VmcoreError
from kdumpd.policy.model import Compression
from kdumpd.vmcore.memory import Memory

CHUNK_BYTES = 1 << 20  # of memory that a worker takes at once: 256 pages of 4 KiB
CHUNK_PAGES = 256
LONGEST_TROUBLE = 500  # letters
DROP_EVERY, DROP_BEHIND = 4 << 20, 64 << 20  # bytes: how often the page cache is dropped, and how far back


CHUNK_DONE = struct.Struct("=QQQQ")


class ChunkDone(NamedTuple):
    """What became of a chunk: pages in all, of zeros, stored raw; bytes of file they took.

    `trouble` is why this worker reads from the vmcore itself from here on, "" as long as there is no reason.
    """

    pages: int = 0
    zero: int = 0
    raw: int = 0
    size: int = 0
    trouble: str = ""

    def pack(self) -> bytes:
        return CHUNK_DONE.pack(*self[:4]) + self.trouble.encode("utf-8", "replace")

    @classmethod
    def unpack(cls, message: bytes) -> ChunkDone:
        pages, zero, raw, size = CHUNK_DONE.unpack_from(message)
        return cls(pages, zero, raw, size, message[CHUNK_DONE.size :].decode("utf-8", "replace"))

    def plus(self, more: ChunkDone) -> ChunkDone:
        """Both together; of two troubles the first."""
        pages, zero, raw, size = (one + another for one, another in zip(self[:4], more[:4], strict=True))
        return ChunkDone(pages, zero, raw, size, self.trouble or more.trouble)


class PageSource(Protocol):
    """Where the contents of pages come from. Used by forked workers, each with the memory of its own that it was."""

    def pages(self, runs: list[Run]) -> list[memoryview]:
        """The pages of these runs in their order, a view of no bytes for one of zeros; good until the next call.

        VmcoreError where memory cannot be read, ScanError where this source cannot go on and another might.
        """


class VmcorePages:
    """Pages as the vmcore has them."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._zero = bytes(memory.page_size)

    def pages(self, runs: list[Run]) -> list[memoryview]:
        """As PageSource; a run is read at once."""
        pages: list[memoryview] = []
        view, block, zero, nothing = self._memory.view, self._memory.page_size, self._zero, memoryview(b"")
        for first, count in runs:
            size = count * block
            try:
                content = view(first * block, size)
            except VmcoreError:  # a PT_LOAD that begins or ends inside a page
                read_page = self._memory.read_page
                content = b"".join([read_page(pfn) for pfn in range(first, first + count)])
            window, is_zero = memoryview(content), content.startswith
            pages += [
                nothing if is_zero(zero, position) else window[position : position + block]
                for position in range(0, size, block)
            ]
        return pages


class PagePlan(NamedTuple):
    """What every worker knows: the open file, its layout, the number of page frames that its bitmaps cover.

    `zero_page` is the offset of the page that all pages of zeros share, 0 where they are written like others.
    """

    fd: int
    layout: Layout
    frames: int
    compression: Compression
    zero_page: int


class PageWriter:
    """Writes chunks of pages until bitmap 2 ends."""

    def __init__(
        self, memory: Memory, plan: PagePlan, place: Token, space: Token, source: PageSource | None = None
    ) -> None:
        """`source` None is the vmcore, which also takes over from a source that fails."""
        self._vmcore = VmcorePages(memory)
        self._source = source or self._vmcore
        self._trouble = ""
        self._plan = plan
        self._place = place
        self._space = space
        self._zero = bytes(plan.layout.block_size)
        self._zero_check = RAW_CHECKED | zlib.crc32(self._zero)
        self._chunk_pages = min(CHUNK_PAGES, CHUNK_BYTES // plan.layout.block_size)

    def work(self, report: Callable[[bytes], None]) -> None:
        """Write chunks while there are any. Raises VmcoreError for memory and OSError for the file."""
        fd, layout = self._plan.fd, self._plan.layout
        block, zero_page, flag = layout.block_size, self._plan.zero_page, FLAG[self._plan.compression.kind]
        keep_freed_memory()
        compress = compressor(self._plan.compression)
        behind = WriteBehind(fd)
        while True:
            pfn, index = self._place.take()
            runs, pfn, count = self._next_runs(pfn)
            self._place.give(pfn, index + count)
            if not count:
                return
            pieces = self._pieces(runs, compress)
            sizes = list(map(len, pieces))
            checks = [self._check(piece) for piece in pieces]
            data = b"".join(pieces)
            del pieces
            offset, _ = self._space.take()
            self._space.give(offset + len(data))
            write_all(fd, data, offset)
            offsets = list(accumulate(sizes, initial=offset))
            offsets.pop()
            zeros = sizes.count(0)
            if zeros:  # a piece of no bytes stands for a page of zeros
                offsets = [start if size else zero_page for start, size in zip(offsets, sizes, strict=True)]
                sizes = [size or block for size in sizes]
            descriptors = pack_descriptors(offsets, sizes, checks, flag, block)
            write_all(fd, descriptors, layout.descriptors + index * DESCRIPTOR.size)
            behind.wrote(offset, len(data))
            report(ChunkDone(count, zeros, sizes.count(block) - zeros, len(data), self._trouble).pack())

    def _check(self, piece: Piece) -> int:
        """The `page_flags` of a page: a checksum where it is raw, since a compressed one has its own inside."""
        size = len(piece)
        if size == self._plan.layout.block_size:
            return RAW_CHECKED | zlib.crc32(piece)
        return 0 if size else self._zero_check

    def _next_runs(self, pfn: int) -> tuple[list[Run], int, int]:
        """The runs of one chunk from `pfn` on, the page frame after them, and how many pages they hold."""
        wanted, end = self._chunk_pages, self._plan.frames
        chosen: list[Run] = []
        while pfn < end:
            place = self._plan.layout.bitmap_2 + pfn // 8
            data = sparse.next_data(self._plan.fd, place, self._plan.layout.bitmap_2 + -(-end // 8))
            start = pfn & ~7
            if data > place:  # a hole: no page until there
                start = pfn = start + (data - place) * 8
                if pfn >= end:
                    break
            bits = os.pread(self._plan.fd, bitmap.WINDOW, data)
            bits = bits[: -(-(end - start) // 8)]
            for first, count in bitmap.runs(bits, start):
                if first < pfn:
                    count -= pfn - first
                    first = pfn
                if count <= 0:
                    continue
                if count >= wanted:
                    chosen.append((first, wanted))
                    return chosen, first + wanted, self._chunk_pages
                chosen.append((first, count))
                wanted -= count
            pfn = start + len(bits) * 8
        return chosen, end, self._chunk_pages - wanted

    def _pieces(self, runs: list[Run], compress: Compress) -> list[Piece]:
        """Each page compressed, or as it is where that is not smaller; nothing for a page of zeros that is shared."""
        pages, block = self._pages(runs), self._plan.layout.block_size
        if not self._plan.zero_page:
            zero = memoryview(self._zero)
            pages = [page or zero for page in pages]
        full = [page for page in pages if page]
        pieces: list[Piece] = [
            piece if len(piece) < block else page for page, piece in zip(full, compress(full), strict=True)
        ]
        if len(full) == len(pages):
            return pieces
        following = iter(pieces)
        return [next(following) if page else page for page in pages]

    def _pages(self, runs: list[Run]) -> list[memoryview]:
        """What the source has; from its first failure on what the vmcore has."""
        try:
            return self._source.pages(runs)
        except ScanError as error:
            self._source = self._vmcore
            self._trouble = str(error)[:LONGEST_TROUBLE]
            return self._source.pages(runs)


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of it at `offset`; OSError where the file cannot take it."""
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], offset + written)


class WriteBehind:
    """Has what a worker wrote written back at once and dropped from the page cache soon after, waiting for nothing.

    So a capture kernel's few megabytes never fill up with a dump, and the final sync has little left to do.
    POSIX_FADV_DONTNEED starts to write dirty pages back without waiting, and drops clean ones (mm/fadvise.c); those
    that a slow disk has not taken by then are dropped by one of the later calls, and the kernel bounds their number.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = 0

    def wrote(self, offset: int, size: int) -> None:
        """Bytes were written there."""
        if not size:
            return
        os.posix_fadvise(self._fd, offset, size, os.POSIX_FADV_DONTNEED)
        self._size += size
        if self._size >= DROP_EVERY:
            start = max(0, offset - DROP_BEHIND)
            os.posix_fadvise(self._fd, start, offset - start, os.POSIX_FADV_DONTNEED)
            self._size = 0
