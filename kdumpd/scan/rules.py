"""The exclusion rules for one page structure, in makedumpfile's order: the first match wins.

This is the rule book in its plainest form. The engines use it for the heads of blocks, where one decision covers many
pages, and the tests hold the bulk engine (`scan.windows`) against it page by page.

Source: makedumpfile.c `__exclude_unnecessary_pages` (after 1.7.9), with the departures that
docs/architecture.md names: slab is told by the page type alone where the kernel has one, a misaligned free block and
a free block of an impossible order are kept, a poisoned tail is left out. May import `vmcore.layout`, `policy.model`.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from kdumpd.policy.model import PageKind
from kdumpd.vmcore.layout import MAX_BLOCK_ORDER, HugetlbMark, PageLayout

# Bits of the dump level as plain integers: enum's own operators cost more than the rules.
CACHE = int(PageKind.CACHE)
CACHE_PRIVATE = int(PageKind.CACHE_PRIVATE)
USER = int(PageKind.USER)
FREE = int(PageKind.FREE)


class Fate(enum.IntFlag):
    """What becomes of a page frame: no bit is kept. One bit a kind, so that the engines can hold a byte a page."""

    KEEP = 0
    CACHE = 1
    CACHE_PRIVATE = 2
    USER = 4
    FREE = 8
    HWPOISON = 16
    OFFLINE = 32
    HANDS_OFF = 64  # left out on the policy's word (memmap hints)
    HOLE = 128  # not in the vmcore


class Verdict(NamedTuple):
    """The fate of a page and of the `1 << order` pages that it heads; `bad_order` if it claims one that cannot be."""

    fate: Fate
    order: int
    bad_order: bool = False


_U32 = struct.Struct("<I").unpack_from
_U64 = struct.Struct("<Q").unpack_from


def compound_order(layout: PageLayout, pfn: int, second: bytes) -> int:
    """The order of the compound page that `pfn` heads, from its second page's structure; 0 where that cannot be.

    The check of the alignment drops the fake heads that hugetlb's vmemmap optimisation makes.
    """
    if layout.second_order is None or len(second) < layout.size:
        return 0
    order = second[layout.second_order]
    return order if order <= MAX_BLOCK_ORDER and not pfn & ((1 << order) - 1) else 0


def is_hugetlb(layout: PageLayout, page: bytes, second: bytes) -> bool:
    """True if the compound page with this head and second structure belongs to hugetlbfs."""
    if layout.hugetlb is HugetlbMark.PAGE_TYPE:
        return bool(_U32(page, layout.mapcount)[0] == layout.hugetlb_value)
    if len(second) < layout.size:
        return False
    if layout.hugetlb is HugetlbMark.SECOND_FLAGS:
        return bool(_U64(second, layout.flags)[0] >> layout.hugetlb_value & 1)
    return layout.second_dtor is not None and second[layout.second_dtor] == layout.hugetlb_value


def judge(layout: PageLayout, level: int, pfn: int, page: bytes, second: bytes) -> Verdict:
    """The verdict on the page frame whose structure is `page`; `second` is the structure after it, or b"".

    `level` has the bits of PageKind.
    """
    flags = _U64(page, layout.flags)[0]
    if page[layout.compound_head] & 1:
        # A tail: its head has decided already. But poison lies on the very page, until a huge page is split.
        poisoned = layout.hwpoison is not None and flags & layout.hwpoison
        return Verdict(Fate.HWPOISON if poisoned else Fate.KEEP, 0)
    mapcount = _U32(page, layout.mapcount)[0]
    slab = mapcount == layout.slab_type if layout.slab_flag is None else bool(flags & layout.slab_flag)
    order = compound_order(layout, pfn, second) if flags & layout.head else 0

    if level & FREE and not slab and layout.buddy_type is not None:
        if mapcount == layout.buddy_type:
            free_order = _U64(page, layout.private)[0]
            if free_order >= layout.free_orders or pfn & ((1 << free_order) - 1):
                return Verdict(Fate.KEEP, 0, bad_order=True)
            return Verdict(Fate.FREE, free_order)
        if mapcount == layout.unaccepted_type:
            largest = layout.free_orders - 1
            if pfn & ((1 << largest) - 1):
                return Verdict(Fate.KEEP, 0, bad_order=True)
            return Verdict(Fate.FREE, largest)
    anon = bool(page[layout.mapping] & 1) and not slab
    swap_cache = layout.swapbacked | layout.swapcache
    if (flags & layout.lru or flags & swap_cache == swap_cache) and not anon:
        private = bool(flags & layout.private_flag)
        if level & CACHE and not private:
            return Verdict(Fate.CACHE, order)
        if level & CACHE_PRIVATE:
            return Verdict(Fate.CACHE_PRIVATE if private else Fate.CACHE, order)
    if level & USER and (anon or (flags & layout.head and is_hugetlb(layout, page, second))):
        return Verdict(Fate.USER, order)
    if layout.hwpoison is not None and flags & layout.hwpoison:
        return Verdict(Fate.HWPOISON, order)
    if not slab and mapcount == layout.offline_type:
        return Verdict(Fate.OFFLINE, order)
    return Verdict(Fate.KEEP, 0)
