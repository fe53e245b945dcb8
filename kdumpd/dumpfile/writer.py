"""Writes a dump in KDUMP format: header and notes, both bitmaps, the descriptors' place, then the pages.

The file is made under the name it is given (never an existing one) and says "incomplete" in its header until every
page and descriptor is on the disk; what was written by then is readable at any time. Naming it is the caller's affair
(`capture.save`). May import `vmcore`, `scan.selection` and `policy.model`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import zlib
from collections.abc import Callable
from typing import NamedTuple

from kdumpd.dumpfile import bitmap, sparse, summary, workers
from kdumpd.dumpfile.compress import FLAG
from kdumpd.dumpfile.format import DESCRIPTOR, Flags, Header, Layout, SubHeader
from kdumpd.dumpfile.pages import ChunkDone, PagePlan, PageSource, PageWriter, write_all
from kdumpd.dumpfile.tokens import LocalToken, PipeToken
from kdumpd.errors import DumpError, ScanError, VmcoreError, WorkerError
from kdumpd.policy.model import Compression, PageKind
from kdumpd.scan.selection import BitmapSink, PageCounts
from kdumpd.vmcore.architecture import MACHINE_NAMES
from kdumpd.vmcore.vmcore import Uname, Vmcore

MOST_JOBS = 16  # more processes than this wait for the disk, not for a processor


class WriteOptions(NamedTuple):
    """How a dump is written; `level` is what the scan leaves out, and `zero_excluded` (level bit 1) ours to do."""

    level: PageKind
    compression: Compression
    jobs: int
    zero_excluded: bool


class Progress(NamedTuple):
    """How far the writer is: pages written and in all, bytes of file."""

    pages: int
    total: int
    size: int


class DumpReport(NamedTuple):
    """What was written: sizes in bytes, times in seconds. `zero` and `raw` pages are among the `pages`.

    `smallest` is the size that the file could not have gone below: everything but the pages' contents. `trouble` is why
    not all pages came from the source that was given, "" where they did.
    """

    counts: PageCounts
    pages: int
    zero: int
    raw: int
    size: int
    smallest: int
    jobs: int
    select_seconds: float
    write_seconds: float
    sync_seconds: float
    trouble: str = ""


def automatic_jobs() -> int:
    """One worker for each processor that this process may use."""
    return max(1, min(workers.usable_processors(), MOST_JOBS))


def write_dump(
    core: Vmcore,
    output: str,
    options: WriteOptions,
    select: Callable[[BitmapSink], PageCounts],
    progress: Callable[[Progress], None] | None,
    source: Callable[[], PageSource | None] = lambda: None,
) -> DumpReport:
    """Make `output` a complete, synced dump of the pages that `select` puts into bitmap 2.

    `source`, asked after that, is where the pages are read; None is the vmcore.
    Raises DumpError where the file cannot be written or memory cannot be read: the file then stays, flagged incomplete.
    Raises what `select` raises.
    """
    try:
        fd = os.open(output, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DumpError(f"{output}: cannot be made: {error.strerror}; {_advice(error)}") from error
    try:
        writing = _Writing(core, fd, options, progress)
        try:
            return writing.run(select, source)
        except OSError as error:
            what = f"{error.strerror or error}; {_advice(error)}"
            raise DumpError(f"{output}: cannot be written: {what}; {writing.state()}") from error
        except (VmcoreError, DumpError) as error:
            kind = WorkerError if isinstance(error, WorkerError) else DumpError
            raise kind(f"{output}: left incomplete: {error}; {writing.state()}") from error
    finally:
        os.close(fd)


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room there or give another target"
    if error.errno == errno.EEXIST:
        return "remove it or give another name"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "make its directory first"
    return "look at that file system and the kernel's log"


def _uname(core: Vmcore) -> Uname:
    """The crashed kernel's name; where its memory does not tell, what VMCOREINFO and the ELF header do."""
    try:
        return core.uname
    except VmcoreError:
        machine = MACHINE_NAMES[core.machine].encode()
        return Uname(b"Linux", b"", core.info.release.encode(), b"", machine, b"")


def _phys_base(core: Vmcore) -> int:
    """As the sub-header has it: negative, on 64 bits, where KASLR moved the text below its link address."""
    try:
        return core.phys_base & 0xFFFFFFFFFFFFFFFF
    except VmcoreError:
        return 0  # readers find it in VMCOREINFO, or not at all


