"""Reads a dump in KDUMP format, ours or makedumpfile's, without believing a number in it.

What is held in memory does not grow with the dump: the bitmap is read in windows, and a page's descriptor is found by a
sum over bits that is kept for every window passed. Called by `verify`, `info`, `dmesg` and the tests. May import
`vmcore` and `scan.selection`.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from stat import S_ISREG

import zstandard

from kdumpd.dumpfile import bitmap, sparse, summary
from kdumpd.dumpfile.format import (
    COMPRESSION,
    DESCRIPTOR,
    HEADER,
    LARGEST_BLOCK,
    MAX_NOTES,
    RAW_CHECKED,
    SMALLEST_BLOCK,
    SUB_HEADER,
    Descriptor,
    Flags,
    Header,
    Layout,
    SubHeader,
)
from kdumpd.errors import DumpError, VmcoreError
from kdumpd.vmcore.elf import AARCH64, X86_64
from kdumpd.vmcore.notes import notes_in
from kdumpd.vmcore.opened import OpenedFile
from kdumpd.vmcore.paging import PageTables, page_tables
from kdumpd.vmcore.printk import messages
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo

MACHINES = {b"x86_64": X86_64, b"aarch64": AARCH64}
PHYSICAL_BITS = 52  # of the widest processor; a dump that claims more page frames lies
CHUNK = 1024  # descriptors read at once


class Dump(OpenedFile):
    """An open dump, DumpError when it is none. Its headers and bitmaps lie inside the file; nothing more is checked."""

    def _begin(self) -> None:
        self._sums = [0]  # of bits in bitmap 2 before each window, as far as they were needed
        self._window: tuple[int, bytes] = (-1, b"")
        self._tables: PageTables | None = None
        self._zstd = zstandard.ZstdDecompressor()
        status = os.fstat(self._fd)
        if not S_ISREG(status.st_mode):
            raise self._damaged("no file that could be read anywhere; give a dump in a file")
        self.size = status.st_size
        self._read_headers()

    def _read_headers(self) -> None:
        try:
            header = self.header = Header.unpack(self.raw(0, HEADER.size))
            block = header.block_size
            if not SMALLEST_BLOCK <= block <= LARGEST_BLOCK or block & block - 1:
                raise DumpError(f"a block size of {block} bytes; 4096, 16384 or 65536 would be right")
            sub_header = self.sub_header = SubHeader.unpack(self.raw(block, SUB_HEADER.size))
        except DumpError as error:
            raise self._damaged(str(error)) from None
        if sub_header.split:
            raise self._damaged("a part of a split dump; join the parts with makedumpfile --reassemble")
        if header.sub_header_blocks < 1 or header.bitmap_blocks < 2:
            raise self._damaged(
                f"{header.sub_header_blocks} blocks of sub-header and {header.bitmap_blocks} of bitmaps: one and two "
                "are the least"
            )
        self.layout = Layout(block, header.sub_header_blocks, header.bitmap_blocks)
        self.frames = sub_header.max_mapnr_64 if header.version >= 6 else header.max_mapnr
        if self.frames > (1 << PHYSICAL_BITS) // block or self.frames > self.layout.bitmap_size * 8:
            raise self._damaged(
                f"{self.frames} page frames, more than a bitmap of {self.layout.bitmap_size} bytes holds"
            )
        if self.layout.descriptors > self.size:
            raise self._damaged(
                f"its bitmaps end at byte {self.layout.descriptors}, the file at {self.size}: it is cut"
            )
        start, size = sub_header.notes_offset, sub_header.notes_size
        if header.version < 4 or not size:
            raise self._damaged("it has no ELF notes (header version 4 and newer have them)")
        if size > MAX_NOTES or start < block + SUB_HEADER.size or start + size > self.layout.bitmap_1:
            raise self._damaged(f"{size} bytes of notes at byte {start} do not lie inside the sub-header")
        self.notes = self._read(start, size, "notes")

    @property
    def incomplete(self) -> bool:
        """Whether the header says that the dump was not written to its end."""
        return bool(self.header.status & Flags.INCOMPLETE)

    @property
    def compression(self) -> Flags:
        """What the header says pages are compressed by."""
        return self.header.status & COMPRESSION

    @property
    def summary(self) -> summary.Summary | None:
        """What kdumpd wrote about the dump; None in a peer's or incomplete one. DumpError where it is damaged."""
        try:
            return summary.read(self.notes)
        except DumpError as error:
            raise DumpError(f"{self.name}: {error}") from error

    @property
    def vmcoreinfo(self) -> bytes:
        """The text of VMCOREINFO, from the notes as libkdumpfile takes it; DumpError where there is none."""
        for note in notes_in(self.notes):
            if note.owner == b"VMCOREINFO":
                return self.notes[note.offset : note.offset + note.size]
        raise self._damaged("its notes hold no VMCOREINFO")

    @property
    def info(self) -> VmcoreInfo:
        return VmcoreInfo(self.vmcoreinfo, self.name)

    @property
    def machine(self) -> int:
        """The ELF machine; DumpError for one that kdumpd does not know."""
        machine = MACHINES.get(self.header.utsname.machine)
        if machine is None:
            raise self._damaged(f"machine {self.header.utsname.machine[:64]!r} is neither x86_64 nor aarch64")
        return machine

    def bitmap(self, number: int) -> Iterator[bytes]:
        """Bitmap 1 (what is memory) or 2 (what is in the dump) in windows, ascending from page frame 0."""
        start = self.layout.bitmap_1 if number == 1 else self.layout.bitmap_2
        size = -(-self.frames // 8)
        for position in range(0, size, bitmap.WINDOW):
            yield self._bits(start + position, min(bitmap.WINDOW, size - position), f"bitmap {number}")

    def pages(self) -> Iterator[tuple[int, Descriptor]]:
        """Each page frame of bitmap 2 with its descriptor, ascending."""
        index = pfn = 0
        for window in self.bitmap(2):
            for first, count in bitmap.runs(window, pfn):
                for start in range(first, first + count, CHUNK):
                    number = min(CHUNK, first + count - start)
                    table = self._read(self._descriptor_at(index), number * DESCRIPTOR.size, "descriptors")
                    for frame, fields in enumerate(DESCRIPTOR.iter_unpack(table), start):
                        yield frame, Descriptor(*fields)
                    index += number
            pfn += len(window) * 8

    def descriptor(self, pfn: int) -> Descriptor | None:
        """The descriptor of a page; None where the dump leaves the page out."""
        if not 0 <= pfn < self.frames:
            return None
        number, bit = divmod(pfn, bitmap.WINDOW * 8)
        window = self._bitmap_2(number)
        if not window[bit >> 3] >> (bit & 7) & 1:
            return None
        while len(self._sums) <= number:
            self._sums.append(self._sums[-1] + bitmap.count(self._bitmap_2(len(self._sums) - 1)))
        before = int.from_bytes(window[: bit // 8 + 1], "little") & ((1 << bit) - 1)
        index = self._sums[number] + before.bit_count()
        fields = DESCRIPTOR.unpack(self._read(self._descriptor_at(index), DESCRIPTOR.size, "descriptor"))
        return Descriptor(*fields)

    def page(self, descriptor: Descriptor) -> bytes:
        """The page behind a descriptor, a block long; DumpError where it is damaged or was never written."""
        self.check(descriptor)
        return self.decompress(self._read(descriptor.offset, descriptor.size, "page"), descriptor)

    def check(self, descriptor: Descriptor) -> None:
        """DumpError where a descriptor cannot be true."""
        offset, size, flags, _ = descriptor
        block = self.layout.block_size
        if offset == 0:
            raise self._damaged("the page was not written: the dump is incomplete")
        if not self.layout.descriptors <= offset or offset + size > self.size:
            raise self._damaged(f"a descriptor names bytes {offset} to {offset + size} of a file of {self.size}")
        if not 0 < size <= block or (not flags & COMPRESSION and size != block):
            raise self._damaged(f"a descriptor names a page of {size} bytes (flags {flags:#x}), a block has {block}")

    def decompress(self, piece: bytes, descriptor: Descriptor) -> bytes:
        """A page from its piece of the file; DumpError where that does not make exactly a block, or another one."""
        kind, block = Flags(descriptor.flags & COMPRESSION), self.layout.block_size
        try:
            if kind == Flags.ZSTD:
                # The size in a frame's header is allocated before anything is decompressed: look at it first.
                if zstandard.frame_content_size(piece) not in (block, -1):
                    raise self._damaged("a zstd frame that does not hold a block")
                page = self._zstd.decompress(piece, max_output_size=block, allow_extra_data=False)
            elif kind == Flags.ZLIB:
                stream = zlib.decompressobj()
                page = stream.decompress(piece, block)
                if not stream.eof or stream.unused_data:
                    raise self._damaged("a zlib stream that does not hold exactly a block")
            elif kind == Flags.RAW:
                page = piece
                if descriptor.page_flags & RAW_CHECKED and zlib.crc32(page) != descriptor.page_flags & RAW_CHECKED - 1:
                    raise self._damaged("a raw page is not what was written: its checksum differs")
            else:
                raise DumpError(
                    f"{self.name}: a page is compressed by {kind.name or 'several ways'}, which kdumpd cannot read; "
                    "use crash or drgn"
                )
        except (zstandard.ZstdError, zlib.error) as error:
            raise self._damaged(f"a page does not decompress: {error}") from error
        if len(page) != block:
            raise self._damaged(f"a page decompresses to {len(page)} bytes, a block has {block}")
        return page

    def read_page(self, pfn: int) -> bytes:
        """The page at page frame `pfn`; DumpError where the dump does not hold it."""
        descriptor = self.descriptor(pfn)
        if descriptor is None:
            raise DumpError(f"{self.name}: page frame {pfn:#x} is not in the dump")
        return self.page(descriptor)

    def read(self, physical: int, size: int) -> bytes:
        """`size` bytes of physical memory; VmcoreError where a page is missing or damaged, as from any memory."""
        block = self.layout.block_size
        first, skip = divmod(physical, block)
        last = (physical + size - 1) // block
        try:
            content = b"".join([self.read_page(pfn) for pfn in range(first, last + 1)])
        except DumpError as error:
            raise VmcoreError(str(error)) from error
        return content[skip : skip + size]

    def read_virtual(self, address: int, size: int) -> bytes:
        """`size` bytes of the crashed kernel's virtual memory, by the page tables in the dump."""
        if self._tables is None:
            self._tables = page_tables(self.machine, self.info, self.read)
        return self._tables.read(address, size)

    def dmesg(self) -> Iterator[bytes]:
        """The lines of the kernel's log, oldest first."""
        return messages(self.info, self.read_virtual, self.machine)

    def checksum(self) -> int:
        """CRC-32 from the file's start to the last descriptor, as `Summary.checksum` has it; 0 without our note."""
        place = summary.room(self.notes)
        if place is None:
            return 0
        total = sum(bitmap.count(window) for window in self.bitmap(2))
        start = self.sub_header.notes_offset + place
        crc = zlib.crc32(bytes(summary.SIZE), sparse.checksum(self._fd, 0, start))
        return sparse.checksum(self._fd, start + summary.SIZE, self._descriptor_at(total), crc)

    def raw(self, offset: int, size: int) -> bytes:
        """At most `size` bytes of the file; what lies past its end is left out."""
        return os.pread(self._fd, size, offset)

    def _bitmap_2(self, number: int) -> bytes:
        if self._window[0] != number:
            size = min(bitmap.WINDOW, self.layout.bitmap_size - number * bitmap.WINDOW)
            self._window = (number, self._bits(self.layout.bitmap_2 + number * bitmap.WINDOW, size, "bitmap 2"))
        return self._window[1]

    def _bits(self, offset: int, size: int, what: str) -> bytes:
        """Like `_read`, of at most a window; what is a hole in the file is not read. (The bitmaps lie inside it.)"""
        if sparse.next_data(self._fd, offset, offset + size) == offset + size:
            return bitmap.ZEROS[:size]
        return self._read(offset, size, what)

    def _descriptor_at(self, index: int) -> int:
        return self.layout.descriptors + index * DESCRIPTOR.size

    def _read(self, offset: int, size: int, what: str) -> bytes:
        """Exactly `size` bytes of the file."""
        data = os.pread(self._fd, size, offset) if offset + size <= self.size else b""
        if len(data) != size:
            raise self._damaged(f"its {what} would end at byte {offset + size}, the file at {self.size}: it is cut")
        return data

    def _damaged(self, what: str) -> DumpError:
        return DumpError(f"{self.name}: {what}")
