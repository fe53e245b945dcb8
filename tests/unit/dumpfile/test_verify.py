"""A dump that was touched anywhere is not called good, and whatever is wrong is one line."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from kdumpd.cli.main import main
from kdumpd.dumpfile.format import DESCRIPTOR, HEADER, SUB_HEADER, Flags, Header, SubHeader
from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import MOST_PROBLEMS, Verification, verify
from kdumpd.errors import DumpError
from kdumpd.policy.model import CompressionKind
from kdumpd.vmcore.vmcore import Vmcore
from tests.unit.dumpfile import crash

Change = Callable[[bytearray], None]


@pytest.fixture
def changed(dump_path: Path, tmp_path: Path) -> Callable[[Change], Verification]:
    """Verifies a copy of the good dump in which something was changed."""

    def verification(change: Change) -> Verification:
        content = bytearray(dump_path.read_bytes())
        change(content)
        (tmp_path / "changed").write_bytes(content)
        with Dump.open(str(tmp_path / "changed")) as dump:
            return verify(dump)

    return verification


def place_of(dump_path: Path, pfn: int) -> tuple[int, int]:
    """Offset of a page's descriptor and of its contents."""
    with Dump.open(str(dump_path)) as dump:
        for index, (frame, descriptor) in enumerate(dump.pages()):
            if frame == pfn:
                return dump.layout.descriptors + index * DESCRIPTOR.size, descriptor.offset
    raise AssertionError(f"{pfn:#x} is not in the dump")


def test_a_good_dump_is_called_good_and_its_pages_are_told_apart(dump_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    with Dump.open(str(dump_path)) as dump:
        result = verify(dump, lambda done, total: steps.append((done, total)))
    assert (result.verdict, result.problem_count, result.checksum) == ("good", 0, "good")
    assert result.raw == len(crash.RANDOM_PAGES)
    assert result.zero + result.raw + result.zstd == result.pages == result.memory_pages
    assert steps[0] == (0, result.pages)
    assert steps[-1] == (result.pages, result.pages)


def test_one_flipped_bit_in_a_compressed_page_is_found_by_the_frames_checksum(
    dump_path: Path, changed: Callable[[Change], Verification]
) -> None:
    _, contents = place_of(dump_path, crash.TEXT_PAGES[7])

    def flip(content: bytearray) -> None:
        content[contents + 20] ^= 1

    result = changed(flip)
    assert (result.verdict, result.damaged) == ("damaged", 1)
    assert f"page frame {crash.TEXT_PAGES[7]:#x}: " in result.problems[0]


def test_one_flipped_bit_in_a_raw_page_is_found_by_the_checksum_in_its_descriptor(
    dump_path: Path, changed: Callable[[Change], Verification]
) -> None:
    _, contents = place_of(dump_path, crash.RANDOM_PAGES[3])

    def flip(content: bytearray) -> None:
        content[contents + 4000] ^= 1

    result = changed(flip)
    assert (result.verdict, result.damaged) == ("damaged", 1)
    assert "a raw page is not what was written" in result.problems[0]


def test_a_changed_page_of_zeros_spoils_every_page_that_shares_it(
    dump_path: Path, changed: Callable[[Change], Verification]
) -> None:
    _, contents = place_of(dump_path, crash.ZERO_PAGE)

    def flip(content: bytearray) -> None:
        content[contents + 100] = 0xFF

    result = changed(flip)
    assert (result.verdict, result.zero) == ("damaged", 0)
    assert result.damaged > 1000
    assert result.problem_count == result.damaged + 1  # and their number is not the note's


@pytest.mark.parametrize("kind", list(CompressionKind))
def test_a_byte_changed_anywhere_in_the_file_is_found(vmcore_path: str, tmp_path: Path, kind: CompressionKind) -> None:
    runs = [(0x100, 20), (crash.TEXT_PAGES[0], 20), (crash.RANDOM_PAGES[0], 3), (crash.ZERO_PAGE, 3)]
    with Vmcore.open(vmcore_path) as core:
        crash.dump(core, tmp_path / "dump", crash.options(kind), runs=runs)
    content = bytearray((tmp_path / "dump").read_bytes())
    generator = random.Random(5)
    for place in [*range(0, HEADER.size, 7), *range(4096, 4096 + 104, 4), *generator.sample(range(len(content)), 150)]:
        changed = content.copy()
        changed[place] ^= 1 << generator.randrange(8)
        (tmp_path / "changed").write_bytes(changed)
        try:
            with Dump.open(str(tmp_path / "changed")) as dump:
                assert verify(dump).verdict != "good", f"byte {place}"
        except DumpError:
            continue


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"KDUMPD\0", b"KDUMPE\0"),  # the note's owner
        (b"KDUMPD\0", b"\0\0\0\0\0\0\0"),
        (b"\x44\x4b\0\0KDUMPD", b"\x45\x4b\0\0KDUMPD"),  # its type
        (b"\0\x04\0\0\x44\x4b\0\0KDUMPD", b"\0\x05\0\0\x44\x4b\0\0KDUMPD"),  # its size
        (b'{"checksum"', b"\0" * 11),
    ],
)
def test_a_note_of_ours_that_was_changed_is_not_taken_for_none(
    changed: Callable[[Change], Verification], before: bytes, after: bytes
) -> None:
    def replace(content: bytearray) -> None:
        assert content.count(before) == 1
        content[:] = content.replace(before, after)

    result = changed(replace)
    assert (result.verdict, result.checksum) == ("damaged", "bad")


