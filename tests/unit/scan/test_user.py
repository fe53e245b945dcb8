"""The user engine's walk over mem_map: jumps, sections, holes, ranges to keep hands off."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from kdumpd.errors import ScanError, VmcoreError
from kdumpd.policy.model import PageKind
from kdumpd.scan import unfiltered, user
from kdumpd.scan.selection import Interval, PageCounts, present_pages
from kdumpd.vmcore.vmcore import Vmcore
from tests.builders.vmcore import MIB, SECTION_PAGES, SECTIONS, VMEMMAP, VmcoreBuilder

LRU = 1 << 4
ALL = PageKind(31)


class Bits:
    """Takes bitmap 2."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, bits: bytes) -> None:
        self.content += bits

    def kept(self, pfn: int) -> bool:
        return bool(self.content[pfn >> 3] >> (pfn & 7) & 1)

    def all_kept(self, start: int, end: int) -> bool:
        return all(self.kept(pfn) for pfn in range(start, end))

    def none_kept(self, start: int, end: int) -> bool:
        return not any(self.kept(pfn) for pfn in range(start, end))


def scanned(
    builder: VmcoreBuilder, folder: Path, level: PageKind = ALL, hands_off: tuple[Interval, ...] = ()
) -> tuple[Bits, PageCounts]:
    bits = Bits()
    with Vmcore.open(builder.save(folder / "vmcore")) as core:
        counts = user.scan(core, level, hands_off, bits)
    assert sum(counts[1:9]) == counts.total
    assert int.from_bytes(bits.content, "little").bit_count() == counts.kept
    return bits, counts


def test_free_block_that_crosses_a_section_is_dropped_whole(tmp_path: Path) -> None:
    builder = VmcoreBuilder(((0, 256 * MIB),), info={"LENGTH(zone.free_area)": "17"})
    builder.page(0, _mapcount=-129, private=16)
    bits, counts = scanned(builder, tmp_path)
    assert counts.free == counts.total
    assert bits.none_kept(0, 2 * SECTION_PAGES)