class _Writing:
    """One dump while it is written."""

    def __init__(
        self, core: Vmcore, fd: int, options: WriteOptions, progress: Callable[[Progress], None] | None
    ) -> None:
        self._core = core
        self._fd = fd
        self._options = options
        self._progress = progress
        self._block = core.page_size
        self._notes = summary.with_room(core.elf.notes)
        self._uname = _uname(core)
        self._frames = core.max_pfn
        self._layout = Layout.plan(self._block, len(self._notes), self._frames)
        self._total = ChunkDone()
        self._wanted = self._smallest = 0  # pages, bytes; known when bitmap 2 is

    def state(self) -> str:
        """How much of the dump there is, for an error."""
        if not self._smallest:
            return "no page is in it"
        need = f"it takes {self._smallest:,} bytes without them"
        return f"{self._total.pages:,} of {self._wanted:,} pages are in it, {need}"

    def run(self, select: Callable[[BitmapSink], PageCounts], source: Callable[[], PageSource | None]) -> DumpReport:
        start = time.monotonic()
        self._write_headers(Flags.INCOMPLETE)
        self._write_bitmap_1()
        sink = Bitmap2(self._fd, self._layout, self._frames)
        counts = select(sink)
        sink.close()
        selected = time.monotonic()

        table_end = self._layout.descriptors + sink.pages * DESCRIPTOR.size
        zero_page = table_end if self._options.zero_excluded else 0
        smallest = table_end + (self._block if zero_page else 0)
        self._wanted, self._smallest = sink.pages, smallest
        self._allocate(smallest)
        if zero_page:
            write_all(self._fd, bytes(self._block), zero_page)
        plan = PagePlan(self._fd, self._layout, self._frames, self._options.compression, zero_page)
        self._write_pages(plan, smallest, sink.pages, source())
        if self._total.pages != sink.pages:
            raise DumpError(f"{self._total.pages} pages were written where bitmap 2 has {sink.pages}")
        written = time.monotonic()
        self._complete(counts, table_end)
        return DumpReport(
            counts,
            self._total.pages,
            self._total.zero,
            self._total.raw,
            os.fstat(self._fd).st_size,
            smallest,
            self._options.jobs,
            selected - start,
            written - selected,
            time.monotonic() - written,
            self._total.trouble,
        )

    def _write_headers(self, status: Flags) -> None:
        """Header, sub-header and notes; the bytes of block 0 go out in one write."""
        write_all(self._fd, self._sub_header().pack() + self._notes, self._layout.block_size)
        write_all(self._fd, self._header(status), 0)

    def _header(self, status: Flags) -> bytes:
        """Block 0."""
        core, layout = self._core, self._layout
        return (
            Header(
                version=6,
                utsname=self._uname,
                seconds=core.crash_time or 0,
                microseconds=0,
                status=status | FLAG[self._options.compression.kind],
                block_size=self._block,
                sub_header_blocks=layout.sub_header_blocks,
                bitmap_blocks=layout.bitmap_blocks,
                max_mapnr=self._frames,
                cpus=max(1, core.elf.prstatus_count),
            )
            .pack()
            .ljust(self._block, b"\0")
        )

    def _sub_header(self) -> SubHeader:
        core, layout = self._core, self._layout
        vmcoreinfo_offset, vmcoreinfo_size = core.elf.vmcoreinfo
        return SubHeader(
            phys_base=_phys_base(core),
            dump_level=int(self._options.level),
            split=0,
            start_pfn=0,
            end_pfn=0,
            vmcoreinfo_offset=layout.notes + vmcoreinfo_offset,
            vmcoreinfo_size=vmcoreinfo_size,
            notes_offset=layout.notes,
            notes_size=len(self._notes),
            eraseinfo_offset=0,
            eraseinfo_size=0,
            start_pfn_64=0,
            end_pfn_64=0,
            max_mapnr_64=self._frames,
        )

    def _write_bitmap_1(self) -> None:
        block, position = self._block, self._layout.bitmap_1
        runs: list[tuple[int, int]] = []
        for extent in self._core.memory.ranges:
            first = extent.start // block
            runs.append((first, -(-extent.end // block) - first))
        for window in bitmap.of_runs(runs, self._frames):
            if bitmap.count(window):  # what is not written reads as zeros
                write_all(self._fd, window, position)
            position += len(window)
        os.ftruncate(self._fd, self._layout.descriptors)

    def _allocate(self, size: int) -> None:
        """Make sure that the disk has room for everything but the pages, before the first page is compressed.

        What comes before the descriptors is written already, and the holes in the bitmaps stay holes.
        """
        start = self._layout.descriptors
        try:
            os.posix_fallocate(self._fd, start, size - start)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            os.ftruncate(self._fd, size)

    def _write_pages(self, plan: PagePlan, data: int, total: int, source: PageSource | None) -> None:
        memory = self._core.memory

        def receive(message: bytes) -> None:
            self._total = self._total.plus(ChunkDone.unpack(message))
            if self._progress is not None:
                self._progress(Progress(self._total.pages, total, data + self._total.size))

        if self._options.jobs == 1:
            PageWriter(memory, plan, LocalToken(0), LocalToken(data), source).work(receive)
            return
        with contextlib.closing(PipeToken(0)) as place, contextlib.closing(PipeToken(data)) as space:
            page_writer = PageWriter(memory, plan, place, space, source)
            workers.run(self._options.jobs, page_writer.work, receive)

    def _complete(self, counts: PageCounts, table_end: int) -> None:
        """Sync the contents, and only then say that the dump is complete."""
        # The file still has the unfinished header, and an empty note.
        checksum = sparse.checksum(self._fd, self._block, table_end, zlib.crc32(self._header(Flags(0))))
        self._notes = summary.filled(
            self._notes,
            summary.Summary.of(int(self._options.level), counts, self._total.zero, checksum),
        )
        os.fdatasync(self._fd)
        self._write_headers(Flags(0))
        os.fsync(self._fd)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)  # the capture kernel needs the memory more


class Bitmap2:
    """The sink that puts bitmap 2 into the file as it comes, and counts the pages in it."""

    def __init__(self, fd: int, layout: Layout, frames: int) -> None:
        self._fd = fd
        self._start = layout.bitmap_2
        self._size = -(-frames // 8)
        self._frames = frames
        self._written = 0
        self.pages = 0

    def write(self, bits: bytes) -> None:
        """Append the next `8 * len(bits)` page frames; ScanError where they go past the last one."""
        if self._written + len(bits) > self._size:
            raise ScanError(f"the scan found more page frames than the {self._frames} that the PT_LOADs cover")
        pages = bitmap.count(bits)
        if pages:
            write_all(self._fd, bits, self._start + self._written)
        self._written += len(bits)
        self.pages += pages

    def close(self) -> None:
        """ScanError where the scan ended early, since every page after that would be missing."""
        if self._written != self._size:
            raise ScanError(f"the scan ended at page frame {self._written * 8} of {self._frames}")
