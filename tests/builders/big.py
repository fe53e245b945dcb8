"""A vmcore of a machine of terabytes in a file of a hundred megabytes, and beside it what a scan must find.

Memory is areas of 1 GiB, each full of one kind of pages, drawn by a seed. The structures of all areas of a kind are the
same 16 MiB of the file: a PT_LOAD an area says that they lie there. Pages' contents are a hole in the file. Each node
(1 TiB) begins with 1 GiB, then has its `mem_map`, as real machines do. `truth` compares.
"""

from __future__ import annotations

import enum
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from struct import pack

from kdumpd.scan.rules import Fate
from tests.builders.truth import Truth
from tests.builders.vmcore import (
    DIRECT,
    FIELDS,
    IMAGE,
    MIB,
    PAGE,
    ROOTS,
    SECTION_BITS,
    SECTION_ONLINE,
    SECTION_PAGES,
    SECTIONS,
    VMEMMAP,
    VmcoreBuilder,
    elf_header,
)

GIB = 1 << 30
TIB = 1 << 40
AREA_PAGES = GIB // PAGE
STRUCTURE = 64
AREA_STRUCTURES = AREA_PAGES * STRUCTURE  # bytes
NODE_AREAS = TIB // GIB
AREAS_MAPPED = GIB // AREA_STRUCTURES  # areas whose structures fill one area
VOID = 9 * TIB  # the most bytes of hole in the file: a file of ext4 ends at 16 TiB, and no byte is stored three times

_LRU, _PRIVATE, _SLAB, _SWAPBACKED, _HWPOISON, _HEAD = 1 << 4, 1 << 13, 1 << 9, 1 << 19, 1 << 23, 1 << 16
_ANON, _FILE = 0xFFFF888012345601, 0xFFFF888012345600


class Kind(enum.IntEnum):
    """What an area is full of."""

    HOLE = 0
    LOW = 1  # the kernel and what it boots with
    KERNEL = 2
    FREE = 3
    GIGANTIC = 4
    HUGE = 5
    USER = 6
    CACHE = 7
    SLAB = 8
    MIXED = 9
    OTHER_MIXED = 10


# How often an area is of a kind. Most of such a machine is what can be jumped over.
BUSY: Mapping[Kind, int] = {
    Kind.HOLE: 2, Kind.KERNEL: 1, Kind.FREE: 40, Kind.GIGANTIC: 30, Kind.HUGE: 18,
    Kind.USER: 3, Kind.CACHE: 2, Kind.SLAB: 1, Kind.MIXED: 1, Kind.OTHER_MIXED: 1,
}  # fmt: skip
# Nothing is kept but LOW and the structures themselves.
IDLE: Mapping[Kind, int] = {Kind.HOLE: 2, Kind.FREE: 40, Kind.GIGANTIC: 30, Kind.HUGE: 18, Kind.USER: 1, Kind.CACHE: 1}


