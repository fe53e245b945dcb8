"""mem_map as physical runs: found by the page tables, joined where they are contiguous, clipped to what is there."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from struct import pack

import pytest

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.elf import X86_64, ElfCore, Segment, Segments
from kdumpd.vmcore.mem_map import Gaps, MemMapRun, mem_map, physical_ranges
from kdumpd.vmcore.memory import Memory, Range
from kdumpd.vmcore.paging import page_tables
from kdumpd.vmcore.vmcore import Vmcore
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo
from tests.builders.vmcore import DIRECT, IMAGE, MIB, SECTION_PAGES, VMEMMAP, VmcoreBuilder
from tests.builders.vmcoreinfo import KERNEL_6_1, text

_ROOTS = 0x204000
_SECTIONS = 0x20C000
_FOUR_SECTIONS = ((0x1000, 0x9F000), (0x100000, 512 * MIB))


def _runs(builder: VmcoreBuilder, tmp_path: Path) -> list[MemMapRun]:
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        return list(core.mem_map())


@pytest.mark.parametrize("leaf", [2 * MIB, 4096])
@pytest.mark.parametrize("five_levels", [False, True])
def test_contiguous_sections_are_one_run(tmp_path: Path, leaf: int, five_levels: bool) -> None:
    builder = VmcoreBuilder(_FOUR_SECTIONS, leaf=leaf, five_levels=five_levels)
    assert _runs(builder, tmp_path) == [MemMapRun(0, 4 * SECTION_PAGES, 16 * MIB)]


def test_each_structure_is_where_the_run_says(tmp_path: Path) -> None:
    builder = VmcoreBuilder(mem_map_of=lambda section: (32 - 4 * section) * MIB, leaf=4096)
    pfns = (0, 1, 0x1234, SECTION_PAGES - 1, SECTION_PAGES, 2 * SECTION_PAGES - 1)
    for pfn in pfns:
        builder.page(pfn, private=pfn * 1000003)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        runs = list(core.mem_map())
        for pfn in pfns:
            (run,) = [run for run in runs if run.first_pfn <= pfn < run.first_pfn + run.pages]
            structure = core.memory.view(run.physical + (pfn - run.first_pfn) * 64, 64)
            assert int.from_bytes(structure[40:48], "little") == pfn * 1000003


def test_sections_laid_out_downwards_are_runs_whose_memory_joins(tmp_path: Path) -> None:
    runs = _runs(VmcoreBuilder(_FOUR_SECTIONS, mem_map_of=lambda section: (32 - 2 * section) * MIB), tmp_path)
    assert runs == [MemMapRun(section * SECTION_PAGES, SECTION_PAGES, (32 - 2 * section) * MIB) for section in range(4)]
    assert list(physical_ranges(runs, 64)) == [Range(26 * MIB, 34 * MIB)]


def test_physical_ranges_join_upwards_and_leave_holes() -> None:
    runs = [MemMapRun(0, 64, 0x1000), MemMapRun(64, 64, 0x2000), MemMapRun(128, 64, 0x9000), MemMapRun(192, 64, 0x5000)]
    assert list(physical_ranges(runs, 64)) == [Range(0x1000, 0x3000), Range(0x9000, 0xA000), Range(0x5000, 0x6000)]
    assert list(physical_ranges([], 64)) == []


def test_pages_of_vmemmap_mapped_elsewhere_split_the_run(tmp_path: Path) -> None:
    builder = VmcoreBuilder(leaf=4096)
    elsewhere = 9 * MIB
    builder.map(VMEMMAP + 3 * 4096, elsewhere)  # as hugetlb's vmemmap optimisation does
    assert _runs(builder, tmp_path) == [
        MemMapRun(0, 192, 16 * MIB),
        MemMapRun(192, 64, elsewhere),
        MemMapRun(256, 2 * SECTION_PAGES - 256, 16 * MIB + 4 * 4096),
    ]


def test_pages_of_vmemmap_that_are_not_mapped_are_in_no_run(tmp_path: Path) -> None:
    builder = VmcoreBuilder(leaf=4096)
    builder.map(VMEMMAP + 4096, 0)
    place = builder.read(_table_of(builder, VMEMMAP), 4096).index(pack("<Q", 0x8000000000000063))
    builder.write(_table_of(builder, VMEMMAP) + place, bytes(8))
    assert _runs(builder, tmp_path) == [
        MemMapRun(0, 64, 16 * MIB),
        MemMapRun(128, 2 * SECTION_PAGES - 128, 16 * MIB + 2 * 4096),
    ]


def _table_of(builder: VmcoreBuilder, virtual: int) -> int:
    table = 0x300000
    for shift in builder.levels[:-1]:
        table = int.from_bytes(builder.read(table + 8 * (virtual >> shift & 511), 8), "little") & 0xFFFFFFFFF000
    return table


def test_structures_whose_memory_is_not_in_the_vmcore_are_in_no_run(tmp_path: Path) -> None:
    builder = VmcoreBuilder(leaf=4096)
    builder.map(VMEMMAP + 4096, 1 << 40)
    assert [run.pages for run in _runs(builder, tmp_path)] == [64, 2 * SECTION_PAGES - 128]


def test_a_structure_over_two_pieces_is_in_no_run(tmp_path: Path) -> None:
    builder = VmcoreBuilder(info={"SIZE(page)": "56"}, leaf=4096)
    builder.map(VMEMMAP + 4096, 9 * MIB)
    # 4096 / 56 = 73.1: structure 73 lies across; 8192 / 56 = 146.3: 146 does.
    assert _runs(builder, tmp_path) == [
        MemMapRun(0, 73, 16 * MIB),
        MemMapRun(74, 72, 9 * MIB + 74 * 56 - 4096),
        MemMapRun(147, 2 * SECTION_PAGES - 147, 16 * MIB + 147 * 56),
    ]


@pytest.mark.parametrize("offline", [(), (0,), (3,), (9,), (2, 3, 4), (1, 8), tuple(range(10))])
def test_sections_are_the_same_together_as_one_by_one(offline: tuple[int, ...], tmp_path: Path) -> None:
    ranges = ((0x1000, 0x9F000), (MIB, 700 * MIB), (800 * MIB, 801 * MIB), (900 * MIB, 1200 * MIB))
    builder = VmcoreBuilder(ranges, offline_sections=offline)
    online = [section for section in builder.sections if section not in offline]
    found = _runs(builder, tmp_path)
    in_runs = {pfn // SECTION_PAGES for run in found for pfn in range(run.first_pfn, run.first_pfn + run.pages, 1024)}
    assert sorted(in_runs) == online
    for run in found:
        assert run.physical == builder.structure_at(run.first_pfn)


def test_offline_sections_are_passed_over(tmp_path: Path) -> None:
    assert [run.first_pfn for run in _runs(VmcoreBuilder(_FOUR_SECTIONS, offline_sections=[1]), tmp_path)] == [
        0,
        2 * SECTION_PAGES,
    ]


def test_sections_without_memory_are_passed_over_and_the_last_is_clipped(tmp_path: Path) -> None:
    builder = VmcoreBuilder(((0x100000, 64 * MIB), (4096 * MIB, 4096 * MIB + 5 * 4096 + 17)))
    assert _runs(builder, tmp_path) == [
        MemMapRun(0, SECTION_PAGES, 16 * MIB),
        MemMapRun(1 << 20, 6, 18 * MIB),
    ]


def test_a_range_over_a_root_without_sections_is_passed_over(tmp_path: Path) -> None:
    builder = VmcoreBuilder(((0x100000, 64 * MIB),))
    builder.ranges = (*builder.ranges, (60 << 30, 70 << 30))  # sections of the second root and a third
    assert _runs(builder, tmp_path) == [MemMapRun(0, SECTION_PAGES, 16 * MIB)]


def test_sections_without_extreme_lie_in_the_table_itself(tmp_path: Path) -> None:
    sections = 1 << 46 - 27
    builder = VmcoreBuilder(
        info={"LENGTH(mem_section)": str(sections), "SYMBOL(mem_section)": f"{DIRECT + _SECTIONS:x}"}
    )
    assert _runs(builder, tmp_path) == [MemMapRun(0, 2 * SECTION_PAGES, 16 * MIB)]


def test_flags_that_newer_kernels_add_are_no_part_of_the_address(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    for section in range(2):
        builder.write(_SECTIONS + 16 * section, pack("<Q", VMEMMAP | 0xFF))
    assert _runs(builder, tmp_path) == [MemMapRun(0, 2 * SECTION_PAGES, 16 * MIB)]


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"SIZE(page)": "0"}, "SIZE(page)=0"),
        ({"SIZE(page)": "-64"}, "SIZE(page)=-64"),
        ({"SIZE(page)": "1048576"}, "SIZE(page)=1048576"),
        ({"SIZE(page)": None}, "no SIZE(page)"),
        ({"NUMBER(SECTION_SIZE_BITS)": "200"}, "SECTION_SIZE_BITS=200"),
        ({"NUMBER(SECTION_SIZE_BITS)": "0"}, "SECTION_SIZE_BITS=0"),
        ({"NUMBER(SECTION_SIZE_BITS)": "-1"}, "SECTION_SIZE_BITS=-1"),
        ({"SYMBOL(mem_section)": None}, "only sparsemem is supported"),
        ({"SYMBOL(mem_section)": "1000"}, "not an address of the kernel's"),
        ({"LENGTH(mem_section)": "0"}, "LENGTH(mem_section)=0"),
        ({"LENGTH(mem_section)": "99999999999"}, "LENGTH(mem_section)=99999999999"),
        ({"SIZE(mem_section)": "0"}, "SIZE(mem_section)=0"),
        ({"OFFSET(mem_section.section_mem_map)": "9"}, "section_mem_map at 9"),
        ({"OFFSET(mem_section.section_mem_map)": "-8"}, "section_mem_map at -8"),
    ],
)
def test_absurd_vmcoreinfo_is_named(tmp_path: Path, info: dict[str, str | None], message: str) -> None:
    builder = VmcoreBuilder()
    builder.info.update(info)
    with pytest.raises(VmcoreError) as caught:
        _runs(builder, tmp_path)
    assert message in str(caught.value)


def test_a_root_that_points_nowhere_is_an_error(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.write(_ROOTS, pack("<Q", 0x1234))
    with pytest.raises(VmcoreError, match="not an address of the kernel's"):
        _runs(builder, tmp_path)


@pytest.mark.parametrize("damaged", [0, 1, 2, 3])
def test_a_section_that_points_nowhere_is_left_out_and_counted(tmp_path: Path, damaged: int) -> None:
    builder = VmcoreBuilder(_FOUR_SECTIONS)
    builder.write(_SECTIONS + 16 * damaged, pack("<Q", 0x1234567F00 | 7))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        known = {
            run.first_pfn // SECTION_PAGES + n for run in core.mem_map() for n in range(run.pages // SECTION_PAGES)
        }
        assert core.mem_map_gaps == 1
    assert known == {0, 1, 2, 3} - {damaged}


def test_a_damaged_page_table_loses_only_the_sections_it_maps(tmp_path: Path) -> None:
    builder = VmcoreBuilder(_FOUR_SECTIONS, leaf=4096)
    builder.map(VMEMMAP + 2 * SECTION_PAGES * 64, (1 << 51) - 4096, 4096)  # makes the table writable below
    level_2 = next(page for page in builder._pages if builder.read(page * 4096, 8) and _maps_four(builder, page))
    builder.write(level_2 * 4096 + 8, pack("<Q", (1 << 46) | 0x67))  # a table that is in no PT_LOAD
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        runs = list(core.mem_map())
        assert core.mem_map_gaps == 1
    assert runs[0].first_pfn == 0
    assert not [run for run in runs if run.first_pfn < 2 * SECTION_PAGES and run.first_pfn + run.pages > SECTION_PAGES]
    assert runs[-1].first_pfn + runs[-1].pages == 4 * SECTION_PAGES


def _maps_four(builder: VmcoreBuilder, page: int) -> bool:
    """Whether this page is the table whose first four entries map the four sections of vmemmap."""
    entries = [int.from_bytes(builder.read(page * 4096 + 8 * index, 8), "little") for index in range(6)]
    return all(entry & 0xFFF == 0x67 for entry in entries[:4]) and entries[4:] == [0, 0]


def test_roots_whose_pointers_cannot_be_read_together_are_read_one_by_one(tmp_path: Path) -> None:
    """mem_section's table crosses into a page that is not mapped, behind the one pointer that is needed."""
    table = 0xFFFFC90000000000
    builder = VmcoreBuilder(_FOUR_SECTIONS, info={"SYMBOL(mem_section)": f"{table + 0xFF8:x}"})
    builder.map(table, 0x5000)
    builder.write(0x5FF8, builder.read(_ROOTS, 8))
    assert _runs(builder, tmp_path) == [MemMapRun(0, 4 * SECTION_PAGES, 16 * MIB)]


