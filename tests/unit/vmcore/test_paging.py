"""Page tables: what is translated, by which geometry, and that a damaged table ends in an error, not in a loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from struct import pack

import pytest

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.architecture import geometry, physical_bits, root_table, section_size_bits
from kdumpd.vmcore.elf import AARCH64, X86_64
from kdumpd.vmcore.paging import Mapped, PageTables
from kdumpd.vmcore.vmcore import Vmcore
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo
from tests.builders.vmcore import IMAGE, MIB, STRUCTURES, VMEMMAP, VmcoreBuilder

_VMALLOC = 0xFFFFC90000000000
_ROOT = 0x300000
_TEXT = b"PAGESIZE=%d\nOSRELEASE=6.12.1\n"


def _info(page_size: int = 4096, values: Mapping[str, int | str] | None = None) -> VmcoreInfo:
    """VMCOREINFO with these values; a bare name is a NUMBER."""
    lines = "".join(f"{key if '(' in key else f'NUMBER({key})'}={value}\n" for key, value in (values or {}).items())
    return VmcoreInfo(_TEXT % page_size + lines.encode(), "vmcore")


class _Tables:
    """Physical memory for page tables of any geometry, made of words."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.memory = bytearray(64 * page_size)
        self.reads = 0

    def entry(self, table: int, index: int, value: int) -> None:
        self.memory[table + 8 * index : table + 8 * index + 8] = pack("<Q", value)

    def read(self, physical: int, size: int) -> bytes:
        self.reads += 1
        if physical + size > len(self.memory):
            raise VmcoreError(f"vmcore: physical {physical:#x} is in no PT_LOAD")
        return bytes(self.memory[physical : physical + size])


@pytest.mark.parametrize("five_levels", [False, True])
def test_leaves_of_every_size_are_translated(tmp_path: Path, five_levels: bool) -> None:
    builder = VmcoreBuilder(five_levels=five_levels)
    builder.map(_VMALLOC, 0x5000)
    builder.map(_VMALLOC + (1 << 30), 0x600000, 2 * MIB)
    builder.map(_VMALLOC + (2 << 30), 1 << 30, 1 << 30)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        translate = core.tables.translate
        assert translate(_VMALLOC + 0x123) == 0x5123
        assert translate(_VMALLOC + (1 << 30) + 0x12345) == 0x612345
        assert translate(_VMALLOC + (2 << 30) + 0x1234567) == (1 << 30) + 0x1234567
        with pytest.raises(VmcoreError, match="not mapped"):
            translate(_VMALLOC + 0x1000)


@pytest.mark.parametrize("phys_base", [0, 0x200000, -0x400000, 0x10000000])
def test_kaslr_moves_the_image_and_the_root(tmp_path: Path, phys_base: int) -> None:
    builder = VmcoreBuilder(phys_base=phys_base)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert core.tables.translate(int(builder.image(0x123456), 16)) == 0x123456
        assert core.phys_base == phys_base


def test_the_encryption_bit_is_no_part_of_an_address(tmp_path: Path) -> None:
    mask = 1 << 47
    builder = VmcoreBuilder(info={"NUMBER(sme_mask)": str(mask)})
    builder.map(_VMALLOC, 0x5000 | mask)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert core.tables.translate(_VMALLOC) == 0x5000


