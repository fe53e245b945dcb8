"""The architectures as values: the geometry of their page tables and what a VMCOREINFO leaves unsaid.

Sources: arch/x86/include/asm/pgtable_64_types.h and page_types.h; arch/arm64/include/asm/pgtable-hwdef.h and memory.h.
Called by `vmcore.vmcore` and by whoever reads a dump's virtual addresses.
"""

from __future__ import annotations

from typing import NamedTuple

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.elf import AARCH64, X86_64
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo

MACHINE_NAMES = {X86_64: "x86_64", AARCH64: "aarch64"}

_START_KERNEL_MAP = 0xFFFFFFFF80000000  # x86_64: where the kernel's image is mapped


class Geometry(NamedTuple):
    """How a virtual address becomes a physical one.

    An entry is `*_value` under `*_mask`: `valid` at any level, `page` at the lowest, `block` where it maps memory
    itself at one of the `block_shifts`. Bits of `high_mask`, moved left by `high_shift`, belong to the address too.
    """

    name: str
    shifts: tuple[int, ...]  # address bits below each level's index, from the root down to pages
    index_bits: int
    root_bits: int  # index bits of the root
    virtual_bits: int  # kernel addresses have all bits from this one up set
    address_mask: int
    block_shifts: tuple[int, ...]
    block: tuple[int, int]  # mask, value
    page: tuple[int, int]
    high_mask: int = 0
    high_shift: int = 0

    @property
    def page_size(self) -> int:
        """In bytes."""
        return 1 << self.shifts[-1]

    def address(self, entry: int) -> int:
        """The physical address in an entry."""
        return entry & self.address_mask | (entry & self.high_mask) << self.high_shift


_X86_64 = Geometry(
    name="x86_64",
    shifts=(39, 30, 21, 12),
    index_bits=9,
    root_bits=9,
    virtual_bits=47,
    address_mask=0x000FFFFFFFFFF000,
    block_shifts=(30, 21),
    block=(0x80, 0x80),  # _PAGE_PSE
    page=(0x01, 0x01),
)
_X86_64_5_LEVELS = _X86_64._replace(name="x86_64, 5 levels", shifts=(48, 39, 30, 21, 12), virtual_bits=56)


def geometry(machine: int, info: VmcoreInfo) -> Geometry:
    """The page tables of the crashed kernel."""
    if machine == X86_64:
        if info.page_size != 4096:
            raise VmcoreError(f"{info.name}: VMCOREINFO says PAGESIZE={info.page_size}; x86_64 has 4096")
        tables = _X86_64_5_LEVELS if info.number("pgtable_l5_enabled") else _X86_64
        # sme_mask is the encryption bit, which is set in entries and is no part of the address.
        return tables._replace(address_mask=tables.address_mask & ~(info.number("sme_mask") or 0))
    return _aarch64(info)


def _aarch64(info: VmcoreInfo) -> Geometry:
    page_bits = info.page_size.bit_length() - 1
    index_bits = page_bits - 3
    built_for = info.need(info.number("VA_BITS"), "NUMBER(VA_BITS)")
    t1sz = info.number("TCR_EL1_T1SZ")
    virtual_bits = built_for if t1sz is None else 64 - t1sz
    if not page_bits + index_bits < virtual_bits <= built_for <= 52:
        raise VmcoreError(f"{info.name}: VMCOREINFO says {virtual_bits} of {built_for} bits of virtual address")
    # With 64K pages a kernel built for 52 bits keeps its root table's size on a processor of 48: the upper end is used.
    root_top = built_for if page_bits == 16 else virtual_bits
    levels = -(-(root_top - page_bits) // index_bits)
    shifts = tuple(page_bits + index_bits * level for level in reversed(range(levels)))
    wide = virtual_bits > 48 and page_bits < 16  # LPA2: bits 51:50 of the address in 9:8 of the entry
    large = page_bits == 16 and info.number("MAX_PHYSMEM_BITS") == 52  # LPA: bits 51:48 in 15:12
    return Geometry(
        name=f"aarch64, {info.page_size >> 10}K pages, {virtual_bits} bits",
        shifts=shifts,
        index_bits=index_bits,
        root_bits=root_top - shifts[0],
        virtual_bits=virtual_bits,
        address_mask=(1 << (50 if wide else 48)) - (1 << page_bits),
        block_shifts=tuple(shift for shift in shifts[:-1] if shift <= (42 if page_bits == 16 else 39)),
        block=(0x02, 0x00),
        page=(0x03, 0x03),
        high_mask=0x300 if wide else 0xF000 if large else 0,
        high_shift=42 if wide else 36 if large else 0,
    )


def root_table(machine: int, info: VmcoreInfo) -> int:
    """The physical address of the kernel's root page table."""
    if machine == X86_64:
        symbol = info.symbol("init_top_pgt")
        symbol = info.need(
            info.symbol("swapper_pg_dir") if symbol is None else symbol, "SYMBOL(init_top_pgt) or (swapper_pg_dir)"
        )
        return _physical(info, symbol - _START_KERNEL_MAP + info.need(info.number("phys_base"), "NUMBER(phys_base)"))
    symbol = info.need(info.symbol("swapper_pg_dir"), "SYMBOL(swapper_pg_dir)")
    return _physical(info, symbol - info.need(info.number("kimage_voffset"), "NUMBER(kimage_voffset)"))


def _physical(info: VmcoreInfo, root: int) -> int:
    root &= 0xFFFFFFFFFFFFFFFF
    if root >= 1 << 52 or root % 8:
        raise VmcoreError(f"{info.name}: VMCOREINFO puts the root page table at physical {root:#x}: damaged")
    return root


def section_size_bits(machine: int, info: VmcoreInfo) -> int:
    """log2 of a memory section's bytes. Kernels before 5.14 do not say it (4f5aecdff25f)."""
    bits = info.number("SECTION_SIZE_BITS")
    if bits is None:
        if machine == X86_64:
            bits = 27
        elif info.version < (5, 12):  # f0b13ee23241
            bits = 30
        else:
            bits = 29 if info.page_size == 65536 else 27
    if not info.page_size.bit_length() <= bits <= 40:
        raise VmcoreError(f"{info.name}: VMCOREINFO says SECTION_SIZE_BITS={bits}; 27 to 30 would be usual")
    return bits


def physical_bits(machine: int, info: VmcoreInfo) -> int:
    """The widest physical address the kernel was built for, in bits; kernels before 5.8 do not say (1d50e5d0c505)."""
    bits = info.number("MAX_PHYSMEM_BITS")
    if bits is None:
        bits = 48 if machine == AARCH64 else 52 if info.number("pgtable_l5_enabled") else 46
    if not 32 <= bits <= 52:
        raise VmcoreError(f"{info.name}: VMCOREINFO says MAX_PHYSMEM_BITS={bits}; 46 to 52 would be usual")
    return bits
