"""Where the crashed kernel's page structures lie in physical memory, as the longest contiguous runs.

Section by section (sparsemem, extreme or not) the virtual place of the structures is read from `mem_section`, then
their physical places from the page tables: contiguity is what the tables say, never assumed. Everything is an iterator:
no list grows with the machine. Called by `vmcore.vmcore`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from struct import iter_unpack
from typing import NamedTuple

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.architecture import physical_bits, section_size_bits
from kdumpd.vmcore.memory import Memory, Range
from kdumpd.vmcore.paging import Mapped, PageTables
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo

_POINTERS = 512  # to roots, read at a time
_NO_MAPS = memoryview(array("Q"))

# include/linux/mmzone.h: flags in the low bits of section_mem_map. The address above them is aligned to at least 256
# bytes; how many flags there are differs between kernels, so all bits below that are masked.
_PRESENT = 1 << 0
_HAS_MEM_MAP = 1 << 1
_ONLINE = 1 << 2
_FLAGS = 0xFF
_ADDRESS_MASK = (1 << 64) - 1


class MemMapRun(NamedTuple):
    """`pages` page structures, from `first_pfn`'s on, that lie contiguously from physical address `physical`."""

    first_pfn: int
    pages: int
    physical: int


class Gaps:
    """What damage made a mem_map leave out: how many pieces (their structures are in no run), and why the first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: VmcoreError | None = None

    def add(self, error: VmcoreError) -> None:
        """One piece more."""
        self.count += 1
        self.first = self.first or error


class _Span(NamedTuple):
    """`pages` page structures, from `first_pfn`'s on, at contiguous virtual addresses."""

    first_pfn: int
    pages: int
    virtual: int


class _Sections(NamedTuple):
    """The geometry of `mem_section`, checked."""

    table: int  # virtual
    roots: int  # how many elements the table has
    extreme: bool  # elements point to arrays of sections, instead of being sections
    per_root: int
    section_size: int
    map_offset: int
    pages: int  # in a section


def mem_map(
    machine: int,
    info: VmcoreInfo,
    memory: Memory,
    tables: PageTables,
    read_virtual: Callable[[int, int], bytes],
    gaps: Gaps,
) -> Iterator[MemMapRun]:
    """Yield the runs, pfns ascending, of all sections that hold memory of the vmcore and are online.

    A pfn in no run has no page structure that could be read: nothing may be concluded about it. Runs are clipped to
    whole structures that lie in the vmcore. What a damaged entry of a table leads to is left out and counted in `gaps`.
    Raises VmcoreError when VMCOREINFO makes no sense, or nothing that the tables say does.
    """
    structure = info.need(info.size("page"), "SIZE(page)")
    if not 32 <= structure <= 512 or structure % 8:
        raise VmcoreError(f"{info.name}: VMCOREINFO says SIZE(page)={structure}; 64 would be usual")
    run: MemMapRun | None = None
    sections = _sections(machine, info)
    spans = _spans(sections, memory, structure, read_virtual, gaps)
    for piece in _pieces(spans, memory, tables, structure, sections.pages, gaps):
        if (
            run
            and run.first_pfn + run.pages == piece.first_pfn
            and run.physical + run.pages * structure == piece.physical
        ):
            run = MemMapRun(run.first_pfn, run.pages + piece.pages, run.physical)
        else:
            if run:
                yield run
            run = piece
    if run:
        yield run
    elif gaps.first:
        raise gaps.first


def physical_ranges(runs: Iterable[MemMapRun], structure_size: int) -> Iterator[Range]:
    """Yield the physical memory that holds the structures of `runs`, joined over runs that touch in either direction.

    7.2 lays vmemmap out downwards, section below section: its runs cannot be joined, their memory can.
    """
    joined: Range | None = None
    for run in runs:
        start, end = run.physical, run.physical + run.pages * structure_size
        if joined and start == joined.end:
            joined = Range(joined.start, end)
        elif joined and end == joined.start:
            joined = Range(start, joined.end)
        else:
            if joined:
                yield joined
            joined = Range(start, end)
    if joined:
        yield joined


def _sections(machine: int, info: VmcoreInfo) -> _Sections:
    table = info.need(info.symbol("mem_section"), "SYMBOL(mem_section): only sparsemem is supported")
    roots = info.need(info.length("mem_section"), "LENGTH(mem_section)")
    size = info.need(info.size("mem_section"), "SIZE(mem_section)")
    offset = info.need(info.offset("mem_section.section_mem_map"), "OFFSET(mem_section.section_mem_map)")
    if not 8 <= size <= info.page_size or not 0 <= offset <= size - 8:
        raise VmcoreError(
            f"{info.name}: VMCOREINFO says SIZE(mem_section)={size}, section_mem_map at {offset}: damaged"
        )
    bits = section_size_bits(machine, info)
    sections = 1 << max(physical_bits(machine, info) - bits, 0)
    if not 0 < roots <= sections:
        raise VmcoreError(f"{info.name}: VMCOREINFO says LENGTH(mem_section)={roots}, 1 to {sections} would be right")
    return _Sections(
        table=table,
        roots=roots,
        # Without extreme there is an element for each section (include/linux/mmzone.h, NR_SECTION_ROOTS).
        extreme=roots != sections,
        per_root=info.page_size // size,
        section_size=size,
        map_offset=offset,
        pages=1 << bits - info.page_size.bit_length() + 1,
    )


