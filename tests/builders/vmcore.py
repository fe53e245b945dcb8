"""Builds a small, valid x86_64 vmcore: physical memory, page tables, sections, page structures, notes.

    builder = VmcoreBuilder()
    builder.page(0x1234, flags=1 << 4, mapping=0xffff888001000000)
    path = builder.save(tmp_path / "vmcore")

Every page structure starts as that of a page the kernel uses: all zeros, `_refcount` 1, `_mapcount` -1. The file is
sparse: only written pages take room. The kernel's image, the direct map and vmemmap are mapped as on real kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from struct import pack

from tests.builders.vmcoreinfo import KERNEL_6_1, text

PAGE = 4096
MIB = 1 << 20
IMAGE = 0xFFFFFFFF80000000  # where physical 0 (plus phys_base) appears in the kernel's image map
DIRECT = 0xFFFF888000000000
VMEMMAP = 0xFFFFEA0000000000
SECTION_BITS = 27
SECTION_PAGES = 1 << SECTION_BITS - 12
SECTION_ONLINE = 0b11111 & ~0b10000  # present, has mem_map, online, early

# Real machines have a hole below 1 MiB; the rest is two sections.
RANGES = ((0x1000, 0x9F000), (0x100000, 256 * MIB))

# Sizes in bytes of the fields of struct page.
FIELDS = {
    "flags": 8,
    "_refcount": 4,
    "mapping": 8,
    "_mapcount": 4,
    "private": 8,
    "compound_dtor": 1,
    "compound_order": 1,
    "compound_head": 8,
    "compound_info": 8,
}

# Physical places, in the first section, of what the builder itself needs.
_UTSNAME = 0x200000
_NODE_ONLINE_MAP = 0x201000
_NODE_DATA = 0x202000
ROOTS = 0x204000
SECTIONS = 0x20C000
_PGDAT = 0x210000
_TABLES = 0x300000
_MEM_MAP = 16 * MIB
STRUCTURES = 8 * MIB  # from here to 16 MiB tests place what they like


class VmcoreBuilder:
    """A vmcore in the making; nothing is written before `save` or `segments`."""

    def __init__(
        self,
        ranges: Sequence[tuple[int, int]] = RANGES,
        *,
        info: Mapping[str, str | None] | None = None,
        five_levels: bool = False,
        phys_base: int = 0,
        leaf: int = 2 * MIB,
        mem_map_of: Callable[[int], int] | None = None,
        offline_sections: Sequence[int] = (),
        processors: int = 2,
        machine: int = 62,
    ) -> None:
        """`ranges`: physical memory. `leaf`: what vmemmap is mapped with. `mem_map_of`: physical place of a section's
        structures (the default packs them upward from 16 MiB). `info`: changes to 6.1's VMCOREINFO, None deletes."""
        self.ranges = tuple(ranges)
        self.machine = machine
        self.processors = processors
        self.phys_base = phys_base
        self.leaf = leaf
        self.levels = (48, 39, 30, 21, 12) if five_levels else (39, 30, 21, 12)
        self.info: dict[str, str | None] = {
            **KERNEL_6_1,
            "NUMBER(pgtable_l5_enabled)": str(int(five_levels)),
            "NUMBER(phys_base)": str(phys_base),
            "SYMBOL(init_uts_ns)": self.image(_UTSNAME),
            "SYMBOL(node_online_map)": self.image(_NODE_ONLINE_MAP),
            "SYMBOL(node_data)": self.image(_NODE_DATA),
            "SYMBOL(init_top_pgt)": self.image(_TABLES),
            "SYMBOL(swapper_pg_dir)": self.image(_TABLES),
            "SYMBOL(mem_section)": f"{DIRECT + ROOTS:x}",
            "SYMBOL(_stext)": self.image(0x100000),
            **(info or {}),
        }
        self.structure_size = int(self.info["SIZE(page)"] or 64)
        self.sections = sorted(
            {n for start, end in self.ranges for n in range(start >> SECTION_BITS, ((end - 1) >> SECTION_BITS) + 1)}
        )
        self._pages: dict[int, bytearray] = {}
        self._next_table = _TABLES + PAGE
        self._section_bytes = SECTION_PAGES * self.structure_size
        place = {number: _MEM_MAP + index * self._section_bytes for index, number in enumerate(self.sections)}
        self.mem_map_of = mem_map_of or place.__getitem__
        self.utsname(b"Linux", b"crashed", (self.info["OSRELEASE"] or "").encode(), b"#1 SMP", b"x86_64", b"(none)")
        self._map_kernel()
        self._make_sections(offline_sections)
        self.free_pages(0)

    def image(self, physical: int) -> str:
        """The hexadecimal virtual address in the kernel's image map of a physical one."""
        return f"{IMAGE + physical - self.phys_base:x}"

    # Memory

    def write(self, physical: int, content: bytes) -> None:
        """Put `content` at `physical`."""
        while content:
            page, skip = divmod(physical, PAGE)
            part = content[: PAGE - skip]
            self._pages.setdefault(page, bytearray(PAGE))[skip : skip + len(part)] = part
            physical += len(part)
            content = content[len(part) :]

    def read(self, physical: int, size: int) -> bytes:
        """What was put there; zeros where nothing was."""
        pages = range(physical // PAGE, (physical + size - 1) // PAGE + 1)
        whole = b"".join(self._pages.get(page, bytes(PAGE)) for page in pages)
        return whole[physical % PAGE : physical % PAGE + size]

    def map(self, virtual: int, physical: int, leaf: int = PAGE) -> None:
        """Map `leaf` bytes (4 KiB, 2 MiB, 1 GiB) at `virtual` to `physical`."""
        table = _TABLES
        for shift in self.levels:
            place = table + 8 * (virtual >> shift & 511)
            if 1 << shift == leaf:
                self.write(place, pack("<Q", physical | 0x8000000000000063 | (0x80 if leaf > PAGE else 0)))
                return
            entry = int.from_bytes(self.read(place, 8), "little")
            if not entry & 1:
                entry = self._next_table | 0x67
                self._next_table += PAGE
                self.write(place, pack("<Q", entry))
            table = entry & 0xFFFFFFFFF000
        raise ValueError(f"no leaf of {leaf} bytes")

    # Page structures

    def page(self, pfn: int, **fields: int) -> None:
        """Set fields of a page's structure; negative values are two's complement."""
        structure = self.structure_at(pfn)
        for name, value in fields.items():
            offset, size = int(self.info[f"OFFSET(page.{name})"] or 0), FIELDS[name]
            self.write(structure + offset, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def pages(self, fields_of: Mapping[int, Mapping[str, int]]) -> None:
        """Set fields of many pages: pfn to fields."""
        for pfn, fields in fields_of.items():
            self.page(pfn, **fields)

    def free_block(self, pfn: int, order: int) -> None:
        """Make a block of 2^`order` pages free, as the buddy allocator marks it."""
        buddy = int(self.info["NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)"] or 0)
        self.page(pfn, _mapcount=buddy, private=order, _refcount=0)
        for tail in range(pfn + 1, pfn + (1 << order)):
            self.page(tail, _refcount=0)

    def structure_at(self, pfn: int) -> int:
        """The physical address of a page's structure."""
        return self.mem_map_of(pfn // SECTION_PAGES) + pfn % SECTION_PAGES * self.structure_size

    # What the kernel tells about itself

    def utsname(self, *fields: bytes) -> None:
        """Set `init_uts_ns.name`: sysname, nodename, release, version, machine, domainname."""
        self.write(_UTSNAME, b"".join(field.ljust(65, b"\0") for field in fields))

    def free_pages(self, *count_of_zone: int) -> None:
        """Set NR_FREE_PAGES of each zone of the one node."""
        size, statistics = int(self.info["SIZE(zone)"] or 0), int(self.info["OFFSET(zone.vm_stat)"] or 0)
        self.write(_NODE_ONLINE_MAP, pack("<Q", 1))
        self.write(_NODE_DATA, pack("<Q", DIRECT + _PGDAT))
        self.write(_PGDAT + int(self.info["OFFSET(pglist_data.nr_zones)"] or 0), pack("<i", len(count_of_zone)))
        for zone, count in enumerate(count_of_zone):
            self.write(_PGDAT + zone * size + statistics, pack("<q", count))

    # The file

    def notes(self) -> bytes:
        """A PRSTATUS of each processor and VMCOREINFO."""
        prstatus = b"".join(note(b"CORE", 1, bytes([processor]) * 336) for processor in range(self.processors))
        return prstatus + note(b"VMCOREINFO", 0, text(self.info))

    def segments(self) -> list[tuple[int, int, int]]:
        """(physical, virtual, size) of each PT_LOAD: the kernel's image first, over memory that follows again."""
        image = (0x100000, IMAGE + 0x100000 - self.phys_base, 2 * MIB)
        return [image, *((start, DIRECT + start, end - start) for start, end in self.ranges)]

    def save(self, path: Path | str) -> str:
        """Write the vmcore and return its path."""
        notes = self.notes()
        segments = self.segments()
        headers = 64 + 56 * (1 + len(segments))
        offset = -(-(headers + len(notes)) // PAGE) * PAGE
        program_headers = [pack("<IIQQQQQQ", 4, 0, headers, 0, 0, len(notes), len(notes), 0)]
        places: list[tuple[int, int, int]] = []
        for physical, virtual, size in segments:
            # Unlike the kernel, keep an offset that is not page aligned where memory starts so: QEMU does.
            program_headers.append(pack("<IIQQQQQQ", 1, 7, offset, virtual, physical, size, size, 0))
            places.append((physical, size, offset))
            offset += -(-size // PAGE) * PAGE
        with Path(path).open("wb") as file:
            file.write(elf_header(self.machine, 1 + len(segments)) + b"".join(program_headers) + notes)
            file.truncate(offset)
            for physical, size, start in places:
                for number, content in self._pages.items():
                    first, end = max(number * PAGE, physical), min((number + 1) * PAGE, physical + size)
                    if first < end:
                        file.seek(start + first - physical)
                        file.write(content[first - number * PAGE : end - number * PAGE])
        return str(path)

    def _map_kernel(self) -> None:
        top = max(end for _, end in self.ranges)
        for physical in range(0, min(top, 1 << 30), 2 * MIB):
            self.map(IMAGE + physical - self.phys_base, physical, 2 * MIB)
        for physical in range(0, top, 1 << 30):
            self.map(DIRECT + physical, physical, 1 << 30)

    def _make_sections(self, offline: Sequence[int]) -> None:
        structure = bytearray(self.structure_size)
        for name, value in (("_refcount", 1), ("_mapcount", 0xFFFFFFFF)):
            offset = int(self.info[f"OFFSET(page.{name})"] or 0)
            structure[offset : offset + 4] = value.to_bytes(4, "little")
        size = int(self.info["SIZE(mem_section)"] or 16)
        per_root = PAGE // size
        for number in self.sections:
            root = number // per_root
            self.write(ROOTS + 8 * root, pack("<Q", DIRECT + SECTIONS + root * PAGE))
            flags = SECTION_ONLINE & ~(0b100 if number in offline else 0)
            coded = VMEMMAP | flags
            self.write(SECTIONS + root * PAGE + number % per_root * size, pack("<QQ", coded, 0))
            start = self.mem_map_of(number)
            self.write(start, bytes(structure) * SECTION_PAGES)
            virtual = VMEMMAP + number * self._section_bytes
            for offset in range(0, self._section_bytes, self.leaf):
                self.map(virtual + offset, start + offset, self.leaf)


def note(owner: bytes, kind: int, descriptor: bytes) -> bytes:
    """An ELF note, padded."""
    name = owner + b"\0"
    padded = name.ljust(-(-len(name) // 4) * 4, b"\0") + descriptor.ljust(-(-len(descriptor) // 4) * 4, b"\0")
    return pack("<III", len(name), len(descriptor), kind) + padded


def elf_header(machine: int, count: int, *, section_offset: int = 0, sections: int = 0) -> bytes:
    """The header of a core whose program headers follow it at once."""
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    return pack("<16sHHIQQQIHHHHHH", ident, 4, machine, 1, 0, 64, section_offset, 0, 64, 56, count, 64, sections, 0)
