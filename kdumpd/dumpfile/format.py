"""The KDUMP format, version 6: each structure on disk is one `struct.Struct` with named fields, packed and read here.

Source: makedumpfile `diskdump_mod.h`, `write_kdump_header()`; read back by crash `diskdump.c` and libkdumpfile
`diskdump.c`. Everything is little endian, as the kernels that are dumped are. Block 0 holds the header, block 1 the
sub-header with the ELF notes right behind it, then come bitmap 1 (what is memory), bitmap 2 (what is in the dump), a
descriptor for each bit of bitmap 2 in ascending order, and the pages anywhere. May import `vmcore`.
"""

from __future__ import annotations

import enum
import struct
import sys
from array import array
from collections.abc import Iterable
from typing import NamedTuple

from kdumpd.errors import DumpError
from kdumpd.vmcore.vmcore import Uname

SIGNATURE = b"KDUMP   "
VERSION = 6
# What other files of crashes start with, and what to do with them.
OTHER_FORMATS = {
    b"makedumpfile\0": "a flattened dump; make a file of it with makedumpfile -R DUMP < FILE",
    b"\x7fELF": "an ELF vmcore; make a dump of it with kdumpd dump, or print its log with kdumpd dmesg",
    b"DISKDUMP": "an old diskdump; use crash",
}
MAX_MAPNR_32 = 0xFFFFFFFF
SMALLEST_BLOCK, LARGEST_BLOCK = 4096, 65536
MAX_NOTES = 64 << 20  # bytes; a PRSTATUS note of 4096 processors takes 1.5 MiB


class Flags(enum.IntFlag):
    """Flags of a page descriptor (how the page is compressed) and, with the last two, of the header's status."""

    RAW = 0
    ZLIB = 0x1
    LZO = 0x2
    SNAPPY = 0x4
    INCOMPLETE = 0x8
    EXCLUDED_VMEMMAP = 0x10
    ZSTD = 0x20


COMPRESSION = Flags.ZLIB | Flags.LZO | Flags.SNAPPY | Flags.ZSTD

# struct new_utsname: six arrays of 65 bytes; then 2 bytes that align struct timeval
UTSNAME = struct.Struct("65s65s65s65s65s65s")
HEADER = struct.Struct("<8si390s6xqqIiiIIIIIIi")
SUB_HEADER = struct.Struct("<QiiQQqQqQqQQQQ")
DESCRIPTOR = struct.Struct("<qIIQ")
RAW_CHECKED = 1 << 32  # in page_flags: the 32 bits below are a CRC-32


class Header(NamedTuple):
    """struct disk_dump_header; sizes in blocks of `block_size` bytes, `bitmap_blocks` for both bitmaps together."""

    version: int
    utsname: Uname
    seconds: int
    microseconds: int
    status: Flags
    block_size: int
    sub_header_blocks: int
    bitmap_blocks: int
    max_mapnr: int
    cpus: int

    def pack(self) -> bytes:
        """The 464 bytes of block 0."""
        utsname = UTSNAME.pack(*(field[:64] for field in self.utsname))
        return HEADER.pack(
            SIGNATURE,
            self.version,
            utsname,
            self.seconds,
            self.microseconds,
            self.status,
            self.block_size,
            self.sub_header_blocks,
            self.bitmap_blocks,
            min(self.max_mapnr, MAX_MAPNR_32),
            0,
            0,
            0,
            0,
            self.cpus,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """The header in the first bytes of a dump; DumpError where they are no KDUMP header."""
        if len(data) < HEADER.size:
            raise DumpError(f"no dump: {len(data)} bytes, a KDUMP header alone takes {HEADER.size}")
        (signature, version, utsname, seconds, microseconds, status, block_size, sub_blocks, bitmap_blocks, mapnr) = (
            HEADER.unpack_from(data)[:10]
        )
        for start, what in OTHER_FORMATS.items():
            if data.startswith(start):
                raise DumpError(f"no dump in KDUMP format: {what}")
        if signature != SIGNATURE:
            raise DumpError(f"no dump in KDUMP format: starts with {signature!r}, want {SIGNATURE!r}")
        names = Uname(*(field.split(b"\0")[0] for field in UTSNAME.unpack(utsname)))
        cpus = HEADER.unpack_from(data)[14]
        return cls(
            version,
            names,
            seconds,
            microseconds,
            Flags(status & 0x3F),
            block_size,
            sub_blocks,
            bitmap_blocks,
            mapnr,
            cpus,
        )


class SubHeader(NamedTuple):
    """struct kdump_sub_header; offsets and sizes in bytes from the start of the file, pfns half open."""

    phys_base: int
    dump_level: int
    split: int
    start_pfn: int
    end_pfn: int
    vmcoreinfo_offset: int
    vmcoreinfo_size: int
    notes_offset: int
    notes_size: int
    eraseinfo_offset: int
    eraseinfo_size: int
    start_pfn_64: int
    end_pfn_64: int
    max_mapnr_64: int

    def pack(self) -> bytes:
        """The 104 bytes at the start of block 1."""
        return SUB_HEADER.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> SubHeader:
        """The sub-header in the first bytes of block 1; DumpError where they are cut."""
        if len(data) < SUB_HEADER.size:
            raise DumpError(f"the dump is cut inside its sub-header ({len(data)} of {SUB_HEADER.size} bytes)")
        return cls(*SUB_HEADER.unpack_from(data))


class Descriptor(NamedTuple):
    """struct page_desc: where a page lies and how it is compressed; offset 0 says that it was never written.

    crash, libkdumpfile and makedumpfile look at no `page_flags` (makedumpfile writes 0). A raw page of ours, which no
    compressor has added a checksum to, has its CRC-32 there, below `RAW_CHECKED`.
    """

    offset: int
    size: int
    flags: int
    page_flags: int


class Layout(NamedTuple):
    """Where the parts of a dump lie, in bytes from the start of the file."""

    block_size: int
    sub_header_blocks: int
    bitmap_blocks: int

    @classmethod
    def plan(cls, block_size: int, notes_size: int, max_mapnr: int) -> Layout:
        """The layout of a dump with this many bytes of notes and this many page frames."""
        bitmap_bytes = -(-max_mapnr // 8)
        return cls(
            block_size, -(-(SUB_HEADER.size + notes_size) // block_size), 2 * (-(-bitmap_bytes // block_size) or 1)
        )

    @property
    def notes(self) -> int:
        return self.block_size + SUB_HEADER.size

    @property
    def bitmap_size(self) -> int:
        """Bytes of one bitmap."""
        return self.bitmap_blocks // 2 * self.block_size

    @property
    def bitmap_1(self) -> int:
        return (1 + self.sub_header_blocks) * self.block_size

    @property
    def bitmap_2(self) -> int:
        return self.bitmap_1 + self.bitmap_size

    @property
    def descriptors(self) -> int:
        return (1 + self.sub_header_blocks + self.bitmap_blocks) * self.block_size


def pack_descriptors(
    offsets: Iterable[int], sizes: Iterable[int], page_flags: Iterable[int], compression: Flags, block_size: int
) -> bytes:
    """The descriptors of many pages at once, the same bytes as DESCRIPTOR.pack() of each.

    A page whose size is a whole block is raw, every other one is compressed as `compression` says. A descriptor is
    three 64-bit words: the offset, the size with the flags above it, and page_flags.
    """
    mark = compression << 32
    first = array("Q", offsets)
    words = array("Q", bytes(len(first) * DESCRIPTOR.size))
    words[0::3] = first
    words[1::3] = array("Q", [size | mark if size < block_size else size for size in sizes])
    words[2::3] = array("Q", page_flags)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()
