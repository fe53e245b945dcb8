"""Verifies a dump: everything in it is read, and whatever a reader would stumble over is a problem, a line each.

Called by `cli.verify`, `rehearse` and the tests. Memory is bounded by a window of the file. May import `dumpfile`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kdumpd.dumpfile import bitmap
from kdumpd.dumpfile import summary as note
from kdumpd.dumpfile.format import (
    COMPRESSION,
    DESCRIPTOR,
    MAX_MAPNR_32,
    RAW_CHECKED,
    Descriptor,
    Flags,
)
from kdumpd.dumpfile.reader import MACHINES, Dump
from kdumpd.errors import DumpError, VmcoreError
from kdumpd.vmcore.elf import AARCH64, X86_64
from kdumpd.vmcore.notes import notes_in
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo

READ_AHEAD = 1 << 20  # bytes of the file that are read at once; pages that follow each other share a read
MOST_PROBLEMS = 20  # as many are told, the others only counted
REPORT_EVERY = 1024  # pages

# What only the kernels of one machine write into VMCOREINFO (arch/*/kernel/vmcore_info.c).
MARKS = {X86_64: "NUMBER(phys_base)", AARCH64: "NUMBER(kimage_voffset)"}

Progress = Callable[[int, int], None]  # (pages done, pages in all)


class Verification(NamedTuple):
    """What `verify --json` prints. `pages` are those in bitmap 2; the seven numbers after it sum up to them.

    `zero` pages hold zeros alone, however they are stored; `unwritten` ones have no contents yet, `unreadable` ones are
    compressed by what Python has not (LZO, snappy). `unchecked` are the raw ones that nothing tells damage of, as in
    dumps by others. `checksum` (headers, notes, bitmaps, descriptors) is "good", "bad", or "none" where the writer left
    none. `verdict` is "good", "incomplete" (as the header says), "unchecked" (has unreadable pages) or "damaged".
    """

    file: str
    verdict: str
    size: int
    memory_pages: int
    pages: int
    zero: int
    raw: int
    zstd: int
    zlib: int
    unwritten: int
    unreadable: int
    damaged: int
    unchecked: int
    checksum: str
    problem_count: int
    problems: tuple[str, ...]


def verify(dump: Dump, progress: Progress | None = None) -> Verification:
    """What reading all of `dump` says about it; DumpError where it is cut before its descriptors end."""
    return _Verifying(dump, progress).run()


class _Verifying:
    def __init__(self, dump: Dump, progress: Progress | None) -> None:
        self._dump = dump
        self._progress = progress
        self._problems: list[str] = []
        self._problem_count = 0
        self._unchecked = 0
        self._window: tuple[int, bytes] = (0, b"")

    def run(self) -> Verification:
        dump = self._dump
        self._check_headers()
        memory_pages, pages = self._check_bitmaps()
        table_end = dump.layout.descriptors + pages * DESCRIPTOR.size
        if table_end > dump.size:
            raise DumpError(f"{dump.name}: its descriptors end at byte {table_end}, the file at {dump.size}: it is cut")
        checksum, zero = self._check_summary(pages)
        kinds = self._check_pages(pages)
        if kinds["zero"] + kinds["unwritten"] < zero:
            self._problem(f"{kinds['zero']} pages hold zeros alone where {zero} were left out for that")
        if kinds["unwritten"] and not dump.incomplete:
            self._problem(
                f"{kinds['unwritten']} pages were never written, but the header says that the dump is complete"
            )
        unreadable = "unchecked" if kinds["unreadable"] else "good"
        verdict = "damaged" if self._problem_count else "incomplete" if dump.incomplete else unreadable
        return Verification(
            dump.name,
            verdict,
            dump.size,
            memory_pages,
            pages,
            **kinds,
            unchecked=self._unchecked,
            checksum=checksum,
            problem_count=self._problem_count,
            problems=tuple(self._problems),
        )

    def _check_headers(self) -> None:
        dump, sub_header = self._dump, self._dump.sub_header
        if dump.header.cpus < 1:
            self._problem(f"the header says {dump.header.cpus} processors, which crash refuses")
        places = [note for note in notes_in(dump.notes) if note.owner == b"VMCOREINFO"]
        if not places:
            self._problem("the notes hold no VMCOREINFO: libkdumpfile and drgn cannot use the dump")
        elif (sub_header.vmcoreinfo_offset, sub_header.vmcoreinfo_size) not in [
            (sub_header.notes_offset + note.offset, note.size) for note in places
        ]:
            self._problem("the sub-header's VMCOREINFO is not the one in the notes: crash would read something else")
        if dump.header.version >= 6 and dump.header.max_mapnr != min(dump.frames, MAX_MAPNR_32):
            self._problem(f"the header says {dump.header.max_mapnr} page frames, the sub-header {dump.frames}")
        if places:
            try:
                self._check_against(dump.info)
            except VmcoreError as error:
                self._problem(str(error))

    def _check_against(self, info: VmcoreInfo) -> None:
        """The headers against what the crashed kernel wrote about itself."""
        header, sub_header = self._dump.header, self._dump.sub_header
        machine = MACHINES.get(header.utsname.machine)
        if machine is None:
            self._problem(f"the header names machine {header.utsname.machine!r}, neither x86_64 nor aarch64")
        elif info.value(MARKS[machine]) is None and any(info.value(mark) is not None for mark in MARKS.values()):
            self._problem(f"VMCOREINFO is not of {header.utsname.machine.decode()}, which the header names")
        if header.utsname.release != info.release.encode()[:64]:
            self._problem(f"the header is of kernel {header.utsname.release!r}, VMCOREINFO of {info.release!r}")
        if info.page_size != header.block_size:
            self._problem(f"blocks of {header.block_size} bytes, VMCOREINFO says pages of {info.page_size}")
        phys_base = info.number("phys_base")
        if machine == X86_64 and phys_base is not None and phys_base & (1 << 64) - 1 != sub_header.phys_base:
            self._problem(f"the sub-header says phys_base {sub_header.phys_base:#x}, VMCOREINFO {phys_base:#x}")

    def _check_bitmaps(self) -> tuple[int, int]:
        """Pages of memory and of the dump; what is dumped must be memory, and memory end where the headers say."""
        memory_pages = pages = stray = 0
        end = before = 0
        for memory, dumped in zip(self._dump.bitmap(1), self._dump.bitmap(2), strict=True):
            if bitmap.ZEROS.startswith(memory) and memory == dumped:
                before += 8 * len(memory)
                continue
            memory_bits, dumped_bits = int.from_bytes(memory, "little"), int.from_bytes(dumped, "little")
            memory_pages += memory_bits.bit_count()
            pages += dumped_bits.bit_count()
            stray += (dumped_bits & ~memory_bits).bit_count()
            end = before + memory_bits.bit_length() if memory_bits else end
            before += 8 * len(memory)
        if end != self._dump.frames:
            self._problem(f"memory ends at page frame {end:#x} in bitmap 1, at {self._dump.frames:#x} in the headers")
        if stray:
            self._problem(f"{stray} pages are in the dump (bitmap 2), but are no memory (bitmap 1)")
        return memory_pages, pages

    def _check_summary(self, pages: int) -> tuple[str, int]:
        """What the checksum says, and how many pages of zeros the writer left out."""
        try:
            summary = self._dump.summary
        except DumpError as error:
            self._problem(str(error))
            return "bad", 0
        if summary is None:
            if note.room(self._dump.notes) is not None and not self._dump.incomplete:
                self._problem("the KDUMPD note is empty, but the header says that the dump is complete")
            return "none", 0
        zero = summary.pages.get("zero", 0)
        if summary.pages.get("kept", pages) != pages:
            self._problem(f"the KDUMPD note says {summary.pages['kept']} pages, bitmap 2 {pages}")
        if self._dump.checksum() != summary.checksum:
            self._problem("the headers, notes, bitmaps or descriptors are not what was written: their checksum differs")
            return "bad", zero
        return "good", zero

    def _check_pages(self, total: int) -> dict[str, int]:
        kinds = dict.fromkeys(("zero", "raw", "zstd", "zlib", "unwritten", "unreadable", "damaged"), 0)
        shared: Descriptor | None = None  # the page that all pages of zeros share, as soon as it was seen
        names = {Flags.RAW: "raw", Flags.ZSTD: "zstd", Flags.ZLIB: "zlib"}
        foreign = (Flags.LZO, Flags.SNAPPY)
        zeros = bytes(self._dump.layout.block_size)
        for done, (pfn, descriptor) in enumerate(self._dump.pages()):
            if self._progress is not None and done % REPORT_EVERY == 0:
                self._progress(done, total)
            if descriptor.offset == 0:
                kinds["unwritten"] += 1
                continue
            if descriptor == shared:
                kinds["zero"] += 1
                continue
            try:
                if descriptor.flags & COMPRESSION in foreign and self._dump.compression in foreign:
                    self._dump.check(descriptor)
                    kinds["unreadable"] += 1
                    continue
                page = self._page(descriptor)
            except DumpError as error:
                kinds["damaged"] += 1
                self._problem(f"page frame {pfn:#x}: {error}")
                continue
            if not descriptor.flags & COMPRESSION and not descriptor.page_flags & RAW_CHECKED:
                self._unchecked += page != zeros
            if page == zeros:
                kinds["zero"] += 1
                shared = descriptor
            else:
                kinds[names[Flags(descriptor.flags & COMPRESSION)]] += 1
        if self._progress is not None:
            self._progress(total, total)
        return kinds

    def _page(self, descriptor: Descriptor) -> bytes:
        """Like `Dump.page`, through a window of the file."""
        self._dump.check(descriptor)
        start, window = self._window
        skip = descriptor.offset - start
        if not 0 <= skip <= len(window) - descriptor.size:
            near = start <= descriptor.offset <= start + len(window) + READ_AHEAD  # else ahead is nothing of use
            window, skip = self._dump.raw(descriptor.offset, READ_AHEAD if near else descriptor.size), 0
            self._window = (descriptor.offset, window)
        return self._dump.decompress(window[skip : skip + descriptor.size], descriptor)

    def _problem(self, text: str) -> None:
        prefix = f"{self._dump.name}: "
        self._problem_count += 1
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(text.replace(prefix, ""))
