"""What a scan has to know of the crashed kernel's `struct page`: one value, made from VMCOREINFO alone.

Kernels differ in where a fact lies and whether it is exported; every difference is settled here, so that the engines
hold no kernel version. A fact that VMCOREINFO does not tell is None, and the class of pages that needs it is kept and
named in `PageLayout.unknown`.

Sources: `kernel/crash_core.c` (5.10 to 6.8), `kernel/vmcore_info.c` (6.9 and newer), makedumpfile.c
`__exclude_unnecessary_pages`. May import `errors`, `policy.model` and
`vmcore.vmcoreinfo`.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from kdumpd.errors import VmcoreError
from kdumpd.policy.model import PageKind
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo

# Orders of blocks of pages above this cannot be: 1 GiB in pages of 4 KiB, 16 GiB in pages of 64 KiB is the largest huge
# page of x86_64 and aarch64 (arch/arm64/mm/hugetlbpage.c). So no block crosses a multiple of 1 << MAX_BLOCK_ORDER
# page frames, and a scan can stop and go on there.
MAX_BLOCK_ORDER = 18
MAX_PAGE_STRUCT = 256  # bytes; the largest struct page of any configuration is 96 (KASAN, LAST_CPUPID, memcg)


class HugetlbMark(enum.Enum):
    """How a hugetlb head says that it is one."""

    PAGE_TYPE = enum.auto()  # _mapcount is `hugetlb_value` (6.9, d99e3140a4d3)
    SECOND_FLAGS = enum.auto()  # bit `hugetlb_value` of page[1].flags (6.6)
    DTOR = enum.auto()  # page[1]'s compound destructor is number `hugetlb_value` (before)
    UNKNOWN = enum.auto()


class PageLayout(NamedTuple):
    """Offsets in bytes inside `struct page`, flag masks of `page.flags`, and 32-bit values of `page._mapcount`."""

    size: int
    flags: int
    mapping: int
    mapcount: int
    private: int
    compound_head: int
    lru: int
    private_flag: int
    swapcache: int
    swapbacked: int
    head: int
    hwpoison: int | None
    slab_flag: int | None
    slab_type: int | None
    buddy_type: int | None
    offline_type: int | None
    unaccepted_type: int | None
    free_orders: int  # number of buddy orders, LENGTH(zone.free_area)
    second_order: int | None  # offset in page[1] of the byte that holds a compound page's order
    hugetlb: HugetlbMark
    hugetlb_value: int
    second_dtor: int | None  # offset in page[1] of the destructor's number, for HugetlbMark.DTOR
    tellable: PageKind  # the kinds that can be told apart by all this
    unknown: tuple[str, ...]  # the others: classes of pages that cannot be told apart, each one line

    @classmethod
    def of(cls, info: VmcoreInfo) -> PageLayout:
        """The layout that this VMCOREINFO describes; VmcoreError where a scan would be a guess."""
        return _layout(info)


def _layout(info: VmcoreInfo) -> PageLayout:
    size = info.size("page")
    if size is None or not 32 <= size <= MAX_PAGE_STRUCT or size % 8:
        raise VmcoreError(f"VMCOREINFO: SIZE(page) is {size}, want a multiple of 8 from 32 to {MAX_PAGE_STRUCT}")

    def offset(name: str, width: int) -> int:
        value = info.offset(name)
        if value is None or not 0 <= value <= size - width or value % width:
            raise VmcoreError(
                f"VMCOREINFO: OFFSET({name}) is {value}, no aligned place in a struct page of {size} bytes"
            )
        return value

    def bit(name: str) -> int | None:
        number = info.number(name)
        if number is not None and not 0 <= number <= 63:
            raise VmcoreError(f"VMCOREINFO: NUMBER({name}) is {number}, want a bit of page.flags, 0 to 63")
        return None if number is None else 1 << number

    def page_type(name: str) -> int | None:
        number = info.number(name)
        return None if number is None else number & 0xFFFFFFFF

    unknown = []
    tellable = PageKind(31)
    buddy = page_type("PAGE_BUDDY_MAPCOUNT_VALUE")
    orders = info.length("zone.free_area") or 0
    if buddy is None or not 1 <= orders <= MAX_BLOCK_ORDER + 1:
        unknown.append("free pages are kept: VMCOREINFO has no usable PAGE_BUDDY_MAPCOUNT_VALUE and zone.free_area")
        buddy = None
    head = info.number("PG_head_mask")
    if head is None or head <= 0:
        raise VmcoreError(f"VMCOREINFO: NUMBER(PG_head_mask) is {head}, want a mask of page.flags")
    slab_type = page_type("PAGE_SLAB_MAPCOUNT_VALUE")
    slab_flag = None if slab_type is not None else bit("PG_slab")
    if slab_type is None and slab_flag is None:
        unknown.append("user and cache pages are kept: VMCOREINFO has neither PAGE_SLAB_MAPCOUNT_VALUE nor PG_slab")
        tellable &= ~(PageKind.CACHE | PageKind.CACHE_PRIVATE | PageKind.USER)
    cache_flags = {name: bit(name) for name in ("PG_lru", "PG_private", "PG_swapcache", "PG_swapbacked")}
    missing = [name for name, mask in cache_flags.items() if mask is None]
    if missing:
        unknown.append(f"cache pages are kept: VMCOREINFO has no NUMBER({missing[0]})")
        tellable &= ~(PageKind.CACHE | PageKind.CACHE_PRIVATE)

    mark, value, dtor = _hugetlb(info, size)
    second_order: int | None
    if mark in (HugetlbMark.PAGE_TYPE, HugetlbMark.SECOND_FLAGS):
        second_order = offset("page.flags", 8)  # folio._flags_1 & 0xff (6.6, little endian)
    else:
        second_order = _second(info, size, "page.compound_order", "folio._folio_order")
        if second_order is None:
            unknown.append("the tails of compound pages are kept: VMCOREINFO does not say where their order lies")
    if mark is HugetlbMark.UNKNOWN:
        unknown.append("hugetlb pages are kept: VMCOREINFO does not say how they are marked")
    # 7.1 renamed compound_head to compound_info (8c846c879e22); bit 0 still marks a tail.
    tail = "page.compound_info" if info.offset("page.compound_head") is None else "page.compound_head"
    return PageLayout(
        size=size,
        flags=offset("page.flags", 8),
        mapping=offset("page.mapping", 8),
        mapcount=offset("page._mapcount", 4),
        private=offset("page.private", 8),
        compound_head=offset(tail, 8),
        lru=cache_flags["PG_lru"] or 0,
        private_flag=cache_flags["PG_private"] or 0,
        swapcache=cache_flags["PG_swapcache"] or 0,
        swapbacked=cache_flags["PG_swapbacked"] or 0,
        head=head,
        hwpoison=bit("PG_hwpoison"),
        slab_flag=slab_flag,
        slab_type=slab_type,
        buddy_type=buddy,
        offline_type=page_type("PAGE_OFFLINE_MAPCOUNT_VALUE"),
        unaccepted_type=page_type("PAGE_UNACCEPTED_MAPCOUNT_VALUE") if buddy is not None else None,
        free_orders=orders,
        second_order=second_order,
        hugetlb=mark,
        hugetlb_value=value,
        second_dtor=dtor,
        tellable=tellable,
        unknown=tuple(unknown),
    )


def _hugetlb(info: VmcoreInfo, size: int) -> tuple[HugetlbMark, int, int | None]:
    number = info.number("PAGE_HUGETLB_MAPCOUNT_VALUE")
    if number is not None:
        return HugetlbMark.PAGE_TYPE, number & 0xFFFFFFFF, None
    number = info.number("PG_hugetlb")
    if number is not None and 0 <= number <= 63:
        return HugetlbMark.SECOND_FLAGS, number, None
    number, dtor = info.number("HUGETLB_PAGE_DTOR"), _second(info, size, "page.compound_dtor", "folio._folio_dtor")
    if number is not None and dtor is not None and 0 <= number <= 255:
        return HugetlbMark.DTOR, number, dtor
    return HugetlbMark.UNKNOWN, 0, None


def _second(info: VmcoreInfo, size: int, in_page: str, in_folio: str) -> int | None:
    """Offset in page[1] of a byte that 6.3 moved from page to folio (makedumpfile.c init_compound_offset)."""
    folio = info.offset(in_folio)
    offset = info.offset(in_page) if folio is None else folio - size
    if offset is not None and not 0 <= offset < size:
        raise VmcoreError(f"VMCOREINFO: OFFSET({in_page}) or OFFSET({in_folio}) lies outside the second struct page")
    return offset
