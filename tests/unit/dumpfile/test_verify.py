"""A dump whose pages or descriptors were touched anywhere is not called good, and whatever is wrong is one line."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import pytest
import zstandard

from kdumpd.cli.main import main
from kdumpd.dumpfile.format import DESCRIPTOR, HEADER, Flags
from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import MOST_PROBLEMS, verify
from kdumpd.errors import DumpError
from kdumpd.policy.model import CompressionKind
from kdumpd.vmcore.vmcore import Vmcore
from tests.unit.dumpfile import crash
from tests.unit.dumpfile.changes import Changed, forget_checks, place_of, with_header


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
    dump_path: Path, changed: Changed
) -> None:
    _, contents = place_of(dump_path, crash.TEXT_PAGES[7])

    def flip(content: bytearray) -> None:
        content[contents + 20] ^= 1

    result = changed(flip)
    assert (result.verdict, result.damaged) == ("damaged", 1)
    assert f"page frame {crash.TEXT_PAGES[7]:#x}: " in result.problems[0]


def test_one_flipped_bit_in_a_raw_page_is_found_by_the_checksum_in_its_descriptor(
    dump_path: Path, changed: Changed
) -> None:
    _, contents = place_of(dump_path, crash.RANDOM_PAGES[3])

    def flip(content: bytearray) -> None:
        content[contents + 4000] ^= 1

    result = changed(flip)
    assert (result.verdict, result.damaged) == ("damaged", 1)
    assert "a raw page is not what was written" in result.problems[0]


def test_a_changed_page_of_zeros_spoils_every_page_that_shares_it(dump_path: Path, changed: Changed) -> None:
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


def test_descriptors_that_were_swapped_are_found_by_the_checksum_of_their_table(
    dump_path: Path, changed: Changed
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
    changed: Changed,
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
    dump_path: Path, changed: Changed, kind: str, flag: Flags, size: int
) -> None:
    bomb = zlib.compress(bytes(size), 9) if kind == "zlib" else zstandard.ZstdCompressor().compress(bytes(size))
    bomb = bomb[:4096]
    place, _ = place_of(dump_path, crash.TEXT_PAGES[7])

    def plant(content: bytearray) -> None:
        DESCRIPTOR.pack_into(content, place, len(content), len(bomb), flag, 0)
        content += bomb

    assert changed(plant).damaged == 1


def test_a_zstd_frame_that_claims_a_terabyte_allocates_nothing(dump_path: Path, changed: Changed) -> None:
    bomb = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 40) + b"\x01\x00\x00"
    place, _ = place_of(dump_path, crash.TEXT_PAGES[7])

    def plant(content: bytearray) -> None:
        DESCRIPTOR.pack_into(content, place, len(content), len(bomb), Flags.ZSTD, 0)
        content += bomb

    result = changed(plant)
    assert any("a zstd frame that does not hold a block" in line for line in result.problems)


def test_a_page_that_was_never_written_belongs_into_no_complete_dump(dump_path: Path, changed: Changed) -> None:
    place, _ = place_of(dump_path, crash.TEXT_PAGES[7])

    def erase(content: bytearray) -> None:
        content[place : place + 24] = bytes(24)

    result = changed(erase)
    assert (result.verdict, result.unwritten) == ("damaged", 1)
    assert any("1 pages were never written" in line for line in result.problems)


def test_many_problems_are_counted_but_not_all_told(dump_path: Path, changed: Changed) -> None:
    place, _ = place_of(dump_path, crash.TEXT_PAGES[0])

    def spoil(content: bytearray) -> None:
        for number in range(100):
            DESCRIPTOR.pack_into(content, place + 24 * number, 7, 7, 7, 0)

    result = changed(spoil)
    assert result.problem_count == 101  # and the checksum
    assert len(result.problems) == MOST_PROBLEMS
