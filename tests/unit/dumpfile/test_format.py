"""The structures on disk are those of makedumpfile's diskdump_mod.h."""

from __future__ import annotations

import random

from kdumpd.dumpfile.format import (
    DESCRIPTOR,
    HEADER,
    SUB_HEADER,
    UTSNAME,
    Flags,
    Header,
    Layout,
    SubHeader,
    pack_descriptors,
)
from kdumpd.vmcore.vmcore import Uname


def test_structures_have_the_sizes_that_a_c_compiler_gives_them() -> None:
    assert (HEADER.size, UTSNAME.size, SUB_HEADER.size, DESCRIPTOR.size) == (464, 390, 104, 24)


def test_headers_read_back_as_they_were_packed() -> None:
    uname = Uname(b"Linux", b"node", b"6.1.0", b"#1", b"x86_64", b"(none)")
    header = Header(6, uname, 1700000000, 5, Flags.ZSTD | Flags.INCOMPLETE, 4096, 1, 8, 1 << 20, 2)
    assert Header.unpack(header.pack()) == header
    sub_header = SubHeader(*range(14))
    assert SubHeader.unpack(sub_header.pack()) == sub_header


def test_a_machine_of_more_than_16_tib_has_its_page_frames_in_the_sub_header_alone() -> None:
    uname = Uname(b"", b"", b"", b"", b"x86_64", b"")
    header = Header(6, uname, 0, 0, Flags(0), 4096, 1, 8, 1 << 33, 1)
    assert Header.unpack(header.pack()).max_mapnr == 0xFFFFFFFF


def test_descriptors_packed_at_once_are_those_packed_one_by_one() -> None:
    generator = random.Random(2)
    offsets = [generator.randrange(1 << 62) for _ in range(300)]
    sizes = [generator.choice((1, 700, 4095, 4096)) for _ in offsets]
    expected = b"".join(
        DESCRIPTOR.pack(offset, size, 0 if size == 4096 else Flags.ZSTD, page_flags)
        for offset, size, page_flags in zip(offsets, sizes, offsets, strict=True)
    )
    assert pack_descriptors(offsets, sizes, offsets, Flags.ZSTD, 4096) == expected


def test_bitmap_blocks_count_both_bitmaps_so_that_readers_take_the_dump_for_partial() -> None:
    frames = 4096 * 8 + 1  # one more than a block of bits
    layout = Layout.plan(4096, 5000, frames)
    assert layout == Layout(4096, 2, 4)
    assert layout.bitmap_blocks == 2 * 2  # crash, dump_is_partial(): 2 * ceil(ceil(frames / 8) / block)
    assert (layout.notes, layout.bitmap_1, layout.bitmap_2, layout.descriptors) == (
        4096 + 104,
        3 * 4096,
        5 * 4096,
        7 * 4096,
    )