def _spans(
    sections: _Sections, memory: Memory, structure: int, read_virtual: Callable[[int, int], bytes], gaps: Gaps
) -> Iterator[_Span]:
    """Yield where the structures of the sections are mapped; virtual neighbours are joined."""
    last_pfn = (memory.ranges[-1].end - 1) // memory.page_size
    span: _Span | None = None
    for number, like_it, coded in _coded_maps(sections, memory, read_virtual, gaps):
        if coded & (_PRESENT | _HAS_MEM_MAP | _ONLINE) != _PRESENT | _HAS_MEM_MAP | _ONLINE:
            continue
        first_pfn = number * sections.pages
        count = min(like_it * sections.pages, last_pfn + 1 - first_pfn)
        virtual = ((coded & ~_FLAGS) + first_pfn * structure) & _ADDRESS_MASK
        if span and span.first_pfn + span.pages == first_pfn and span.virtual + span.pages * structure == virtual:
            span = _Span(span.first_pfn, span.pages + count, span.virtual)
        else:
            if span:
                yield span
            span = _Span(first_pfn, count, virtual)
    if span:
        yield span


def _coded_maps(
    sections: _Sections, memory: Memory, read_virtual: Callable[[int, int], bytes], gaps: Gaps
) -> Iterator[tuple[int, int, int]]:
    """Yield (first section number, how many sections, their section_mem_map) of all sections that a PT_LOAD touches.

    A section_mem_map is where the structure of pfn 0 would lie: the sections of a vmemmap all have the same, and are
    taken together.
    """
    section_bytes = sections.pages * memory.page_size
    roots = _Roots(sections, read_virtual, gaps)
    following = 0
    for start, end in memory.ranges:
        number = max(start // section_bytes, following)
        following = max((end - 1) // section_bytes + 1, following)
        while number < following:
            first = number // sections.per_root * sections.per_root
            for coded, count in _rows(roots.of(number // sections.per_root)[number - first : following - first]):
                yield number, count, coded
                number += count
            if number < following:
                number = first + sections.per_root


def _rows(maps: memoryview) -> Iterator[tuple[int, int]]:
    """Yield (value, how often) of neighbours that are the same; where all are, none is looked at alone."""
    content = maps.tobytes()
    if content == content[:8] * len(maps):
        if content:
            yield maps[0], len(maps)
        return
    for coded, same in groupby(maps):
        yield coded, len(list(same))


class _Roots:
    """The section_mem_map of the sections of each root, a root at a time: numbers ascend.

    What an extreme table points to is found for a page of pointers at a time. A root that cannot be read is empty, and
    counted in `gaps`.
    """

    def __init__(self, sections: _Sections, read_virtual: Callable[[int, int], bytes], gaps: Gaps) -> None:
        self._sections = sections
        self._read = read_virtual
        self._gaps = gaps
        self._number = -1
        self._maps = _NO_MAPS
        self._pointers = _NO_MAPS
        self._first_pointer = 0

    def of(self, number: int) -> memoryview:
        """Those of `number`'s sections, a word each; of fewer where the kernel has no more."""
        if number != self._number:
            self._number, self._maps = number, _NO_MAPS
            try:
                self._maps = self._load(number)
            except VmcoreError as error:
                self._gaps.add(error)
        return self._maps

    def _load(self, number: int) -> memoryview:
        sections = self._sections
        size, offset = sections.section_size, sections.map_offset
        first, count = number * sections.per_root, sections.per_root
        address = sections.table + first * size
        if sections.extreme:
            address = self._pointer(number) if number < sections.roots else 0
            if not address:
                return _NO_MAPS
        else:
            count = min(count, sections.roots - first)
            if count <= 0:
                return _NO_MAPS
        content = self._read(address, count * size)
        if size % 8 or offset % 8:
            fields = iter_unpack(f"<{offset}xQ{size - offset - 8}x", content)
            return memoryview(array("Q", (coded for (coded,) in fields)))
        return memoryview(content).cast("Q")[offset // 8 :: size // 8]

    def _pointer(self, number: int) -> int:
        """What the table has for a root; pointers that cannot be read together are read one by one."""
        at = number - self._first_pointer
        if not 0 <= at < len(self._pointers):
            self._first_pointer, self._pointers = number, _NO_MAPS
            at = 0
            table = self._sections.table + number * 8
            count = min(self._sections.roots - number, _POINTERS)
            try:
                self._pointers = memoryview(self._read(table, count * 8)).cast("Q")
            except VmcoreError:
                self._pointers = memoryview(self._read(table, 8)).cast("Q")
        pointer: int = self._pointers[at]
        return pointer


def _pieces(
    spans: Iterator[_Span], memory: Memory, tables: PageTables, structure: int, section_pages: int, gaps: Gaps
) -> Iterator[MemMapRun]:
    """Yield the physical pieces of the spans, whole structures only: one that lies across two pieces is left out."""
    for span in spans:
        for mapped in _mapped(tables, span.virtual, span.pages * structure, section_pages * structure, gaps):
            for part in memory.covered(mapped.physical, mapped.physical + mapped.size):
                start = mapped.virtual + part.start - mapped.physical - span.virtual
                first = -(-start // structure)
                count = (start + part.end - part.start) // structure - first
                if count > 0:
                    yield MemMapRun(span.first_pfn + first, count, part.start + first * structure - start)


def _mapped(tables: PageTables, virtual: int, size: int, step: int, gaps: Gaps) -> Iterator[Mapped]:
    """Yield what is mapped there; behind damage go on in steps (a section's structures), and leave out damaged ones."""
    reached, end = virtual, virtual + size
    try:
        for mapped in tables.runs(virtual, size):
            yield mapped
            reached = mapped.virtual + mapped.size
        return
    except VmcoreError as error:
        if size <= step:
            gaps.add(error)
            return
    while reached < end:
        stop = min(virtual + ((reached - virtual) // step + 1) * step, end)
        try:
            yield from list(tables.runs(reached, stop - reached))
        except VmcoreError as error:
            gaps.add(error)
        reached = stop