def test_pointers_that_cannot_be_read_are_not_those_that_were_read_before(tmp_path: Path) -> None:
    """The page with the pointers to roots 512 and 513 is not mapped: root 513 is not where root 1 is."""
    table, root = 0xFFFFC90000000000, 32 << 30
    builder = VmcoreBuilder(_FOUR_SECTIONS, info={"SYMBOL(mem_section)": f"{table:x}"})
    builder.map(table, 0x5000)
    builder.write(0x5000, builder.read(_ROOTS, 8) * 2)
    builder.ranges = (*builder.ranges, *((number * root, number * root + MIB) for number in (512, 513)))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert list(core.mem_map()) == [MemMapRun(0, 4 * SECTION_PAGES, 16 * MIB)]
        assert core.mem_map_gaps == 2


@pytest.mark.parametrize("offset", [0, 8, 20])
def test_sections_are_found_wherever_their_field_lies(tmp_path: Path, offset: int) -> None:
    size = 32 if offset < 20 else 28
    builder = VmcoreBuilder(
        _FOUR_SECTIONS, info={"SIZE(mem_section)": str(size), "OFFSET(mem_section.section_mem_map)": str(offset)}
    )
    coded = builder.read(_SECTIONS, 8)
    for number in range(4):
        builder.write(_SECTIONS + number * size, bytes(offset) + coded + bytes(size - offset - 8))
    assert _runs(builder, tmp_path) == [MemMapRun(0, 4 * SECTION_PAGES, 16 * MIB)]


