"""Verifies a dump: everything in it is read, and whatever a reader would stumble over is a problem, a line each.

Called by `cli.verify`, `rehearse` and the tests. Memory is bounded by a window of the file. May import `dumpfile`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kdumpd.dumpfile.format import COMPRESSION, DESCRIPTOR, Descriptor, Flags, notes_in
from kdumpd.dumpfile.reader import Dump
from kdumpd.errors import DumpError

READ_AHEAD = 1 << 20  # bytes of the file that are read at once; pages that follow each other share a read
MOST_PROBLEMS = 20  # as many are told, the others only counted
REPORT_EVERY = 1024  # pages

Progress = Callable[[int, int], None]  # (pages done, pages in all)


class Verification(NamedTuple):
    """What `verify --json` prints. `pages` are those in bitmap 2; the six numbers after it sum up to them.

    `zero` pages hold zeros alone, however they are stored; `unwritten` ones have no contents yet. `checksum` is "good",
    "bad", or "none" where the writer left none. `verdict` is "good", "incomplete" (as the header says) or "damaged".
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
    damaged: int
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
        self._window: tuple[int, bytes] = (0, b"")

    def run(self) -> Verification:
        dump = self._dump
        self._check_headers()
        memory_pages, pages = self._check_bitmaps()
        table_end = dump.layout.descriptors + pages * DESCRIPTOR.size
        if table_end > dump.size:
            raise DumpError(f"{dump.name}: its descriptors end at byte {table_end}, the file at {dump.size}: it is cut")
        checksum = self._check_summary(pages)
        kinds = self._check_pages(pages)
        if kinds["unwritten"] and not dump.incomplete:
            self._problem(
                f"{kinds['unwritten']} pages were never written, but the header says that the dump is complete"
            )
        verdict = "damaged" if self._problem_count else "incomplete" if dump.incomplete else "good"
        return Verification(
            dump.name,
            verdict,
            dump.size,
            memory_pages,
            pages,
            **kinds,
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

    def _check_bitmaps(self) -> tuple[int, int]:
        """Pages of memory and of the dump; what is dumped must be memory."""
        memory_pages = pages = stray = 0
        for memory, dumped in zip(self._dump.bitmap(1), self._dump.bitmap(2), strict=True):
            memory_bits, dumped_bits = int.from_bytes(memory, "little"), int.from_bytes(dumped, "little")
            memory_pages += memory_bits.bit_count()
            pages += dumped_bits.bit_count()
            stray += (dumped_bits & ~memory_bits).bit_count()
        if stray:
            self._problem(f"{stray} pages are in the dump (bitmap 2), but are no memory (bitmap 1)")
        return memory_pages, pages

    def _check_summary(self, pages: int) -> str:
        try:
            summary = self._dump.summary
        except DumpError as error:
            self._problem(str(error))
            return "bad"
        if summary is None:
            return "none"
        if summary.pages.get("kept", pages) != pages:
            self._problem(f"the KDUMPD note says {summary.pages['kept']} pages, bitmap 2 {pages}")
        if self._dump.checksum() != summary.checksum:
            self._problem("the bitmaps or descriptors are not what was written: their checksum differs")
            return "bad"
        return "good"

    def _check_pages(self, total: int) -> dict[str, int]:
        kinds = dict.fromkeys(("zero", "raw", "zstd", "zlib", "unwritten", "damaged"), 0)
        shared: Descriptor | None = None  # the page that all pages of zeros share, as soon as it was seen
        names = {Flags.RAW: "raw", Flags.ZSTD: "zstd", Flags.ZLIB: "zlib"}
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
                page = self._page(descriptor)
            except DumpError as error:
                kinds["damaged"] += 1
                self._problem(f"page frame {pfn:#x}: {error}")
                continue
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
            window, skip = self._dump.raw(descriptor.offset, READ_AHEAD), 0
            self._window = (descriptor.offset, window)
        return self._dump.decompress(window[skip : skip + descriptor.size], descriptor.flags)

    def _problem(self, text: str) -> None:
        prefix = f"{self._dump.name}: "
        self._problem_count += 1
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(text.replace(prefix, ""))
