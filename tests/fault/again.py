"""A finished dump scanned again: the page structures are in it, so the user engine can say here which pages belong in.

Called by the tests of what the page-scan module's failures leave behind.
"""

from __future__ import annotations

import struct
from pathlib import Path

from kdumpd.dumpfile import bitmap
from kdumpd.dumpfile.reader import Dump
from kdumpd.policy.model import PageKind
from kdumpd.scan import user
from kdumpd.vmcore.memory import Ranges
from kdumpd.vmcore.vmcore import Vmcore

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # elf(5), Elf64_Ehdr
SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
CORE, NOTE, LOAD = 4, 4, 1


class Bits:
    """A sink that keeps the bitmap."""

    def __init__(self) -> None:
        self.bits = bytearray()

    def write(self, bits: bytes) -> None:
        self.bits += bits


def chosen(path: Path, folder: Path) -> tuple[bytes, bytes]:
    """Bitmap 2 of the dump, and what the user engine makes of the same crash at the same level."""
    with Dump.open(str(path)) as dump:
        unfiltered = folder / "vmcore"
        _restore(dump, unfiltered)
        has = b"".join(dump.bitmap(2))[: -(-dump.frames // 8)]
        level = PageKind(dump.sub_header.dump_level)
    sink = Bits()
    with Vmcore.open(str(unfiltered)) as core:
        user.scan(core, level, (), sink)
    unfiltered.unlink()
    return has, bytes(sink.bits)


def _restore(dump: Dump, path: Path) -> None:
    """An ELF vmcore with the dump's pages, and zeros in the place of the others."""
    block = dump.layout.block_size
    memory: list[tuple[int, int]] = []
    pfn = 0
    for window in dump.bitmap(1):
        memory += [(first * block, (first + count) * block) for first, count in bitmap.runs(window, pfn)]
        pfn += len(window) * 8
    loads = Ranges(memory)
    table = HEADER.size + SEGMENT.size * (1 + len(loads))
    base = -(-(table + len(dump.notes)) // block) * block
    ident = b"\x7fELF\2\1\1".ljust(16, b"\0")
    count = 1 + len(loads)
    header = HEADER.pack(ident, CORE, dump.machine, 1, 0, HEADER.size, 0, 0, HEADER.size, SEGMENT.size, count, 0, 0, 0)
    segments = SEGMENT.pack(NOTE, 0, table, 0, 0, len(dump.notes), len(dump.notes), 4)
    for start, end in loads:
        segments += SEGMENT.pack(LOAD, 7, base + start, 0, start, end - start, end - start, block)
    with path.open("wb") as stream:
        stream.write(header + segments + dump.notes)
        stream.truncate(base + loads[-1].end)
        for frame, descriptor in dump.pages():
            stream.seek(base + frame * block)
            stream.write(dump.page(descriptor))
