"""Virtual addresses of the crashed kernel, translated by walking its own page tables.

A table is read once as a whole and kept in a bounded cache, so that a walk over a range costs a read for each table,
not for each page. Whatever a damaged table says, a walk ends: its depth is the geometry's, and a table below itself is
an error.
Needs a geometry, the root and a function that reads physical memory: serves vmcores and dumps alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.architecture import Geometry, geometry, root_table
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo

_CACHED_BYTES = 128 << 10
_ADDRESSES = 1 << 64
_MANY = 512  # entries that are compared at once, as one number: a table of 4 KiB
_ONES = sum(1 << 64 * lane for lane in range(_MANY))
_RAMP = sum(lane << 64 * lane for lane in range(_MANY))


class Mapped(NamedTuple):
    """`size` bytes from `virtual` that lie contiguously from `physical`."""

    virtual: int
    physical: int
    size: int


class PageTables:
    """The crashed kernel's address space; `read_physical(address, size)` reads its memory."""

    def __init__(self, tables: Geometry, root: int, read_physical: Callable[[int, int], bytes], name: str) -> None:
        self.geometry = tables
        self.name = name
        self._root = root
        self._read = read_physical
        self._cache: dict[int, memoryview] = {}
        self._most_cached = max(_CACHED_BYTES // tables.page_size, len(tables.shifts))
        self._leaf = Mapped(0, 0, 0)  # that was read through last

    def translate(self, virtual: int) -> int:
        """Return the physical address behind `virtual`; VmcoreError when nothing is mapped there."""
        for mapped in self.runs(virtual, 1):
            return mapped.physical
        raise self._unmapped(virtual)

    def runs(self, virtual: int, size: int) -> Iterator[Mapped]:
        """Yield what is mapped of `virtual` to `virtual + size`, ascending, as the longest contiguous runs."""
        if virtual < _ADDRESSES - (1 << self.geometry.virtual_bits) or virtual + size > _ADDRESSES:
            raise VmcoreError(f"{self.name}: {virtual:#x} (and {size} bytes on) is not an address of the kernel's")
        run: Mapped | None = None
        for leaf in self._walk((self._root,), virtual, virtual + size):
            if run and run.virtual + run.size == leaf.virtual and run.physical + run.size == leaf.physical:
                run = Mapped(run.virtual, run.physical, run.size + leaf.size)
            else:
                if run:
                    yield run
                run = leaf
        if run:
            yield run

    def read(self, virtual: int, size: int) -> bytes:
        """Return `size` bytes from `virtual`; VmcoreError when a part is not mapped or not in the vmcore."""
        leaf = self._leaf_of(virtual)
        if leaf.size and virtual - leaf.virtual + size <= leaf.size:
            return self._read(leaf.physical + virtual - leaf.virtual, size)
        pieces = []
        reached = virtual
        for mapped in self.runs(virtual, size):
            if mapped.virtual != reached:
                break
            pieces.append(self._read(mapped.physical, mapped.size))
            reached += mapped.size
        if reached != virtual + size:
            raise self._unmapped(reached)
        return b"".join(pieces)

    def _leaf_of(self, virtual: int) -> Mapped:
        """The whole leaf that maps `virtual`, which many small things lie in; an empty one where `runs` has to say."""
        if 0 <= virtual - self._leaf.virtual < self._leaf.size:
            return self._leaf
        tables = self.geometry
        path, bits = [self._root], tables.root_bits
        if _ADDRESSES - (1 << tables.virtual_bits) <= virtual < _ADDRESSES:
            for shift in tables.shifts:
                entry = self._table(path[-1], 8 << bits)[virtual >> shift & (1 << bits) - 1]
                lowest = shift == tables.shifts[-1]
                mask, value = tables.page if lowest else tables.block
                address, bits = tables.address(entry), tables.index_bits
                if not entry & 1 or address in path:
                    break
                if entry & mask == value:
                    if not lowest and shift not in tables.block_shifts:
                        break
                    self._leaf = Mapped(virtual & -1 << shift, address & -1 << shift, 1 << shift)
                    return self._leaf
                path.append(address)
        return Mapped(virtual, 0, 0)

    def _walk(self, path: tuple[int, ...], virtual: int, end: int) -> Iterator[Mapped]:
        """Yield the leaves below the last table of `path` (the tables from the root down to it)."""
        level = len(path) - 1
        shift = self.geometry.shifts[level]
        bits = self.geometry.root_bits if level == 0 else self.geometry.index_bits
        entries = self._table(path[-1], 8 << bits)
        index = virtual >> shift & (1 << bits) - 1
        if level == len(self.geometry.shifts) - 1:
            count = (end - 1 >> shift) - (virtual >> shift) + 1
            yield from self._pages(entries[index : index + count], virtual, end)
            return
        mask, value = self.geometry.block
        span = 1 << shift
        whole = self._blocks(entries[index : index + (end - 1 >> shift) - (virtual >> shift) + 1], shift)
        if whole is not None:
            yield _clipped(virtual & -span, *whole, virtual, end)
            return
        for entry in entries[index:]:
            if virtual >= end:
                break
            stop = min((virtual | span - 1) + 1, end)
            if entry & 1:
                address = self.geometry.address(entry)
                if entry & mask == value:
                    if shift not in self.geometry.block_shifts:
                        raise VmcoreError(
                            f"{self.name}: page table at {path[-1]:#x} maps {virtual:#x} by a block of {span} bytes, "
                            f"which {self.geometry.name} does not have: damaged page table"
                        )
                    yield Mapped(virtual, (address & -span) + (virtual & span - 1), stop - virtual)
                else:
                    if address in path:
                        raise VmcoreError(
                            f"{self.name}: page table at {address:#x} lies below itself: damaged page table"
                        )
                    yield from self._walk((*path, address), virtual, stop)
            virtual = stop

    def _blocks(self, entries: memoryview, shift: int) -> tuple[int, int] | None:
        """(physical address, bytes) where consecutive entries are blocks that lie one behind the other; else None."""
        tables = self.geometry
        mask, value = tables.block
        first, span = entries[0], 1 << shift
        if not first & 1 or first & mask != value or shift not in tables.block_shifts or tables.high_mask:
            return None
        if not _ascend(entries, span):
            return None
        return first & tables.address_mask & -span, len(entries) * span

    def _pages(self, entries: memoryview, virtual: int, end: int) -> Iterator[Mapped]:
        """Yield what consecutive entries of a lowest table map of `virtual` to `end`, joined where contiguous.

        This is the one loop over single pages of a walk: 16 TiB whose vmemmap is mapped by 4 KiB have 67 million.
        """
        tables = self.geometry
        mask, value = tables.page
        span = tables.page_size
        at = virtual & -span
        first, count = entries[0], len(entries)
        if first & mask == value and not tables.high_mask and _ascend(entries, span):
            yield _clipped(at, first & tables.address_mask, count * span, virtual, end)
            return
        start = physical = size = 0
        for entry in entries.tolist():
            if entry & mask == value:
                address = entry & tables.address_mask | (entry & tables.high_mask) << tables.high_shift
                if size and address == physical + size:
                    size += span
                else:
                    if size:
                        yield _clipped(start, physical, size, virtual, end)
                    start, physical, size = at, address, span
            elif size:
                yield _clipped(start, physical, size, virtual, end)
                size = 0
            at += span
        if size:
            yield _clipped(start, physical, size, virtual, end)

    def _table(self, physical: int, size: int) -> memoryview:
        """Return the entries of a table; the least recently used one leaves the cache for it."""
        table = self._cache.pop(physical, None)
        if table is None or table.nbytes != size:
            table = memoryview(self._read(physical, size)).cast("Q")
            if len(self._cache) >= self._most_cached:
                del self._cache[next(iter(self._cache))]
        self._cache[physical] = table
        return table

    def _unmapped(self, virtual: int) -> VmcoreError:
        return VmcoreError(f"{self.name}: virtual {virtual:#x} is not mapped in the crashed kernel")


def _ascend(entries: memoryview, step: int) -> bool:
    """Whether each entry (at least one) is `step` more than the one before it."""
    first, count = entries[0], len(entries)
    if entries[-1] != first + (count - 1) * step:
        return False
    for at in range(0, count, _MANY):
        part = entries[at : at + _MANY]
        ones, ramp = _ONES, _RAMP
        if len(part) < _MANY:
            below = (1 << 64 * len(part)) - 1
            ones, ramp = ones & below, ramp & below
        if int.from_bytes(part, "little") != (first + at * step) * ones + step * ramp:
            return False
    return True


def _clipped(start: int, physical: int, size: int, virtual: int, end: int) -> Mapped:
    """The part between `virtual` and `end` of `size` bytes that are mapped at `start` to `physical`."""
    first = max(start, virtual)
    return Mapped(first, physical + first - start, min(start + size, end) - first)


def page_tables(machine: int, info: VmcoreInfo, read_physical: Callable[[int, int], bytes]) -> PageTables:
    """The page tables of the kernel that VMCOREINFO describes; `machine` is the ELF machine."""
    return PageTables(geometry(machine, info), root_table(machine, info), read_physical, info.name)