def test_runs_join_what_is_contiguous_and_leave_out_what_is_not_mapped(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    for page, physical in enumerate((0x5000, 0x6000, 0x9000, None, 0xA000, 0xB000)):
        if physical is not None:
            builder.map(_VMALLOC + page * 4096, physical)
    builder.map(_VMALLOC + 2 * MIB, 0x800000, 2 * MIB)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert list(core.tables.runs(_VMALLOC + 0x800, 4 * MIB - 0x900)) == [
            Mapped(_VMALLOC + 0x800, 0x5800, 0x1800),
            Mapped(_VMALLOC + 0x2000, 0x9000, 0x1000),
            Mapped(_VMALLOC + 0x4000, 0xA000, 0x2000),
            Mapped(_VMALLOC + 2 * MIB, 0x800000, 2 * MIB - 0x100),
        ]


@pytest.mark.parametrize("leaf", [2 * MIB, 4096])
@pytest.mark.parametrize("broken", [None, 0, 1, 7, 15])
@pytest.mark.parametrize("step", [1, -1])
def test_many_leaves_at_once_are_what_they_are_one_by_one(
    leaf: int, broken: int | None, step: int, tmp_path: Path
) -> None:
    builder = VmcoreBuilder()
    places = [0x40000000 + step * index * leaf for index in range(16)]
    if broken is not None:
        places[broken] += 64 * leaf
    for index, physical in enumerate(places):
        builder.map(_VMALLOC + index * leaf, physical, leaf)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        for first, end in ((0, 16 * leaf), (8, leaf), (leaf - 8, leaf + 8), (3 * leaf + 123, 15 * leaf + 7)):
            runs = list(core.tables.runs(_VMALLOC + first, end - first))
            for mapped in runs:
                for at in range(0, mapped.size, leaf // 4):
                    assert core.tables.translate(mapped.virtual + at) == mapped.physical + at
            assert sum(mapped.size for mapped in runs) == end - first
            if broken is None and step == 1:
                assert len(runs) == 1


def test_virtual_memory_over_scattered_pages_is_read_as_one(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.map(_VMALLOC, STRUCTURES + 0x3000)
    builder.map(_VMALLOC + 4096, STRUCTURES)
    builder.write(STRUCTURES + 0x3F00, b"a" * 256)
    builder.write(STRUCTURES, b"b" * 256)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert core.read_virtual(_VMALLOC + 0xF00, 512) == b"a" * 256 + b"b" * 256
        with pytest.raises(VmcoreError, match=f"{_VMALLOC + 0x2000:#x} is not mapped"):
            core.read_virtual(_VMALLOC + 0xF00, 0x2000)


@pytest.mark.parametrize(("address", "size"), [(0x1000, 8), ((1 << 64) - 8, 16), (0xFFFF000000000000, 8), (1 << 64, 8)])
def test_what_is_no_kernel_address_is_refused(tmp_path: Path, address: int, size: int) -> None:
    with (
        Vmcore.open(VmcoreBuilder().save(tmp_path / "vmcore")) as core,
        pytest.raises(VmcoreError, match="not an address of the kernel's"),
    ):
        core.read_virtual(address, size)


def test_what_lies_in_one_leaf_is_read_at_once_and_by_one_walk(tmp_path: Path) -> None:
    tables = _Tables(4096)
    tables.entry(0, 511, 0x1003)
    tables.entry(0x1000, 0, 0x2003)
    tables.entry(0x2000, 0, 0x3003)
    tables.entry(0x2000, 1, 0x83)  # 2 MiB
    for index, physical in ((0, 0x5000), (1, 0x6000), (3, 0x7000)):
        tables.entry(0x3000, index, physical | 3)
    tables.memory[0x5000:0x8000] = bytes(range(256)) * 48
    tables.memory[0x5100] = 77
    walker = PageTables(geometry(X86_64, _info()), 0, tables.read, "vmcore")
    start = (1 << 64) - (1 << 39)
    assert walker.read(start + 0x100, 3) == b"\x4d\1\2"
    assert tables.reads == 5
    assert walker.read(start + 0xFFE, 4) == b"\xfe\xff\0\1"
    assert walker.read(start + 2 * MIB + 0x5100, 2) == b"\x4d\1"
    assert walker.read(start + 0x3000, 2) == b"\0\1"
    for address, size in ((start + 0x2000, 1), (start + 0x1FFF, 2), (start + 0x4000, 8)):
        with pytest.raises(VmcoreError, match="not mapped"):
            walker.read(address, size)


def test_a_table_is_read_once_for_all_its_pages(tmp_path: Path) -> None:
    tables = _Tables(4096)
    tables.entry(0, 511, 0x1003)
    tables.entry(0x1000, 0, 0x2003)
    tables.entry(0x2000, 0, 0x3003)
    for index in range(512):
        tables.entry(0x3000, index, (0x100 + index) << 12 | 3)
    walker = PageTables(geometry(X86_64, _info()), 0, tables.read, "vmcore")
    start = (1 << 64) - (1 << 39)
    assert list(walker.runs(start, 2 * MIB)) == [Mapped(start, 0x100000, 2 * MIB)]
    for page in range(512):
        assert walker.translate(start + page * 4096) == (0x100 + page) << 12
    assert tables.reads == 4


def test_the_cache_of_tables_is_bounded() -> None:
    tables = _Tables(4096)
    tables.memory = bytearray(2048 * 4096)
    tables.entry(0, 511, 0x1003)
    tables.entry(0x1000, 0, 0x2003)
    for index in range(512):
        tables.entry(0x2000, index, (3 + index) << 12 | 3)
        tables.entry((3 + index) << 12, 0, 0x100003)
    walker = PageTables(geometry(X86_64, _info()), 0, tables.read, "vmcore")
    start = (1 << 64) - (1 << 39)
    assert len(list(walker.runs(start, 1 << 30))) == 512
    before = tables.reads
    walker.translate(start)
    assert tables.reads > before  # the first table had to leave


def test_a_table_below_itself_is_an_error(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    slot = VMEMMAP >> 39 & 511
    builder.write(_ROOT + 8 * slot, pack("<Q", _ROOT | 0x67))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core, pytest.raises(VmcoreError, match="lies below itself"):
        list(core.mem_map())


def test_a_block_where_none_can_be_is_an_error(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.write(_ROOT + 8 * (_VMALLOC >> 39 & 511), pack("<Q", 0x800000 | 0xE7))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core, pytest.raises(VmcoreError, match="does not have"):
        core.read_virtual(_VMALLOC, 8)


def test_what_such_a_block_holds_is_no_table() -> None:
    tables = _Tables(4096)
    tables.entry(0, 511, 0x10E7)  # a block of 512 GiB
    tables.entry(0x1000, 0, 0x2003)
    tables.entry(0x2000, 0, 0x3003)
    tables.entry(0x3000, 0, 0x5003)
    walker = PageTables(geometry(X86_64, _info()), 0, tables.read, "vmcore")
    with pytest.raises(VmcoreError, match="does not have"):
        walker.read((1 << 64) - (1 << 39), 8)


def test_a_table_outside_memory_is_an_error(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    builder.write(_ROOT + 8 * (_VMALLOC >> 39 & 511), pack("<Q", (1 << 45) | 0x67))
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core, pytest.raises(VmcoreError, match="in no PT_LOAD"):
        core.tables.read(_VMALLOC, 8)


@pytest.mark.parametrize(
    ("page_size", "numbers", "shifts", "root_bits"),
    [
        (4096, {"VA_BITS": 39}, (30, 21, 12), 9),
        (4096, {"VA_BITS": 48}, (39, 30, 21, 12), 9),
        (4096, {"VA_BITS": 52, "TCR_EL1_T1SZ": "0xc"}, (48, 39, 30, 21, 12), 4),
        (4096, {"VA_BITS": 52, "TCR_EL1_T1SZ": "0x10"}, (39, 30, 21, 12), 9),
        (16384, {"VA_BITS": 36}, (25, 14), 11),
        (16384, {"VA_BITS": 47}, (36, 25, 14), 11),
        (16384, {"VA_BITS": 48}, (47, 36, 25, 14), 1),
        (65536, {"VA_BITS": 42}, (29, 16), 13),
        (65536, {"VA_BITS": 48}, (42, 29, 16), 6),
        (65536, {"VA_BITS": 52, "TCR_EL1_T1SZ": "0xc"}, (42, 29, 16), 10),
        (65536, {"VA_BITS": 52, "TCR_EL1_T1SZ": "0x10"}, (42, 29, 16), 10),
    ],
)
def test_geometries_of_aarch64(
    page_size: int, numbers: Mapping[str, int | str], shifts: tuple[int, ...], root_bits: int
) -> None:
    tables = geometry(AARCH64, _info(page_size, numbers))
    assert tables.shifts == shifts
    assert tables.root_bits == root_bits
    assert tables.page_size == page_size


def test_aarch64_pages_and_blocks_are_translated() -> None:
    tables = _Tables(4096)
    tables.entry(0, 0x1FF, 0x1003)
    tables.entry(0x1000, 0, 0x2003)
    tables.entry(0x1000, 1, 0x0060000040000701)  # a block of 1 GiB at 1 GiB
    tables.entry(0x2000, 0, 0x3003)
    tables.entry(0x2000, 1, 0x0060000000400701)  # a block of 2 MiB at 4 MiB
    tables.entry(0x3000, 5, 0x0068000000009703)
    tables.entry(0x3000, 6, 0x0068000000009701)  # no page at this level
    walker = PageTables(geometry(AARCH64, _info(values={"VA_BITS": 48})), 0, tables.read, "vmcore")
    start = (1 << 64) - (1 << 39)
    assert walker.translate(start + 0x5123) == 0x9123
    assert walker.translate(start + 2 * MIB + 0x777) == 0x400777
    assert walker.translate(start + (1 << 30) + 0x777) == 0x40000777
    with pytest.raises(VmcoreError, match="not mapped"):
        walker.translate(start + 0x6000)


@pytest.mark.parametrize(
    ("page_size", "numbers", "entry", "physical"),
    [
        (4096, {"VA_BITS": 52, "TCR_EL1_T1SZ": "0xc"}, 0x0003000000009303, 0xF000000009000),
        (4096, {"VA_BITS": 48, "MAX_PHYSMEM_BITS": 52}, 0x0000000000009303, 0x9000),
        (65536, {"VA_BITS": 48, "MAX_PHYSMEM_BITS": 52}, 0x000000000001F703, 0xF000000010000),
        (65536, {"VA_BITS": 48, "MAX_PHYSMEM_BITS": 48}, 0x0000000000010703, 0x10000),
    ],
)
def test_wide_physical_addresses_of_aarch64(
    page_size: int, numbers: Mapping[str, int | str], entry: int, physical: int
) -> None:
    assert geometry(AARCH64, _info(page_size, numbers)).address(entry) == physical


@pytest.mark.parametrize(
    ("machine", "page_size", "numbers", "message"),
    [
        (X86_64, 65536, {}, "x86_64 has 4096"),
        (AARCH64, 4096, {}, r"no NUMBER\(VA_BITS\)"),
        (AARCH64, 4096, {"VA_BITS": 200}, "200 bits of virtual address|200 of 200 bits"),
        (AARCH64, 4096, {"VA_BITS": 48, "TCR_EL1_T1SZ": 0}, "64 of 48 bits"),
        (AARCH64, 65536, {"VA_BITS": 16}, "16 of 16 bits"),
        (AARCH64, 4096, {"VA_BITS": -5}, "-5 of -5 bits"),
    ],
)
def test_absurd_geometries_are_refused(
    machine: int, page_size: int, numbers: Mapping[str, int | str], message: str
) -> None:
    with pytest.raises(VmcoreError, match=message):
        geometry(machine, _info(page_size, numbers))


def test_roots() -> None:
    x86: dict[str, int | str] = {"SYMBOL(swapper_pg_dir)": "ffffffffa4210000", "phys_base": -293601280}
    assert root_table(X86_64, _info(values=x86)) == 0xFFFFFFFFA4210000 - IMAGE - 293601280
    arm: dict[str, int | str] = {"SYMBOL(swapper_pg_dir)": "ffff800081cd0000", "kimage_voffset": "0xffff800040000000"}
    assert root_table(AARCH64, _info(values=arm)) == 0x41CD0000
    with pytest.raises(VmcoreError, match="root page table"):
        root_table(X86_64, _info(values={"SYMBOL(init_top_pgt)": "1001", "phys_base": 0}))
    with pytest.raises(VmcoreError, match=r"no NUMBER\(kimage_voffset\)"):
        root_table(AARCH64, _info(values={"SYMBOL(swapper_pg_dir)": "ffff800081cd0000"}))


@pytest.mark.parametrize(
    ("machine", "release", "page_size", "bits"),
    [
        (X86_64, "5.10.0", 4096, 27),
        (AARCH64, "5.10.0", 4096, 30),
        (AARCH64, "5.12.0", 4096, 27),
        (AARCH64, "5.13.1", 65536, 29),
    ],
)
def test_section_sizes_that_old_kernels_do_not_say(machine: int, release: str, page_size: int, bits: int) -> None:
    info = VmcoreInfo(f"PAGESIZE={page_size}\nOSRELEASE={release}\n".encode())
    assert section_size_bits(machine, info) == bits


def test_absurd_bits_are_refused() -> None:
    with pytest.raises(VmcoreError, match="SECTION_SIZE_BITS=200"):
        section_size_bits(X86_64, _info(values={"SECTION_SIZE_BITS": 200}))
    with pytest.raises(VmcoreError, match="MAX_PHYSMEM_BITS=200"):
        physical_bits(X86_64, _info(values={"MAX_PHYSMEM_BITS": 200}))