def test_a_complete_dump_whose_note_is_empty_is_damaged(
    dump_path: Path, changed: Callable[[Change], Verification]
) -> None:
    def empty(content: bytearray) -> None:
        start = content.index(b'{"checksum"')
        content[start : start + 1024] = bytes(1024)

    result = changed(empty)
    assert result.verdict == "damaged"
    assert "the KDUMPD note is empty" in result.problems[0]


def forget_checks(content: bytearray) -> None:
    """Make it a dump as makedumpfile writes them: no note, no checksums of raw pages."""
    with_sub_header(content, notes_size=content.index(b"KDUMPD\0") - 12 - 4096 - 104)
    for place in range(content.index(b"KDUMPD\0") + 1200, len(content) - 24):
        if content[place + 20 : place + 24] == b"\x01\0\0\0" and content[place + 8 : place + 16] == b"\0\x10" + bytes(
            6
        ):
            content[place + 16 : place + 24] = bytes(8)


def test_raw_pages_that_nothing_tells_damage_of_are_counted(
    tmp_path: Path, vmcore_path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [(crash.TEXT_PAGES[0], 20), (crash.RANDOM_PAGES[0], 3), (crash.ZERO_PAGE, 3)]
    with Vmcore.open(vmcore_path) as core:
        crash.dump(core, tmp_path / "dump", runs=runs)
    content = bytearray((tmp_path / "dump").read_bytes())
    forget_checks(content)
    (tmp_path / "dump").write_bytes(content)
    with Dump.open(str(tmp_path / "dump")) as dump:
        result = verify(dump)
    assert (result.verdict, result.checksum, result.problems) == ("good", "none", ())
    assert (result.unchecked, result.raw) == (3, 3)
    assert main(["verify", str(tmp_path / "dump")]) == 0
    assert "; 3 raw pages have no checksum\n" in capsys.readouterr().out


@pytest.mark.parametrize("flag", [Flags.LZO, Flags.SNAPPY])
def test_pages_that_python_cannot_decompress_are_said_once_and_are_not_damage(
    tmp_path: Path, vmcore_path: str, capsys: pytest.CaptureFixture[str], flag: Flags
) -> None:
    with Vmcore.open(vmcore_path) as core:
        crash.dump(core, tmp_path / "dump", runs=[(crash.TEXT_PAGES[0], 20)])
    with Dump.open(str(tmp_path / "dump")) as dump:
        places = [(dump.layout.descriptors + 24 * index, d) for index, (_, d) in enumerate(dump.pages())]
    content = bytearray((tmp_path / "dump").read_bytes())
    for place, descriptor in places:
        DESCRIPTOR.pack_into(content, place, descriptor.offset, descriptor.size, flag, 0)
    with_header(content, status=flag)
    forget_checks(content)
    (tmp_path / "dump").write_bytes(content)
    with Dump.open(str(tmp_path / "dump")) as dump:
        result = verify(dump)
    assert (result.verdict, result.unreadable, result.problems) == ("unchecked", 20, ())
    assert main(["verify", str(tmp_path / "dump")]) == 1
    assert "cannot be checked: 20 pages are compressed by LZO or snappy" in capsys.readouterr().err


def with_another_frame(content: bytearray) -> None:
    with_header(content, max_mapnr=0x1C02)
    with_sub_header(content, max_mapnr_64=0x1C02)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: with_sub_header(content, phys_base=4096), "phys_base 0x1000, VMCOREINFO 0x0"),
        (with_another_frame, "memory ends at page frame 0x1c01 in bitmap 1, at 0x1c02"),
        (lambda content: with_sub_header(content, max_mapnr_64=0x1C02), "page frames, the sub-header 7170"),
        (lambda content: content.__setitem__(slice(12 + 260, 12 + 266), b"x86_65"), "neither x86_64 nor aarch64"),
        (lambda content: content.__setitem__(slice(12 + 260, 12 + 267), b"aarch64"), "VMCOREINFO is not of aarch64"),
        (lambda content: content.__setitem__(12 + 130, ord("5")), "the header is of kernel b'5."),
    ],
)
def test_headers_are_compared_with_what_the_kernel_wrote_in_dumps_by_others_too(
    changed: Callable[[Change], Verification], change: Change, problem: str
) -> None:
    def both(content: bytearray) -> None:
        with_sub_header(content, notes_size=content.index(b"KDUMPD\0") - 12 - 4096 - 104)
        change(content)

    result = changed(both)
    assert (result.verdict, result.checksum) == ("damaged", "none")
    assert any(problem in line for line in result.problems), result.problems