class _Block:
    """A sort of block: the fate of its pages, and the fields of its head, of its second and of its other tails."""

    def __init__(self, fate: Fate, second: Mapping[str, int] | None = None, **head: int) -> None:
        self.fate = fate
        self.head = head
        self.second = second

    def structures(self, info: Mapping[str, str | None], order: int) -> bytes:
        head = {"_refcount": 1, "_mapcount": -1, **self.head}
        if self.fate is Fate.FREE:
            return _structure(info, {**head, "_refcount": 0, "private": order}) + bytes(((1 << order) - 1) * STRUCTURE)
        if not order:
            return _structure(info, head)
        head["flags"] = head.get("flags", 0) | _HEAD
        tail = {"_refcount": 0, "_mapcount": -1, "compound_head": VMEMMAP | 1}
        second = _structure(info, {**tail, "compound_order": order, **(self.second or {})})
        # The tails of large pages are never looked at: most of them are left a hole in the file.
        tails = _structure(info, tail) * (min(1 << order, PAGE // STRUCTURE) - 2)
        return (_structure(info, head) + second + tails).ljust(STRUCTURE << order, b"\0")


_BLOCKS = {
    "kernel": _Block(Fate.KEEP),
    "slab": _Block(Fate.KEEP, flags=_SLAB, mapping=_ANON),
    "free": _Block(Fate.FREE, _mapcount=-129),
    "anonymous": _Block(Fate.USER, flags=_LRU | _SWAPBACKED, mapping=_ANON, _mapcount=0),
    "hugetlb": _Block(Fate.USER, {"compound_dtor": 2}),
    "cache": _Block(Fate.CACHE, flags=_LRU, mapping=_FILE),
    "private": _Block(Fate.CACHE_PRIVATE, flags=_LRU | _PRIVATE, mapping=_FILE, private=0xFFFF888033333300),
    "offline": _Block(Fate.OFFLINE, _mapcount=-257),
    "poisoned": _Block(Fate.HWPOISON, flags=_HWPOISON),
}
_SINGLE = ("offline", "poisoned", "kernel")  # never compound


def _structure(info: Mapping[str, str | None], fields: Mapping[str, int]) -> bytes:
    made = bytearray(STRUCTURE)
    for name, value in fields.items():
        offset, size = int(info[f"OFFSET(page.{name})"] or 0), FIELDS[name]
        made[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    return bytes(made)


class _Template:
    """An area: its page structures, what bitmap 2 has of it, and how many of its pages have which fate."""

    def __init__(self, info: Mapping[str, str | None], *blocks: tuple[str, int, int]) -> None:
        """`blocks`: (sort, order, number of pages), one behind the other."""
        self.structures = bytearray()
        fates = bytearray()
        for sort, order, pages in blocks:
            self.structures += _BLOCKS[sort].structures(info, order) * (pages >> order)
            fates += bytes([_BLOCKS[sort].fate]) * pages
        kept = fates[::-1].translate(b"1" + b"0" * 255)
        self.bits = int(kept, 2).to_bytes(AREA_PAGES // 8, "little")
        self.counts = Counter(fates)


def _mixed(seed: int) -> list[tuple[str, int, int]]:
    """Aligned blocks of all sorts and orders up to 2 MiB, at random, an area full."""
    draw = random.Random(seed)
    blocks: list[tuple[str, int, int]] = []
    position = 0
    while position < AREA_PAGES:
        sort = draw.choice(list(_BLOCKS))
        order = 0 if sort in _SINGLE else 9 if sort == "hugetlb" else draw.choice((0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9))
        pages = min(draw.randrange(1, 65) << order, AREA_PAGES - position)
        skip = min(-position % (1 << order), pages)
        blocks += [("kernel", 0, skip), (sort, order, (pages - skip) >> order << order)]
        position += skip + ((pages - skip) >> order << order)
        if pages < 1 << order:
            break
    return [*blocks, ("kernel", 0, AREA_PAGES - position)]


def _templates(info: Mapping[str, str | None]) -> dict[Kind, _Template]:
    """Every kind of area; a HOLE has no structures that anybody may look at."""
    many, low = AREA_PAGES, AREA_PAGES // 64
    made = {
        Kind.HOLE: _Template(info, ("kernel", 0, many)),
        Kind.LOW: _Template(info, ("kernel", 0, low), ("free", 10, many - low)),
        Kind.KERNEL: _Template(info, ("kernel", 0, many)),
        Kind.FREE: _Template(info, ("free", 10, many)),
        Kind.GIGANTIC: _Template(info, ("hugetlb", 18, many)),
        Kind.HUGE: _Template(info, ("anonymous", 9, many)),
        Kind.USER: _Template(info, ("anonymous", 0, many)),
        Kind.CACHE: _Template(info, *[("cache", 0, 7), ("private", 0, 1)] * (many // 8)),
        Kind.SLAB: _Template(info, ("slab", 3, many)),
        Kind.MIXED: _Template(info, *_mixed(1)),
        Kind.OTHER_MIXED: _Template(info, *_mixed(2)),
    }
    made[Kind.HOLE].bits, made[Kind.HOLE].counts = bytes(AREA_PAGES // 8), Counter()
    absent = sum(1 << pfn for pfn in (0, *range(0x9F, 0x100)))  # in no PT_LOAD
    bits = int.from_bytes(made[Kind.LOW].bits, "little") & ~absent
    made[Kind.LOW].bits = bits.to_bytes(AREA_PAGES // 8, "little")
    made[Kind.LOW].counts[Fate.KEEP] -= absent.bit_count()
    return made


def _areas(size: int, seed: int, weights: Mapping[Kind, int]) -> list[Kind]:
    """The kind of each area of a machine of `size` bytes (a whole number of GiB)."""
    count = size // GIB
    drawn = random.Random(seed).choices(list(weights), list(weights.values()), k=count)
    for first, end in _mem_map_areas(size):
        drawn[first - 1 : end] = [Kind.FREE, *[Kind.KERNEL] * (end - first)]
    drawn[0], drawn[-1] = Kind.LOW, Kind.FREE
    return drawn


def _mem_map_areas(size: int) -> list[tuple[int, int]]:
    """The areas (from, up to) that hold the page structures of each node."""
    count = size // GIB
    nodes = range(0, count, NODE_AREAS)
    return [(node + 1, node + 1 - (-min(count - node, NODE_AREAS) // AREAS_MAPPED)) for node in nodes]


class BigVmcore(VmcoreBuilder):
    """The vmcore of a machine of `size` bytes whose areas the seed chooses."""

    def __init__(self, size: int, seed: int, weights: Mapping[Kind, int] = BUSY) -> None:
        self.size = size
        self.areas = _areas(size, seed, weights)
        super().__init__(((0x1000, 0x9F000), (MIB, GIB)))
        self.templates = _templates(self.info)
        self.free_pages(sum(self.templates[kind].counts[Fate.FREE] for kind in self.areas))

    def structure_at(self, pfn: int) -> int:
        """The physical address of a page's structure."""
        node, index = divmod(pfn, NODE_AREAS * AREA_PAGES)
        return node * TIB + GIB + index * STRUCTURE

    def _make_sections(self, offline: object) -> None:
        """All roots are one page of sections, since all sections say the same; vmemmap has leaves of 2 MiB."""
        count = self.size >> SECTION_BITS
        self.write(ROOTS, pack("<Q", DIRECT + SECTIONS) * -(-count // 256))
        self.write(SECTIONS, pack("<QQ", VMEMMAP | SECTION_ONLINE, 0) * 256)
        for section in range(count):
            self.map(VMEMMAP + section * SECTION_PAGES * STRUCTURE, self.structure_at(section * SECTION_PAGES), 2 * MIB)

    def save(self, path: Path | str) -> str:
        """Write the vmcore and return its path."""
        made = self.templates
        notes = self.notes()
        loads = self._loads()
        headers = 64 + 56 * (1 + len(loads))
        low = -(-(headers + len(notes)) // PAGE) * PAGE
        starts = {kind: low + GIB + number * AREA_STRUCTURES for number, kind in enumerate(made)}
        void = low + GIB + len(made) * AREA_STRUCTURES
        hole = min(self.size, VOID)
        with Path(path).open("wb") as file:
            file.write(elf_header(62, 1 + len(loads)))
            file.write(pack("<IIQQQQQQ", 4, 0, headers, 0, 0, len(notes), len(notes), 0))
            for physical, virtual, size, kind in loads:
                place = starts[kind] if kind else low + physical if physical < GIB else void + physical % hole
                file.write(pack("<IIQQQQQQ", 1, 7, place, virtual, physical, size, size, 0))
            file.write(notes)
            file.truncate(void + hole)
            for number, content in self._pages.items():
                file.seek(low + number * PAGE)
                file.write(content)
            for kind, template in made.items():
                for at in range(0, AREA_STRUCTURES, PAGE):
                    page = template.structures[at : at + PAGE]
                    if any(page):
                        file.seek(starts[kind] + at)
                        file.write(page)
        self._tell(path)
        return str(path)

    def _tell(self, path: Path | str) -> None:
        """Write down what is true of it."""
        made = [self.templates[kind] for kind in Kind]
        Truth.write(
            path,
            areas=bytes(self.areas).hex(),
            bits=[template.bits.hex() for template in made],
            counts=[
                {
                    "total": template.counts.total(),
                    "kept": template.counts[Fate.KEEP],
                    **{str(fate.name).lower(): template.counts[fate] for fate in Fate if fate < Fate.HANDS_OFF},
                }
                for template in made
            ],
            mem_map=[(first * AREA_PAGES, end * AREA_PAGES) for first, end in _mem_map_areas(self.size)],
        )

    def _loads(self) -> list[tuple[int, int, int, Kind | None]]:
        """(physical, virtual, size, whose structures, if any) of each PT_LOAD."""
        loads: list[tuple[int, int, int, Kind | None]] = [(MIB, IMAGE + MIB, 2 * MIB, None)]
        loads += [(start, DIRECT + start, end - start, None) for start, end in self.ranges]
        for node in range(0, len(self.areas), NODE_AREAS):
            kinds = self.areas[node : node + NODE_AREAS]
            start = node * GIB + GIB
            if node:
                loads.append((node * GIB, DIRECT + node * GIB, GIB, None))
            for kind in kinds:
                loads.append((start, DIRECT + start, AREA_STRUCTURES, kind or Kind.KERNEL))
                start += AREA_STRUCTURES
            first = -(-start // GIB) - node
            loads.append((start, DIRECT + start, (node + first) * GIB - start, None))
            for index in range(first, len(kinds)):
                if kinds[index] is not Kind.HOLE:
                    start = (node + index) * GIB
                    physical, virtual, size, whose = loads[-1]
                    if whose is None and physical + size == start:
                        loads[-1] = (physical, virtual, size + GIB, None)
                    else:
                        loads.append((start, DIRECT + start, GIB, None))
        return [load for load in loads if load[2]]
