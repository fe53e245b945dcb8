"""The exclusion rules for a window of page structures at once, by byte planes: see `scan.planes`.

Only heads of blocks are looked at one by one, and where there are many not even those: see `scan.blocks`. Agreement
with `scan.rules` is tested page by page. Called by `scan.user`. May import `vmcore.layout` and `policy.model`.
"""

from __future__ import annotations

from kdumpd.policy.model import PageKind
from kdumpd.scan.blocks import Blocks, WindowVerdict
from kdumpd.scan.planes import Buffer, Planes
from kdumpd.scan.rules import CACHE, CACHE_PRIVATE, FREE, USER, is_hugetlb
from kdumpd.vmcore.layout import HugetlbMark, PageLayout

MANY = 64  # with more blocks than these, and one more in so many pages, all at once is cheaper than one by one


class WindowJudge:
    """Judges windows of page structures by one layout and one dump level."""

    def __init__(self, layout: PageLayout, level: PageKind) -> None:
        self.layout = layout
        self.level = int(level)

    def judge(
        self, first_pfn: int, window: Buffer, after: bytes = b"", start: int = 0, count: int | None = None
    ) -> WindowVerdict:
        """The verdict on `count` structures (at most WINDOW) from byte `start` on; the first is that of `first_pfn`.

        `after` is the structure behind them, if there is one and the last of the window is a head.
        """
        layout, level = self.layout, self.level
        planes = Planes(layout, window, start, (len(window) - start) // layout.size if count is None else count)
        ones = planes.ones
        tails = planes.bit(layout.compound_head, 0)
        not_tail = ones ^ tails

        free = unaccepted = 0
        if level & FREE and layout.buddy_type is not None:
            free = planes.of_type(layout.buddy_type, not_tail)
            if layout.unaccepted_type is not None:
                unaccepted = planes.of_type(layout.unaccepted_type, not_tail)
                free |= unaccepted
            if layout.slab_flag is not None and free:
                free ^= free & planes.flag(layout.slab_flag)
        rest = not_tail ^ free

        anon = 0
        if level & (CACHE | CACHE_PRIVATE | USER):
            anon = planes.bit(layout.mapping, 0) & rest
            if anon and layout.slab_flag is not None:
                anon ^= anon & planes.flag(layout.slab_flag)
            elif anon and layout.slab_type is not None:
                anon ^= planes.of_type(layout.slab_type, anon)

        cache = cache_private = 0
        if level & (CACHE | CACHE_PRIVATE):
            cached = planes.flag(layout.lru)
            swapcache = planes.flag(layout.swapcache)
            if swapcache:
                cached |= swapcache & planes.flag(layout.swapbacked)
            cached &= rest
            cached ^= cached & anon
            if cached:
                private = cached & planes.flag(layout.private_flag)
                cache = cached ^ private
                cache_private = private if level & CACHE_PRIVATE else 0
                rest ^= cache | cache_private

        head = planes.flag(layout.head) & not_tail
        user = 0
        if level & USER:
            user = anon & rest
            rest ^= user
            if head:
                hugetlb = self._hugetlb(planes, head & rest, after)
                user |= hugetlb
                rest ^= hugetlb

        hwpoison = planes.flag(layout.hwpoison) & (rest | tails) if layout.hwpoison is not None else 0
        rest ^= rest & hwpoison
        offline = planes.of_type(layout.offline_type, rest) if layout.offline_type is not None else 0
        if offline and layout.slab_flag is not None:
            offline ^= offline & planes.flag(layout.slab_flag)

        fates = cache
        for mask, fate in ((cache_private, 1), (user, 2), (free, 3), (hwpoison, 4), (offline, 5)):
            if mask:
                fates |= mask << fate
        compound = head & (cache | cache_private | user | hwpoison | offline) if head else 0
        if not free and not compound:
            return WindowVerdict(fates, 0, 0, 0)
        blocks = Blocks(layout, first_pfn, planes, fates, free, compound, after)
        if not unaccepted and (free | compound).bit_count() > MANY + planes.count // MANY:
            verdict = blocks.at_once()
            if verdict is not None:
                return verdict
        return blocks.one_by_one()

    def _hugetlb(self, planes: Planes, heads: int, after: bytes) -> int:
        layout = self.layout
        if not heads or layout.hugetlb is HugetlbMark.UNKNOWN:
            return 0
        if layout.hugetlb is HugetlbMark.PAGE_TYPE:
            return planes.of_type(layout.hugetlb_value, heads)
        if layout.hugetlb is HugetlbMark.SECOND_FLAGS:
            marked = planes.flag(1 << layout.hugetlb_value)
        else:
            marked = planes.equal(layout.second_dtor or 0, layout.hugetlb_value)
        # What the second structure says, moved down to its head's place; that of the last head is not in the window.
        last = 8 * (planes.count - 1)
        return heads & (marked >> 8 | is_hugetlb(layout, b"", after) << last)