def test_pages_in_no_order_are_read_no_more_than_they_are_large(dump_path: Path, tmp_path: Path) -> None:
    class Counted(Dump):
        taken = 0

        def raw(self, offset: int, size: int) -> bytes:
            self.taken += size
            return super().raw(offset, size)

    content = bytearray(dump_path.read_bytes())
    with Dump.open(str(dump_path)) as dump:
        places = [
            (dump.layout.descriptors + DESCRIPTOR.size * index, descriptor)
            for index, (_, descriptor) in enumerate(dump.pages())
            if descriptor.flags == Flags.ZSTD
        ]
    far = len(content) + (8 << 20)
    content += bytes(far + (1 << 20) - len(content))
    for number, (place, descriptor) in enumerate(places):  # every other page lies far away
        if number % 2:
            content[far : far + descriptor.size] = content[descriptor.offset : descriptor.offset + descriptor.size]
            DESCRIPTOR.pack_into(content, place, far, *descriptor[1:])
            far += descriptor.size
    (tmp_path / "dump").write_bytes(content)
    with Counted.open(str(tmp_path / "dump")) as scattered:
        verify(scattered)
        assert scattered.taken < 32 << 20  # 1 MiB a page would be a gibibyte


def test_a_fifo_or_a_device_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), "/dev/zero", str(tmp_path)):
        with pytest.raises(DumpError, match="give a dump in a file"):
            Dump.open(path)


