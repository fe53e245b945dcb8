"""A vmcore, opened: headers, VMCOREINFO, memory, page tables and what can be asked of the crashed kernel.

Called by the scan, the dump's writer, the capture runner and the cli.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.architecture import physical_bits
from kdumpd.vmcore.elf import ElfCore, parse, with_note
from kdumpd.vmcore.kallsyms import address_of
from kdumpd.vmcore.mem_map import Gaps, MemMapRun, mem_map
from kdumpd.vmcore.memory import Memory
from kdumpd.vmcore.note_search import notes_in_memory
from kdumpd.vmcore.opened import OpenedFile
from kdumpd.vmcore.paging import page_tables
from kdumpd.vmcore.printk import messages
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo

_WORD = Struct("<Q")
_SIGNED_WORD = Struct("<q")
_INT = Struct("<i")
_UTSNAME_FIELD = 65  # include/uapi/linux/utsname.h: struct new_utsname is six of them
_MOST_NODES = 1 << 14
_MOST_ZONES = 16
_MOST_COUNTERS = 256


class Uname(NamedTuple):
    """The crashed kernel's `struct new_utsname`, without the padding."""

    sysname: bytes
    nodename: bytes
    release: bytes
    version: bytes
    machine: bytes
    domainname: bytes


class Vmcore(OpenedFile):
    """A vmcore open for reading, VmcoreError when it is none."""

    def _begin(self) -> None:
        self._gaps = Gaps()
        elf = parse(self._fd, self.name)
        if elf.vmcoreinfo[1]:
            self._believe(elf)
        else:
            self._search_note(elf)

    def close(self) -> None:
        """Give up the mapping and the file."""
        self.memory.close()
        super().close()

    def _believe(self, elf: ElfCore) -> None:
        """Take the VMCOREINFO in the notes of `elf` for true."""
        start, size = elf.vmcoreinfo
        self.elf = elf
        self.info = VmcoreInfo(elf.notes[start : start + size], self.name)
        self.page_size = self.info.page_size
        self.memory = Memory(self._fd, elf, self.name, self.page_size)
        self.tables = page_tables(elf.machine, self.info, self.memory.read)
        end, bits = self.memory.ranges[-1].end, physical_bits(elf.machine, self.info)
        if end > 1 << bits:
            raise VmcoreError(
                f"{self.name}: memory up to {end:#x}, but the kernel knows {bits} bits of address: damaged"
            )

    def _search_note(self, elf: ElfCore) -> None:
        """Believe the note in memory that leads to the kernel it names: `init_uts_ns` has to say the same release."""
        for note in notes_in_memory(Memory(self._fd, elf, self.name)):
            try:
                self._believe(with_note(elf, note))
                if self.info.release and self.uname.release == self.info.release.encode():
                    return
            except VmcoreError:
                continue  # another kernel's, or chance
        raise VmcoreError(
            f"{self.name}: no VMCOREINFO, neither as a note nor in memory; QEMU adds the note when it runs with "
            "-device vmcoreinfo and the guest has loaded qemu_fw_cfg"
        )

    @property
    def machine(self) -> int:
        """The ELF machine: `elf.X86_64` or `elf.AARCH64`."""
        return self.elf.machine

    @property
    def max_pfn(self) -> int:
        """The first pfn behind all memory."""
        return -(-self.memory.ranges[-1].end // self.page_size)

    @property
    def phys_base(self) -> int:
        """What turns the kernel image's addresses into physical ones: x86_64's phys_base, aarch64's PHYS_OFFSET."""
        return self.info.number("phys_base") or self.info.number("PHYS_OFFSET") or 0

    @property
    def crash_time(self) -> int | None:
        """Seconds since 1970; None where the kernel did not note it (QEMU dumps of a running guest)."""
        return self.info.crash_time

    @property
    def uname(self) -> Uname:
        """What `uname` said in the crashed kernel."""
        symbol = self.info.need(self.info.symbol("init_uts_ns"), "SYMBOL(init_uts_ns)")
        # The reference count before the name was an int before 5.11 exported the offset.
        offset = self.info.offset("uts_namespace.name")
        text = self.read_virtual(symbol + (4 if offset is None else offset), 6 * _UTSNAME_FIELD)
        fields = (text[i * _UTSNAME_FIELD : (i + 1) * _UTSNAME_FIELD].partition(b"\0")[0] for i in range(6))
        return Uname(*fields)

    def mem_map(self) -> Iterator[MemMapRun]:
        """Yield where the page structures lie: see `vmcore.mem_map`."""
        self._gaps = Gaps()
        return mem_map(self.elf.machine, self.info, self.memory, self.tables, self.read_virtual, self._gaps)

    @property
    def mem_map_gaps(self) -> int:
        """How many pieces the last `mem_map`, as far as it was read, left out for damage: their pages are not known."""
        return self._gaps.count

    def dmesg(self, *, callers: bool = True) -> Iterator[bytes]:
        """Yield the kernel's log, a record at a time, oldest first; `callers` as in `printk.messages`."""
        return messages(self.info, self.read_virtual, self.elf.machine, callers=callers)

    def read_virtual(self, address: int, size: int) -> bytes:
        """Return `size` bytes of the kernel's memory: by its page tables, or by a PT_LOAD where those are damaged."""
        try:
            return self.tables.read(address, size)
        except VmcoreError:
            for segment in self.elf.segments:
                distance = address - segment.virtual
                if segment.virtual and distance >= 0 and distance + size <= segment.memory_size:
                    return self.memory.read(segment.physical + distance, size)
            raise

    def free_pages(self) -> int | None:
        """The kernel's own count of free pages (NR_FREE_PAGES), to compare a scan with; None where it cannot be had.

        Counts still held by single processors are not in it. VMCOREINFO leads to each zone's count, but on aarch64 with
        NUMA: there the sum of all zones is looked up in kallsyms, by far the slower way.
        """
        free = self.info.number("NR_FREE_PAGES")
        if free is None or not 0 <= free < _MOST_COUNTERS:
            return None
        try:
            total = sum(max(self._counter(counters + 8 * free), 0) for counters in self._zone_counters())
            if not total:
                counters = address_of(b"vm_zone_stat", self.info, self.read_virtual)
                total = 0 if counters is None else self._counter(counters + 8 * free)
        except VmcoreError:
            return None
        return total if total > 0 else None

    def _counter(self, address: int) -> int:
        value: int = _SIGNED_WORD.unpack(self.read_virtual(address, 8))[0]
        return value

    def _zone_counters(self) -> Iterator[int]:
        """Yield the virtual address of `vm_stat` of every zone."""
        info = self.info
        zones, zone_count = info.offset("pglist_data.node_zones"), info.offset("pglist_data.nr_zones")
        size, counters = info.size("zone"), info.offset("zone.vm_stat")
        if zones is None or zone_count is None or size is None or counters is None:
            return
        for node in self._nodes():
            (count,) = _INT.unpack(self.read_virtual(node + zone_count, 4))
            for zone in range(min(max(count, 0), _MOST_ZONES)):
                yield node + zones + zone * size + counters

    def _nodes(self) -> Iterator[int]:
        """Yield the virtual address of every online node's `struct pglist_data`."""
        single = self.info.symbol("contig_page_data")
        if single is not None:
            yield single
            return
        nodes, online = self.info.symbol("node_data"), self.info.symbol("node_online_map")
        if nodes is None or online is None:
            return
        count = min(self.info.length("node_data") or 0, _MOST_NODES)
        mask = int.from_bytes(self.read_virtual(online, -(-count // 64) * 8), "little")
        for node in range(count):
            if mask >> node & 1:
                yield _WORD.unpack(self.read_virtual(nodes + 8 * node, 8))[0]