def test_four_tebibytes_are_walked_in_little_memory() -> None:
    """vmemmap of 2 MiB leaves, its tables answered by functions: a billion structures, 32,768 leaves, one run."""
    tebibyte, first_leaf = 1 << 40, 1 << 41
    info = VmcoreInfo(
        text({**KERNEL_6_1, "SYMBOL(init_top_pgt)": f"{IMAGE + 0x1000:x}", "SYMBOL(mem_section)": f"{DIRECT:x}"})
    )

    def read_physical(address: int, size: int) -> bytes:
        if address == 0x1000:
            entries = [0x10003 if index == VMEMMAP >> 39 & 511 else 0 for index in range(512)]
        elif address == 0x10000:
            entries = [(0x100000 + index * 4096) | 3 for index in range(512)]
        else:
            first = (address - 0x100000) // 4096 * 512
            entries = [first_leaf + (first + index) * 2 * MIB | 0x83 for index in range(512)]
        return pack("<512Q", *entries)

    def read_virtual(address: int, size: int) -> bytes:
        if address < DIRECT + 0x10000:
            return pack("<Q", DIRECT + 0x10000) * (size // 8)
        return pack("<QQ", VMEMMAP | 7, 0) * 256

    with Path("/dev/null").open("rb") as file:
        segments = Segments([Segment(0, 0, 4 * tebibyte, 4 * tebibyte, 0)])
        memory = Memory(file.fileno(), ElfCore(X86_64, segments, b"", (0, 0), 0, 0), "vmcore")
        tables = page_tables(X86_64, info, read_physical)
        tracemalloc.start()
        runs = list(mem_map(X86_64, info, memory, tables, read_virtual, Gaps()))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert runs == [MemMapRun(0, 1 << 30, first_leaf)]
    assert most < 2 * MIB