def test_descriptors_that_were_swapped_are_found_by_the_checksum_of_their_table(
    dump_path: Path, changed: Callable[[Change], Verification]
) -> None:
    first, _ = place_of(dump_path, crash.TEXT_PAGES[7])

    def swap(content: bytearray) -> None:
        one, two = slice(first, first + 24), slice(first + 24, first + 48)
        content[one], content[two] = content[two], content[one]

    result = changed(swap)
    assert (result.verdict, result.damaged, result.checksum) == ("damaged", 0, "bad")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ((1 << 62, 100, Flags.ZSTD, 0), "of a file of"),
        ((-5, 100, Flags.ZSTD, 0), "of a file of"),
        ((100, 100, Flags.ZSTD, 0), "of a file of"),
        ((200000, 0, Flags.ZSTD, 0), "a page of 0 bytes"),
        ((200000, 5000, Flags.ZSTD, 0), "a page of 5000 bytes"),
        ((200000, 100, Flags.RAW, 0), "a page of 100 bytes"),
        ((200000, 100, Flags.LZO, 0), "compressed by LZO, which kdumpd cannot read"),
        ((200000, 100, Flags.ZLIB | Flags.ZSTD, 0), "which kdumpd cannot read"),
        ((200000, 100, Flags.ZLIB, 0), "does not decompress"),
    ],
)
def test_a_descriptor_that_cannot_be_true_is_a_problem_of_its_page(
    dump_path: Path,
    changed: Callable[[Change], Verification],
    fields: tuple[int, int, int, int],
    problem: str,
) -> None:
    place, _ = place_of(dump_path, crash.TEXT_PAGES[7])
    result = changed(lambda content: DESCRIPTOR.pack_into(content, place, *fields))
    assert (result.verdict, result.damaged) == ("damaged", 1)
    assert any(problem in line and f"{crash.TEXT_PAGES[7]:#x}" in line for line in result.problems)


@pytest.mark.parametrize(("kind", "flag"), [("zstd", Flags.ZSTD), ("zlib", Flags.ZLIB)])
@pytest.mark.parametrize("size", [0, 4095, 4097, 1 << 26])
def test_a_page_that_decompresses_to_anything_but_a_block_is_damaged(
    dump_path: Path, changed: Callable[[Change], Verification], kind: str, flag: Flags, size: int
) -> None:
    bomb = zlib.compress(bytes(size), 9) if kind == "zlib" else zstandard.ZstdCompressor().compress(bytes(size))
    bomb = bomb[:4096]
    place, _ = place_of(dump_path, crash.TEXT_PAGES[7])

    def plant(content: bytearray) -> None:
        DESCRIPTOR.pack_into(content, place, len(content), len(bomb), flag, 0)
        content += bomb

    assert changed(plant).damaged == 1


def test_a_zstd_frame_that_claims_a_terabyte_allocates_nothing(
    dump_path: Path, changed: Callable[[Change], Verification]
) -> None:
    bomb = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 40) + b"\x01\x00\x00"
    place, _ = place_of(dump_path, crash.TEXT_PAGES[7])

    def plant(content: bytearray) -> None:
        DESCRIPTOR.pack_into(content, place, len(content), len(bomb), Flags.ZSTD, 0)
        content += bomb

    result = changed(plant)
    assert any("a zstd frame that does not hold a block" in line for line in result.problems)


def test_a_page_that_was_never_written_belongs_into_no_complete_dump(
    dump_path: Path, changed: Callable[[Change], Verification]
) -> None:
    place, _ = place_of(dump_path, crash.TEXT_PAGES[7])

    def erase(content: bytearray) -> None:
        content[place : place + 24] = bytes(24)

    result = changed(erase)
    assert (result.verdict, result.unwritten) == ("damaged", 1)
    assert any("1 pages were never written" in line for line in result.problems)


def test_many_problems_are_counted_but_not_all_told(dump_path: Path, changed: Callable[[Change], Verification]) -> None:
    place, _ = place_of(dump_path, crash.TEXT_PAGES[0])

    def spoil(content: bytearray) -> None:
        for number in range(100):
            DESCRIPTOR.pack_into(content, place + 24 * number, 7, 7, 7, 0)

    result = changed(spoil)
    assert result.problem_count == 101  # and the checksum
    assert len(result.problems) == MOST_PROBLEMS


