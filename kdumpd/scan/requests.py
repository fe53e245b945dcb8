"""The requests of the page-scan module, as kmod/kdumpd_scan.h declares them.

Every structure is packed without padding, which is how C lays these out on both architectures; a test compiles the
header and compares sizes and offsets. Called by `scan.device`. May import `vmcore.layout`.
"""

from __future__ import annotations

import enum
from struct import Struct
from typing import NamedTuple

from kdumpd.vmcore.layout import HugetlbMark, PageLayout

VERSION = 1
UNKNOWN = (1 << 64) - 1
WINDOW_ORDER = 18
MOST_RANGES = 65536
MOST_RUNS = 65536


class Strategy(enum.IntEnum):
    """enum kdumpd_strategy."""

    PAGE = 1
    CHUNK = 2
    LINEAR = 3


#: enum kdumpd_hugetlb
HUGETLB = {HugetlbMark.UNKNOWN: 0, HugetlbMark.PAGE_TYPE: 1, HugetlbMark.SECOND_FLAGS: 2, HugetlbMark.DTOR: 3}


class Map(NamedTuple):
    """struct kdumpd_map; its array of leaves is by size: 1 GiB, 2 MiB, 4 KiB."""

    size: int
    version: int
    strategy: int
    page_shift: int
    ranges: int
    range_count: int
    id: int = 0
    table_limit: int = 0
    leaves_1g: int = 0
    leaves_2m: int = 0
    leaves_4k: int = 0
    table_bytes: int = 0
    premapped_bytes: int = 0
    retried: int = 0
    refused_bytes: int = 0
    nanoseconds: int = 0


class Layout(NamedTuple):
    """struct kdumpd_layout."""

    page_size: int
    size: int
    flags: int
    mapping: int
    mapcount: int
    private_offset: int
    compound_head: int
    second_order: int
    second_dtor: int
    lru: int
    private_flag: int
    swapcache: int
    swapbacked: int
    head: int
    hwpoison: int
    slab_flag: int
    slab_type: int
    buddy_type: int
    offline_type: int
    unaccepted_type: int
    free_orders: int
    hugetlb: int
    hugetlb_value: int


class Scan(NamedTuple):
    """struct kdumpd_scan, with the fields of its struct kdumpd_counts in their place."""

    size: int
    version: int
    map: int
    level: int
    layout: int
    runs: int
    present: int
    hands_off: int
    layout_size: int
    run_count: int
    present_count: int
    hands_off_count: int
    first_pfn: int
    end_pfn: int
    bitmap: int
    bitmap_size: int
    timeout: int
    workers: int = 0
    unused: int = 0
    total: int = 0
    kept: int = 0
    cache: int = 0
    cache_private: int = 0
    user: int = 0
    free: int = 0
    hwpoison: int = 0
    offline: int = 0
    hands_off_pages: int = 0
    examined: int = 0
    bad_orders: int = 0
    nanoseconds: int = 0


class Gather(NamedTuple):
    """struct kdumpd_gather."""

    size: int
    version: int
    map: int
    page_size: int
    first_pfn: int
    bits: int
    bitmap: int
    buffer: int
    buffer_size: int
    zero: int
    zero_size: int
    pages: int = 0
    copied: int = 0
    next_pfn: int = 0


class Unmap(NamedTuple):
    """struct kdumpd_unmap."""

    size: int
    version: int
    id: int
    unused: int = 0


class Progress(NamedTuple):
    """struct kdumpd_progress."""

    size: int
    version: int
    done: int = 0
    total: int = 0
    running: int = 0
    unused: int = 0


RANGE = Struct("=QQ")  # struct kdumpd_range: start, end
RUN = Struct("=QQQ")  # struct kdumpd_run: first_pfn, pages, physical
MAP = Struct("=4IQ2I9Q")
LAYOUT = Struct("=23Q")
SCAN = Struct("=4I4Q4I5Q2I12Q")
GATHER = Struct("=4I10Q")
UNMAP = Struct("=4I")
PROGRESS = Struct("=2I2Q2I")


def _number(number: int, structure: Struct) -> int:
    """_IOWR('K', number, structure) of include/uapi/asm-generic/ioctl.h."""
    return 3 << 30 | structure.size << 16 | ord("K") << 8 | number


KDUMPD_MAP = _number(0xD0, MAP)
KDUMPD_SCAN = _number(0xD1, SCAN)
KDUMPD_GATHER = _number(0xD2, GATHER)
KDUMPD_UNMAP = _number(0xD3, UNMAP)
KDUMPD_PROGRESS = _number(0xD4, PROGRESS)


def pack_layout(layout: PageLayout, page_size: int) -> bytes:
    """The struct kdumpd_layout that says the same: a mask that is not known is 0, any other fact UNKNOWN."""

    def known(value: int | None) -> int:
        return UNKNOWN if value is None else value

    return LAYOUT.pack(
        *Layout(
            page_size=page_size,
            size=layout.size,
            flags=layout.flags,
            mapping=layout.mapping,
            mapcount=layout.mapcount,
            private_offset=layout.private,
            compound_head=layout.compound_head,
            second_order=known(layout.second_order),
            second_dtor=known(layout.second_dtor),
            lru=layout.lru,
            private_flag=layout.private_flag,
            swapcache=layout.swapcache,
            swapbacked=layout.swapbacked,
            head=layout.head,
            hwpoison=layout.hwpoison or 0,
            slab_flag=layout.slab_flag or 0,
            slab_type=known(layout.slab_type),
            buddy_type=known(layout.buddy_type),
            offline_type=known(layout.offline_type),
            unaccepted_type=known(layout.unaccepted_type),
            free_orders=0 if layout.buddy_type is None else layout.free_orders,
            hugetlb=HUGETLB[layout.hugetlb],
            hugetlb_value=layout.hugetlb_value,
        )
    )