@pytest.mark.parametrize("start", [0, 1 << 18, 2 << 18])
def test_scan_from_the_middle_gives_the_rest_of_the_whole(start: int, tmp_path: Path) -> None:
    builder = VmcoreBuilder(((0x1000, 0x9F000), (MIB, 1100 * MIB), (1200 * MIB, 1400 * MIB)))
    draw = random.Random(7)
    for _ in range(300):
        builder.page(draw.randrange(0, 1400 * 256) & -1024, _mapcount=-129, private=draw.randrange(11))
        builder.page(draw.randrange(0, 1400 * 256), flags=LRU)
    whole, rest = Bits(), Bits()
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        total = user.scan(core, ALL, (Interval(100, 0x41000),), whole)
        counts = user.scan(core, ALL, (Interval(100, 0x41000),), rest, start=start)
        present = present_pages(core.memory.stored_ranges, core.page_size)
    assert rest.content == whole.content[start // 8 :]
    assert counts.total == sum(max(0, end - max(first, start)) for first, end in present)
    assert counts.kept == int.from_bytes(rest.content, "little").bit_count()
    assert sum(counts[1:9]) == counts.total <= total.total


def test_head_at_the_end_of_a_window_is_judged_with_its_tail(tmp_path: Path) -> None:
    # Memory that starts on an odd page frame: windows of a fixed length would end between a head and its tail.
    builder = VmcoreBuilder(((0x1000, 256 * MIB),))
    for pfn in range(2, 0x8000, 2):
        builder.page(pfn, flags=1 << 16 | LRU, compound_order=0)
        builder.page(pfn + 1, compound_order=1, compound_head=0xFFFFEA0000000001)
    _, counts = scanned(builder, tmp_path)
    assert counts.cache == 0x8000 - 2


def test_small_free_blocks_are_dropped_one_by_one(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.free_block(0x2000, 0)
    builder.free_block(0x2004, 2)
    bits, counts = scanned(builder, tmp_path)
    assert counts.free == 5
    assert not bits.kept(0x2000)
    assert bits.kept(0x2001)
    assert bits.none_kept(0x2004, 0x2008)


def test_every_page_of_a_large_free_block_counts_once(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    for pfn in range(0x4000, 0x8000, 1024):
        builder.page(pfn, _mapcount=-129, private=10)
    _, counts = scanned(builder, tmp_path, PageKind.FREE)
    assert counts.free == 0x4000
    assert counts.examined < counts.total - 0x4000 + 256


def test_compound_page_is_dropped_with_its_head(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.page(0x2200, flags=1 << 16 | LRU, mapping=0xFFFF888001000001)
    builder.page(0x2201, compound_order=9, compound_head=0xFFFFEA0000088001)
    for pfn in range(0x2202, 0x2400):
        builder.page(pfn, compound_head=0xFFFFEA0000088001)
    bits, counts = scanned(builder, tmp_path)
    assert counts.user == 512
    assert bits.none_kept(0x2200, 0x2400)
    assert bits.kept(0x2400)


def test_fake_head_of_a_misaligned_order_stands_for_itself_alone(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.page(0x2240, flags=1 << 16 | LRU)
    builder.page(0x2241, compound_order=9)
    bits, counts = scanned(builder, tmp_path)
    assert counts.cache == 1
    assert bits.kept(0x2241)


def test_hole_between_pt_loads_is_neither_kept_nor_counted(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    bits, counts = scanned(builder, tmp_path)
    assert counts.total == 256 * 256 - (0x100 - 0x9F) - 1
    assert bits.none_kept(0x9F, 0x100)
    assert not bits.kept(0)


def test_hole_of_terabytes_is_passed_in_whole_chunks(tmp_path: Path) -> None:
    class High(VmcoreBuilder):
        def segments(self) -> list[tuple[int, int, int]]:
            return [*super().segments(), (1 << 40, 0xFFFF888000000000 + (1 << 45), 4096)]

    bits, counts = scanned(High(), tmp_path)
    assert counts.total == 256 * 256 - (0x100 - 0x9F) - 1 + 1
    assert bits.kept(1 << 28)
    assert len(bits.content) == ((1 << 28) + 1 + 7) // 8


def test_pages_of_an_offline_section_are_kept(tmp_path: Path) -> None:
    builder = VmcoreBuilder(offline_sections=(1,))
    builder.page(SECTION_PAGES, _mapcount=-129, private=10)
    bits, counts = scanned(builder, tmp_path)
    assert counts.free == 0
    assert bits.all_kept(SECTION_PAGES, SECTION_PAGES + 1024)


def test_hands_off_range_is_left_out_and_counted_at_every_level(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.free_block(0x3000, 3)
    bits, counts = scanned(builder, tmp_path, PageKind(0), (Interval(0x3004, 0x3010),))
    assert counts.hands_off == 12
    assert bits.all_kept(0x3000, 0x3004)
    assert bits.none_kept(0x3004, 0x3010)


def test_hwpoison_and_offline_pages_are_left_out_at_level_0(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    poison = int(builder.info["NUMBER(PG_hwpoison)"] or 0)
    builder.page(0x3000, flags=1 << poison)
    builder.page(0x3001, _mapcount=-257)
    _, counts = scanned(builder, tmp_path, PageKind(0))
    assert (counts.hwpoison, counts.offline) == (1, 1)


def test_pages_whose_structures_are_gone_are_kept_and_said(tmp_path: Path) -> None:
    # The second section's structures are mapped to memory that no PT_LOAD has.
    builder = VmcoreBuilder()
    builder.page(SECTION_PAGES, _mapcount=-129, private=10)
    for offset in range(0, SECTION_PAGES * 64, 2 * MIB):
        builder.map(VMEMMAP + SECTION_PAGES * 64 + offset, (1 << 40) + offset, 2 * MIB)
    bits, counts = scanned(builder, tmp_path)
    assert counts.free == 0
    assert bits.all_kept(SECTION_PAGES, 2 * SECTION_PAGES)


@pytest.mark.parametrize(
    "info",
    [
        {"SIZE(page)": "0"},
        {"SIZE(page)": None},
        {"OFFSET(page.flags)": "4096"},
        {"OFFSET(page._mapcount)": "-4"},
        {"NUMBER(PG_lru)": "77"},
        {"NUMBER(PG_head_mask)": None},
        {"SECTION_SIZE_BITS": "200", "NUMBER(SECTION_SIZE_BITS)": "200"},
        {"SYMBOL(mem_section)": "0"},
        {"SYMBOL(mem_section)": None},
    ],
    ids=str,
)
def test_absurd_vmcoreinfo_is_a_scan_error_in_one_line(info: dict[str, str | None], tmp_path: Path) -> None:
    path = VmcoreBuilder().save(tmp_path / "good")
    builder = VmcoreBuilder()
    builder.info.update(info)
    path = builder.save(tmp_path / "vmcore")
    with Vmcore.open(path) as core, pytest.raises(ScanError) as caught:
        user.scan(core, ALL, (), Bits())
    assert "\n" not in str(caught.value)


def test_parts_of_mem_map_that_cannot_be_found_are_kept_and_said(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.page(SECTION_PAGES, _mapcount=-129, private=10)
    builder.write(SECTIONS + 16, (0x1234567F00 | 7).to_bytes(8, "little"))  # the second section points nowhere
    bits, counts = scanned(builder, tmp_path)
    assert counts.warnings == ("some pages are kept: parts of mem_map that cannot be found: 1",)
    assert bits.all_kept(SECTION_PAGES, SECTION_PAGES + 1024)


def test_free_blocks_before_a_structure_that_is_gone_are_dropped(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    for pfn in range(SECTION_PAGES, 2 * SECTION_PAGES, 1024):
        builder.page(pfn, _mapcount=-129, private=10)
    hole = SECTION_PAGES + SECTION_PAGES // 2
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        gone = core.memory.read

        def view(physical: int, size: int) -> bytes:
            if builder.structure_at(hole) <= physical < builder.structure_at(hole) + 64 * 1024:
                raise VmcoreError("gone")
            return gone(physical, size)

        core.memory.view = view  # type: ignore[method-assign]
        counts = user.scan(core, ALL, (), Bits())
    assert counts.free == SECTION_PAGES - 1024
    assert counts.warnings == ("1024 pages are kept because their page structures cannot be read",)


def test_structure_that_cannot_be_read_costs_its_own_stride(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    gone = builder.structure_at(SECTION_PAGES + 3 * 1024 + 517)
    for pfn in range(SECTION_PAGES, 2 * SECTION_PAGES):
        builder.page(pfn, flags=LRU)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        window = core.memory.window

        def broken(physical: int, size: int) -> object:
            if physical <= gone < physical + size:
                raise VmcoreError("gone")
            return window(physical, size)

        core.memory.window = broken  # type: ignore[assignment, method-assign]
        counts = user.scan(core, ALL, (), Bits())
    assert counts.cache == SECTION_PAGES - 1024
    assert counts.warnings == ("1024 pages are kept because their page structures cannot be read",)


def test_structure_of_a_page_that_is_not_in_the_vmcore_decides_nothing(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.page(0, flags=1 << 16 | LRU)
    builder.page(1, compound_order=16)
    _, counts = scanned(builder, tmp_path)
    assert counts.kept == counts.total


@pytest.mark.parametrize("level", [0, 1, 16, 31])
def test_poisoned_tail_of_a_huge_page_is_left_out(level: int, tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    poison = int(builder.info["NUMBER(PG_hwpoison)"] or 0)
    builder.page(0x2200, flags=1 << 16)
    for pfn in range(0x2201, 0x2400):
        builder.page(pfn, compound_head=0xFFFFEA0000088001)
    builder.page(0x2277, flags=1 << poison)
    _, counts = scanned(builder, tmp_path, PageKind(level))
    assert counts.hwpoison == 1


@pytest.mark.parametrize(
    ("missing", "kept"),
    [("PG_private", "cache"), ("PG_slab", "user and cache"), ("PAGE_BUDDY_MAPCOUNT_VALUE", "free")],
)
def test_class_that_vmcoreinfo_does_not_tell_is_kept_and_the_others_are_not(
    missing: str, kept: str, tmp_path: Path
) -> None:
    builder = VmcoreBuilder(info={f"NUMBER({missing})": None})
    builder.page(0x2000, flags=LRU)
    builder.page(0x3000, _mapcount=-129, private=10)
    _, counts = scanned(builder, tmp_path)
    assert counts.warnings[0].startswith(f"{kept} pages are kept")
    assert counts.cache == (0 if "cache" in kept else 1)
    assert counts.free == (0 if kept == "free" else 1024)


def test_pages_that_the_file_does_not_store_are_left_out(tmp_path: Path) -> None:
    path = Path(VmcoreBuilder().save(tmp_path / "vmcore"))
    header = bytearray(path.read_bytes()[:4096])
    last = 64 + 56 * (header[56] - 1)  # the last PT_LOAD: its p_filesz becomes a page
    header[last + 32 : last + 40] = (4096 * 4096).to_bytes(8, "little")
    with path.open("r+b") as file:
        file.write(header)
    bits = Bits()
    with Vmcore.open(str(path)) as core:
        counts = unfiltered.scan(core, ALL, (), bits)
    assert counts.total == counts.kept < 2 * 4096


def test_unfiltered_keeps_all_that_is_present(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.free_block(0x2000, 10)
    bits = Bits()
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        counts = unfiltered.scan(core, ALL, (Interval(0x2000, 0x2001),), bits)
    assert counts.kept == counts.total - 1
    assert bits.kept(0x2001)


def test_memory_of_a_scan_is_bounded(tmp_path: Path) -> None:
    class Nothing:
        def write(self, bits: bytes) -> None:
            pass

    with Vmcore.open(VmcoreBuilder().save(tmp_path / "vmcore")) as core:
        tracemalloc.start()
        user.scan(core, ALL, (), Nothing())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 3 * MIB