def with_header(content: bytearray, **fields: Any) -> None:
    content[: HEADER.size] = Header.unpack(bytes(content))._replace(**fields).pack()


def with_sub_header(content: bytearray, **fields: int) -> None:
    content[4096 : 4096 + SUB_HEADER.size] = SubHeader.unpack(bytes(content[4096:]))._replace(**fields).pack()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: with_header(content, cpus=0), "0 processors"),
        (lambda content: with_sub_header(content, vmcoreinfo_offset=5000), "not the one in the notes"),
        (lambda content: with_sub_header(content, vmcoreinfo_size=1), "not the one in the notes"),
    ],
)
def test_what_only_crash_would_stumble_over_is_told(
    changed: Callable[[Change], Verification], change: Change, problem: str
) -> None:
    result = changed(change)
    assert result.verdict == "damaged"
    assert problem in result.problems[0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: content.clear(), "no dump: 0 bytes"),
        (lambda content: content.__setitem__(slice(0, 4096), bytes(4096)), "no dump in KDUMP format"),
        (lambda content: content.__setitem__(slice(0, 13), b"makedumpfile\0"), "makedumpfile -R"),
        (lambda content: content.__setitem__(slice(0, 4), b"\x7fELF"), "an ELF vmcore; make a dump of it"),
        (lambda content: with_sub_header(content, split=1), "a part of a split dump; join the parts with makedumpfile"),
        (lambda content: with_header(content, block_size=0), "block size of 0 bytes"),
        (lambda content: with_header(content, block_size=-4096), "block size of -4096 bytes"),
        (lambda content: with_header(content, block_size=5000), "block size of 5000 bytes"),
        (lambda content: with_header(content, block_size=1 << 30), "block size of 1073741824 bytes"),
        (lambda content: with_header(content, sub_header_blocks=-7), "-7 blocks of sub-header"),
        (lambda content: with_header(content, sub_header_blocks=1 << 30), "it is cut"),
        (lambda content: with_header(content, bitmap_blocks=0), "0 of bitmaps"),
        (lambda content: with_header(content, bitmap_blocks=0xFFFFFFFF), "it is cut"),
        (lambda content: with_sub_header(content, max_mapnr_64=1 << 63), "page frames, more than a bitmap"),
        (lambda content: with_sub_header(content, max_mapnr_64=1 << 30), "page frames, more than a bitmap"),
        (lambda content: with_sub_header(content, notes_size=0), "no ELF notes"),
        (lambda content: with_sub_header(content, notes_size=1 << 40), "do not lie inside the sub-header"),
        (lambda content: with_sub_header(content, notes_offset=-(1 << 40)), "do not lie inside the sub-header"),
        (lambda content: with_sub_header(content, notes_offset=1 << 40), "do not lie inside the sub-header"),
        (lambda content: content.__delitem__(slice(60000, None)), "it is cut"),
    ],
)
def test_a_header_that_lies_is_refused_in_one_line(
    changed: Callable[[Change], Verification], tmp_path: Path, change: Change, problem: str
) -> None:
    with pytest.raises(DumpError) as caught:
        changed(change)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "changed"))
    assert "\n" not in str(caught.value)


def test_a_dump_cut_at_any_of_200_offsets_is_never_called_good(dump_path: Path, tmp_path: Path) -> None:
    content = dump_path.read_bytes()
    generator = random.Random(3)
    for size in (
        0,
        1,
        463,
        464,
        4096,
        4200,
        len(content) - 1,
        *(generator.randrange(len(content)) for _ in range(193)),
    ):
        (tmp_path / "cut").write_bytes(content[:size])
        try:
            with Dump.open(str(tmp_path / "cut")) as dump:
                verdict = verify(dump).verdict
        except DumpError as error:
            assert "\n" not in str(error)
            continue
        assert verdict == "damaged"
